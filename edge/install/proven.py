"""From an installed bundle to the engine that may judge: open, prove, time, choose, remember.

    var/lib/edge/engines/DIGEST12.json              every engine of this machine: proven or why not,
                                                    which one judges
    var/lib/edge/engines/DIGEST12-certificate.json  the bundle's certificate, completed by this
                                                    machine's sections
    var/lib/edge/engines/KEY.plan                   what a builder compiled (TensorRT), by graph,
                                                    precision and machine

Every precision of a bundle is proven on TensorRT where it is installed, else on onnxruntime;
float32 on the CPU is the fallback where none of TensorRT's is proven. A proof is believed only on
the machine, in the runtime and version that it
names: after a change of any of them everything is proven again before a part is judged. An
installation removes what belongs to no bundle in a slot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field

from edge.bundle.manifest import Manifest
from edge.config import PLACE, PrecisionChoice
from edge.engine.machine import this_machine
from edge.engine.order import ONNXRUNTIME, TENSORRT, machine_openers, runtime_name
from edge.engine.protocol import one_line
from edge.errors import (
    BundleError,
    ConfigError,
    EdgeError,
    EngineError,
    MissingDependency,
    ParityError,
)
from edge.files import make_folder, sentence_of, sync_directory, write_atomically
from edge.install.evidence import Evidence, checked_evidence
from edge.install.measure import EngineEntry as EngineEntry
from edge.install.measure import MeasureRequest, measure_in_child
from edge.proof.certificate import BoardSection, read_certificate
from edge.proof.threshold import Threshold
from edge.schema import Precision, Sha256, Strict, canonical_json
from edge.station import audit
from edge.station.site import ModelState, read_state
from edge.station.store import Installed, Store

if TYPE_CHECKING:
    from edge.engine.protocol import Engine

# a less exact precision judges only if it takes at least this share less time than the best
FASTER = 0.10
FROM_EXACT: tuple[Precision, ...] = ("fp32", "fp16", "int8")

log = logging.getLogger(__name__)


class ProofFile(Strict):
    """engines/DIGEST12.json.

    chosen: which of the engines judges where station.toml wants none; why: in a sentence.
    """

    schema_: Literal[2] = Field(alias="schema", default=2)
    digest: Sha256
    state: Literal["pending", "proven"]
    board: str | None = None  # the machine that this was found out on
    engines: tuple[EngineEntry, ...] = ()
    chosen: int | None = None
    why: str = ""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    def find(self, precision: Precision) -> EngineEntry | None:
        """The engine of a precision: the proven one where there are two, on a GPU and on the
        CPU.
        """
        entries = [entry for entry in self.engines if entry.precision == precision]
        return next(
            (entry for entry in entries if entry.is_proven), entries[0] if entries else None
        )

    def judge(self, manifest: Manifest, wanted: PrecisionChoice = "auto") -> EngineEntry:
        """The engine that judges. wanted: `precision` in station.toml.

        Raises: ConfigError if it wants what is not in the bundle, ParityError if it wants what is
        not proven.
        """
        if wanted == "auto" and self.chosen is not None:
            return self.engines[self.chosen]
        entry = None if wanted == "auto" else self.find(wanted)
        have = ", ".join(one.precision for one in self.engines if one.is_proven)
        remedy = f"set it to {have or 'another'} or auto"
        if entry is None:
            what = (
                f"{PLACE}: runtime.precision is {wanted}, {manifest.product} {manifest.version} has"
                " no such file"
            )
            raise ConfigError(f"{what}: {remedy}")
        if not entry.is_proven:
            what = (
                f"{PLACE}: runtime.precision is {wanted}, {entry.name} is not proven on this"
                " machine"
            )
            raise ParityError(f"{what} ({entry.why_not}): {remedy}")
        return entry


@dataclass(frozen=True, eq=False)
class ProvenEngine:
    """An open engine with the threshold measured on its own scores."""

    engine: Engine
    threshold: Threshold


# --- the engine that judges
# -------------------------------------------------------------------------------------------


def open_engine(
    store: Store, bundle: Installed, threads: int = 2, wanted: PrecisionChoice = "auto"
) -> ProvenEngine:
    """The engine that judges with this bundle on this machine; proves it first where that has not
    been done here.

    wanted: `precision` in station.toml.
    Raises: BundleError if a file of the bundle is not as it was signed, ParityError if no engine
        decides as the trained model did, or the wanted one does not, ConfigError if the bundle has
        no wanted one, EngineError if it cannot be opened, or the proof cannot be stored.
    """
    try:
        return _open_checked(
            store, bundle, threads, lambda proof: proof.judge(bundle.manifest, wanted)
        )
    except (
        OSError
    ) as error:  # a full disk; or two installations meanwhile, and the bundle has left its slot
        what = (
            f"{bundle.product} {bundle.manifest.version}: its engine cannot be opened:"
            f" {sentence_of(error)}"
        )
        raise EngineError(
            f"{what}; see that the bundle is still installed under {store.root}"
        ) from error


def open_precision(
    store: Store, bundle: Installed, precision: Precision, threads: int = 2
) -> ProvenEngine:
    """This machine's engine of one precision with its own threshold, to look at it: it need not be
    proven.

    Raises: as open_engine; ConfigError if the bundle lacks the precision, EngineError if it gave no
    scores here.
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
    if next(iter(machine_openers(store.engines))) not in runtimes:
        return None
    opened = {entry.runtime for entry in proof.engines if entry.section is not None}
    try:
        return proof if all(name == runtime_name(name.split()[0]) for name in opened) else None
    except MissingDependency:  # it was removed since
        return None


def _open_entry(store: Store, bundle: Installed, entry: EngineEntry, threads: int) -> ProvenEngine:
    assert entry.section is not None  # what judges, or is looked at, has answered
    openers = machine_openers(store.engines, threads, entry.section.engine_sha256)
    try:
        engine = openers[entry.runtime.split()[0]](bundle.model(entry.precision), entry.precision)
    except (EdgeError, OSError):
        raise
    except Exception as error:  # TensorRT's binding raises TypeError where there is no GPU
        raise EngineError(
            f"{entry.name} cannot be opened ({one_line(error)}): check the device"
        ) from error
    return ProvenEngine(engine, entry.section.threshold)


# --- proving and choosing
# ---------------------------------------------------------------------------------------------


def prove(
    store: Store, bundle: Installed, threads: int = 2, site: Store | None = None
) -> ProofFile:
    """Prove and time every engine of this machine, and choose the one that judges. Nothing is
    written but plans.

    site: where the station's calibrations lie, if not in `store`.
    Raises: BundleError if the bundle contradicts itself, ParityError naming each engine and what it
        got wrong if none is proven.
    """
    entries = measure_engines(checked_evidence(bundle), store.engines, threads)
    chosen, why = choose_engine(entries, (site or store).model_states(bundle))
    if chosen is None:
        refused = "; ".join(f"{entry.name}: {entry.why_not}" for entry in entries)
        what = (
            f"{bundle.product} {bundle.manifest.version}: no engine decides as the trained model"
            f" did ({refused})"
        )
        raise ParityError(f"{what}: the bundle stays unused, export it again or report this board")
    return ProofFile(
        digest=bundle.digest,
        state="proven",
        board=this_machine(),
        engines=tuple(entries),
        chosen=entries.index(chosen),
        why=why,
    )


def measure_engines(
    evidence: Evidence, cache: Path, threads: int = 2, calibrated: Store | None = None
) -> list[EngineEntry]:
    """Every engine of this machine on the bundle's frames, one open at a time, the most exact
    first.

    cache: where TensorRT finds and keeps its plans. calibrated: the station whose calibration is
    proven too. One engine that cannot be opened, fails, or takes too much time or memory is an
    entry too.
    """
    preferred = next(iter(machine_openers(cache, threads)))
    precisions = [
        precision for precision in FROM_EXACT if precision in evidence.bundle.manifest.precisions
    ]

    def measured(runtime: str, precision: Precision) -> EngineEntry:
        bundle = evidence.bundle
        return measure_in_child(
            MeasureRequest(
                product=bundle.product,
                folder=str(bundle.folder.absolute()),
                digest=bundle.digest,
                precision=precision,
                runtime=runtime,
                cache=str(cache.absolute()),
                threads=threads,
                root=None if calibrated is None else str(calibrated.root.absolute()),
            )
        )

    entries = [measured(preferred, precision) for precision in precisions]
    if preferred == TENSORRT and not any(entry.is_proven for entry in entries):
        entries.append(measured(ONNXRUNTIME, "fp32"))
    return entries


def choose_engine(
    entries: Sequence[EngineEntry], calibrations: Sequence[ModelState] = ()
) -> tuple[EngineEntry | None, str]:
    """Which proven engine judges, and why; None where none is proven.

    From float32 on, a less exact precision takes over if it is at least FASTER faster than the best
    so far. Where the station is calibrated (the latest last), the calibrated precision stays as
    long as it is proven.
    """
    ranked = sorted(entries, key=lambda entry: FROM_EXACT.index(entry.precision))
    proven = [
        (entry, entry.section.time_ms) for entry in ranked if entry.section and entry.section.passed
    ]
    for state in reversed(calibrations):
        for entry, _ in proven:
            if entry.precision == state.precision:
                return entry, "this station is calibrated for it"
    if not proven:
        return None, ""
    best, best_ms = proven[0]
    for entry, time_ms in proven[1:]:
        if time_ms <= (1 - FASTER) * best_ms:
            best, best_ms = entry, time_ms
    if len(proven) == 1:
        return best, "the only one that is proven"
    if best is proven[0][0]:
        return best, f"no less exact one is {FASTER:.0%} faster"
    return best, f"at least {FASTER:.0%} faster than the more exact ones"


# --- what is remembered
# -----------------------------------------------------------------------------------------------


def read_proof(store: Store, bundle: Installed) -> ProofFile | None:
    """What is known about this bundle's engines on this root.

    Raises: ConfigError if the file is damaged.
    """
    proof = read_state(_proof_path(store, bundle), ProofFile)
    return proof if proof is not None and proof.digest == bundle.digest else None


def keep_proof(store: Store, bundle: Installed, proof: ProofFile) -> None:
    """Remember a new proof: certificate, a row in the audit table per measured threshold, then the
    proof itself.
    """
    keep_certificate(
        store, bundle, [entry.section for entry in proof.engines if entry.section is not None]
    )
    for number, entry in enumerate(proof.engines):
        if entry.section is not None and entry.is_proven:
            audit.append_audit(
                store.root,
                "threshold",
                _about(bundle, entry, entry.section, number == proof.chosen),
            )
    _write(store, bundle, proof)


def _about(
    bundle: Installed, entry: EngineEntry, section: BoardSection, chosen: bool
) -> dict[str, object]:
    """The audit row of a measured threshold."""
    threshold = section.threshold
    return {
        "product": bundle.product,
        "digest": bundle.digest,
        "precision": entry.precision,
        "runtime": entry.runtime,
        "board": section.board,
        "value": threshold.value,
        "rank": threshold.rank,
        "parts": threshold.parts,
        "expected": threshold.expected,
        "bound": threshold.bound,
        "manifest": bundle.manifest.thresholds[entry.precision].value,
        "chosen": chosen,
    }


def keep_certificate(store: Store, bundle: Installed, sections: Sequence[BoardSection]) -> Path:
    """Write the bundle's certificate with this machine's sections beside its proof; returns
    where.
    """
    path = certificate_path(store, bundle)
    certificate = read_certificate(bundle.certificate).with_boards(tuple(sections))
    with store.inside():
        make_folder(store.engines)
        write_atomically(path, certificate.to_json().encode())
    return path


def certificate_path(store: Store, bundle: Installed) -> Path:
    """Where the certificate lies that this machine has completed."""
    return store.engines / f"{bundle.digest[:12]}-certificate.json"


def write_pending(store: Store, bundle: Installed) -> None:
    """Remember that the first `edge run` has to build and prove the engine before it judges."""
    _write(store, bundle, ProofFile(digest=bundle.digest, state="pending"))


def prune(store: Store) -> None:
    """Remove plans and proofs that belong to no bundle in a slot, of any product. The caller holds
    the change lock.

    A slot is what makes an engine needed, active or not, proven or pending: call this when the
    slots are settled. An `edge run` that still judges with a bundle which has left its slot has
    that engine in memory. Cut short, it has removed some of them and the next call removes the
    rest. While a slot cannot be read nothing is removed, since what it needs is not known.
    """
    from edge.engine.plan import remove_plans

    try:
        kept = [
            one
            for slots in store.products_folder.glob("[!.]*/slots")
            for one in store.slots(slots.parent.name)
        ]
    except BundleError as error:
        log.warning("unused engines are not removed: %s", error)
        return
    removed = remove_plans(
        store.engines, {entry.sha256 for one in kept for entry in one.manifest.files.values()}
    )
    known = {
        path for one in kept for path in (_proof_path(store, one), certificate_path(store, one))
    }
    for path in [path for path in store.engines.glob("[!.]*.json") if path not in known]:
        path.unlink()
        removed.append(path.name)
    if removed:
        sync_directory(store.engines)
        log.info("engines of no installed bundle removed: %s", ", ".join(removed))


def _write(store: Store, bundle: Installed, proof: ProofFile) -> None:
    with store.inside():
        make_folder(store.engines)
        write_atomically(
            _proof_path(store, bundle), canonical_json(proof.model_dump(by_alias=True, mode="json"))
        )


def _proof_path(store: Store, bundle: Installed) -> Path:
    return store.engines / f"{bundle.digest[:12]}.json"
