"""From an installed bundle to an engine that may judge: choose, build or reuse, prove, remember the proof.

    var/lib/edge/engines/DIGEST12.json    which engine of this bundle was proven, where and how; or that it is pending
    var/lib/edge/engines/KEY.plan         what a builder compiled (TensorRT), named by graph, precision and machine

A proof is believed only on the machine, in the runtime and version that it names: after a change of any of them the
golden frames are run again before a part is judged. An installation removes what belongs to no bundle in a slot.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field

from edge.bundle.manifest import Precision, Sha256, Strict
from edge.bundle.signature import canonical_json
from edge.bundle.site import read_state
from edge.bundle.store import Installed, Store
from edge.errors import BundleError, EngineError, ParityError
from edge.files import sync_directory, write_atomically

if TYPE_CHECKING:
    from edge.engine.base import Engine
    from edge.engine.parity import BoardSection, Certificate

GOLDEN_ABOVE = 4     # of the golden frames, at least so many are above the threshold

log = logging.getLogger(__name__)


class ProofFile(Strict):
    """engines/DIGEST12.json."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    digest: Sha256
    state: Literal["pending", "proven"]
    precision: Precision | None = None     # of the proven engine
    runtime: str | None = None             # its name, with the runtime's version
    board: str | None = None               # the machine it was proven on
    proven_at: str | None = None

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


def open_engine(store: Store, bundle: Installed, threads: int = 2) -> Engine:
    """The engine that may judge with this bundle on this machine; proves it first where that has not been done here.

    Raises: BundleError if a file of the bundle is not as it was signed, ParityError if no engine decides as the trained
        model did, EngineError if none can be opened, or stored.
    """
    try:
        return _open_proven(store, bundle, threads)
    except OSError as error:     # a full disk; or two installations meanwhile, and the bundle has left its slot
        what = f"{bundle.product} {bundle.manifest.version}: its engine cannot be opened ({error})"
        raise EngineError(f"{what}: check that it is still installed, and the free space under {store.data}") from error


def _open_proven(store: Store, bundle: Installed, threads: int) -> Engine:
    from edge.engine.parity import this_machine

    store.verify(bundle)
    proof = read_proof(store, bundle)
    if proof is not None and proof.state == "proven" and proof.board == this_machine() and proof.precision is not None:
        for engine in machine_engines(store, bundle, threads):
            if (engine.name, engine.precision) == (proof.runtime, proof.precision):
                return engine
            engine.close()
    engine, section = prove(store, bundle, threads)
    write_proof(store, bundle, section)
    return engine


def prove(store: Store, bundle: Installed, threads: int = 2) -> tuple[Engine, BoardSection]:
    """The first engine, in the order tried, that passes the golden frames, with its section for the certificate.

    Raises: ParityError naming each engine that was tried and what it got wrong.
    """
    from edge.engine.parity import prove_on_golden, read_certificate

    certificate = read_certificate(bundle.certificate)
    _check_certificate(bundle, certificate)
    refused = []
    for engine in machine_engines(store, bundle, threads):
        section = prove_on_golden(engine, bundle.golden, certificate, engine.precision)
        if section.passed:
            return engine, section
        refused.append(f"{engine.name} {engine.precision}: {', '.join(section.reasons)}")
        log.warning("engine left out: %s", refused[-1])
        engine.close()
    what = f"{bundle.product} {bundle.manifest.version}: no engine decides as the trained model did"
    raise ParityError(f"{what} ({'; '.join(refused)}): the bundle stays unused, export it again or report this board")


def _check_certificate(bundle: Installed, certificate: Certificate) -> None:
    """Manifest, certificate and golden frames speak of the same decision, and the frames test both sides of it."""
    from edge.engine.parity import read_golden

    threshold = bundle.manifest.threshold.value
    if certificate.threshold != threshold:
        what = f"the certificate's threshold is {certificate.threshold}, the manifest's {threshold}"
        raise BundleError(f"{bundle.product} {bundle.manifest.version}: {what}: export the bundle again")
    above = sum(float(frame.score[0]) > threshold for frame in read_golden(bundle.golden))
    if above < GOLDEN_ABOVE:
        what = f"{above} golden frames are above the threshold, at least {GOLDEN_ABOVE} are needed"
        raise BundleError(f"{bundle.product} {bundle.manifest.version}: {what}: export the bundle again")


def machine_engines(store: Store, bundle: Installed, threads: int) -> Iterator[Engine]:
    """Engines of this machine in the order tried: every precision on TensorRT, then float32 on the CPU."""
    from edge.engine.base import engines_in_order, machine_openers

    models = {precision: bundle.model(precision) for precision in bundle.manifest.precisions}
    yield from engines_in_order(models, machine_openers(store.engines, threads))


def open_cpu(bundle: Installed, precision: Precision, threads: int = 2) -> Engine:
    """One precision of the bundle on the CPU: float32 is the fallback and the oracle. Raises: EngineError."""
    from edge.engine.onnx_cpu import OnnxCpuEngine

    return OnnxCpuEngine(bundle.model(precision), threads=threads)


def read_proof(store: Store, bundle: Installed) -> ProofFile | None:
    """What is known about this bundle's engine on this root. Raises: ConfigError if the file is damaged."""
    proof = read_state(_proof_path(store, bundle), ProofFile)
    return proof if proof is not None and proof.digest == bundle.digest else None


def write_proof(store: Store, bundle: Installed, section: BoardSection) -> None:
    """Remember that this machine's engine passed."""
    _write(store, bundle, ProofFile(
        digest=bundle.digest, state="proven", precision=section.precision, runtime=section.runtime,
        board=section.board, proven_at=section.proven_at,
    ))


def write_pending(store: Store, bundle: Installed) -> None:
    """Remember that the first `edge run` has to build and prove the engine before it judges."""
    _write(store, bundle, ProofFile(digest=bundle.digest, state="pending"))


def prune(store: Store) -> None:
    """Remove plans and proofs that belong to no bundle in a slot, of any product. The caller holds the change lock.

    A slot is what makes an engine needed, active or not, proven or pending: call this when the slots are settled. An
    `edge run` that still judges with a bundle which has left its slot has that engine in memory. Cut short, it has
    removed some of them and the next call removes the rest. While a slot cannot be read nothing is removed, since
    what it needs is not known.
    """
    from edge.engine.build import remove_plans

    try:
        kept = [one for slots in store.products_folder.glob("[!.]*/slots") for one in store.slots(slots.parent.name)]
    except BundleError as error:
        log.warning("unused engines are not removed: %s", error)
        return
    removed = remove_plans(store.engines, {entry.sha256 for one in kept for entry in one.manifest.files.values()})
    proofs = {_proof_path(store, one) for one in kept}
    for path in [path for path in store.engines.glob("[!.]*.json") if path not in proofs]:
        path.unlink()
        removed.append(path.name)
    if removed:
        sync_directory(store.engines)
        log.info("engines of no installed bundle removed: %s", ", ".join(removed))


def _write(store: Store, bundle: Installed, proof: ProofFile) -> None:
    store.engines.mkdir(parents=True, exist_ok=True)
    write_atomically(_proof_path(store, bundle), canonical_json(proof.model_dump(by_alias=True, mode="json")))


def _proof_path(store: Store, bundle: Installed) -> Path:
    return store.engines / f"{bundle.digest[:12]}.json"
