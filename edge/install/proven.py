"""From an installed bundle to the open engine that may judge.

A proof is believed only on the machine, in the runtime and version that it names: after a change
of any of them everything is proven again before a part is judged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.engine.machine import this_machine
from edge.engine.order import runtime_name, unproven_openers
from edge.engine.protocol import one_line
from edge.errors import ConfigError, EdgeError, EngineError, MissingDependency
from edge.files import sentence_of
from edge.install.engine_entry import EngineEntry
from edge.install.proof_file import ProofFile, keep_proof, read_proof
from edge.install.proving import prove
from edge.proof.threshold import Threshold
from edge.schema import Precision
from edge.sections import PrecisionChoice
from edge.station.store import Installed, Store

if TYPE_CHECKING:
    from edge.engine.protocol import Engine


log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ProvenEngine:
    """An open engine with the threshold measured on its own scores."""

    engine: Engine
    threshold: Threshold


def open_proven_engine(
    store: Store, bundle: Installed, threads: int = 2, wanted: PrecisionChoice = "auto"
) -> ProvenEngine:
    """The engine that judges with this bundle on this machine. Where no proof of this machine is
    kept, the engines are proven first.

    wanted: `precision` in station.toml.
    Raises: BundleError if a file of the bundle is not as it was signed, ParityError if no engine
        decides as the trained model did, or the wanted one does not, ConfigError if the bundle has
        no wanted one, EngineError if it cannot be opened, or the proof cannot be stored.
    """
    try:
        return _open_checked(
            store, bundle, threads, lambda proof: proof.judge(bundle.manifest, wanted)
        )
    except OSError as error:
        # a full disk, or two installations meanwhile after which the bundle has left its slot
        what = (
            f"{bundle.product} {bundle.manifest.version}: its engine cannot be opened:"
            f" {sentence_of(error)}"
        )
        raise EngineError(
            f"{what}; see that the bundle is still installed under {store.root}"
        ) from error


def open_for_inspection(
    store: Store, bundle: Installed, precision: Precision, threads: int = 2
) -> ProvenEngine:
    """This machine's engine of one precision with its own threshold, to look at it: it need not be
    proven.

    Raises: as open_proven_engine; ConfigError if the bundle lacks the precision, EngineError if it
        gave no scores here.
    """
    manifest = bundle.manifest
    if precision not in manifest.precisions:
        have = ", ".join(manifest.precisions)
        raise ConfigError(
            f"{manifest.product} {manifest.version} has no {precision}, only {have}: use one of"
            " those"
        )

    def choose(proof: ProofFile) -> EngineEntry:
        entry = proof.find(precision)
        if entry is None or entry.section is None:
            why = entry.why_not if entry else "it was not tried"
            what = (
                f"{manifest.product} {manifest.version}: no threshold was measured for {precision}"
                f" ({why})"
            )
            raise EngineError(f"{what}: use another precision")
        if not entry.is_proven:
            log.warning(
                "%s is not proven on this machine, a station would not judge with it: %s",
                entry.name,
                entry.why_not,
            )
        return entry

    return _open_checked(store, bundle, threads, choose)


def prove_once(
    store: Store, bundle: Installed, threads: int = 2, wanted: PrecisionChoice = "auto"
) -> ProofFile:
    """The proof kept for this bundle if it still holds on this machine, else a new one, kept and
    audited.

    Raises: ParityError if no engine decides as the trained model did, or the wanted one does not;
        ConfigError if the bundle has no wanted one. Nothing is kept then.
    """
    known = _known_proof(store, bundle)
    if known is None:
        proof = prove(store, bundle, threads)
        proof.judge(bundle.manifest, wanted)
        keep_proof(store, bundle, proof)
        return proof
    known.judge(bundle.manifest, wanted)
    return known


def _open_checked(
    store: Store, bundle: Installed, threads: int, choose: Callable[[ProofFile], EngineEntry]
) -> ProvenEngine:
    store.verify(bundle)
    known = _known_proof(store, bundle)
    if known is not None:
        entry = choose(known)
        try:
            return _open_entry(store, bundle, entry, threads)
        except (EngineError, MissingDependency) as error:
            log.warning(
                "%s cannot be opened any more, engines are proven again: %s", entry.name, error
            )
    proof = prove(store, bundle, threads)
    entry = choose(proof)
    keep_proof(store, bundle, proof)
    return _open_entry(store, bundle, entry, threads)


def _known_proof(store: Store, bundle: Installed) -> ProofFile | None:
    """The proof kept for this bundle, if it is of this machine with its runtimes and their
    versions.
    """
    try:
        proof = read_proof(store, bundle)
    except ConfigError as error:
        log.error("the proof is not believed, engines are proven again: %s", error)
        return None
    if proof is None or proof.state == "pending" or proof.board != this_machine():
        return None
    runtimes = {entry.runtime.split()[0] for entry in proof.engines}
    if next(iter(unproven_openers(store.engines))) not in runtimes:
        return None
    opened = {entry.runtime for entry in proof.engines if entry.section is not None}
    try:
        return proof if all(name == runtime_name(name.split()[0]) for name in opened) else None
    except MissingDependency:  # it was removed since
        return None


def _open_entry(store: Store, bundle: Installed, entry: EngineEntry, threads: int) -> ProvenEngine:
    assert entry.section is not None  # what judges, or is looked at, has answered
    openers = unproven_openers(store.engines, threads, entry.section.engine_sha256)
    try:
        engine = openers[entry.runtime.split()[0]](bundle.model(entry.precision), entry.precision)
    except (EdgeError, OSError):
        raise
    except Exception as error:  # TensorRT's binding raises TypeError where there is no GPU
        raise EngineError(
            f"{entry.name} cannot be opened ({one_line(error)}): check the device"
        ) from error
    return ProvenEngine(engine, entry.section.threshold)
