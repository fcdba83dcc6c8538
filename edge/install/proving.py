"""Every engine of this machine is proven and timed, and the one that judges is chosen.

Every precision of a bundle is proven on TensorRT where it is installed, else on onnxruntime;
float32 on the CPU is the fallback where none of TensorRT's is proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.engine.machine import this_machine
from edge.engine.order import ONNXRUNTIME, TENSORRT, unproven_openers
from edge.errors import ParityError
from edge.install.consistency import checked_proof_data
from edge.install.engine_entry import EngineEntry
from edge.install.measure_engine import MeasureRequest, measure_in_child
from edge.install.proof_data import ProofData
from edge.install.proof_file import ProofFile
from edge.schema import Precision
from edge.station.site import ModelState
from edge.station.store import Installed, Store

# a less exact precision judges only if it takes at least this share less time than the best
FASTER = 0.10


FROM_EXACT: tuple[Precision, ...] = ("fp32", "fp16", "int8")


def prove(
    store: Store, bundle: Installed, threads: int = 2, site: Store | None = None
) -> ProofFile:
    """Prove and time every engine of this machine, and choose the one that judges. Nothing is
    written but plans.

    site: where the station's calibrations lie, if not in `store`.
    Raises: BundleError if the bundle contradicts itself, ParityError naming each engine and what it
        got wrong if none is proven.
    """
    entries = measure_engines(checked_proof_data(bundle), store.engines, threads)
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
    proof_data: ProofData, cache: Path, threads: int = 2, calibrated: Store | None = None
) -> list[EngineEntry]:
    """Every engine of this machine on the bundle's frames, one open at a time, the most exact
    first.

    cache: where TensorRT finds and keeps its plans. calibrated: the station whose calibration is
    proven too. One engine that cannot be opened, fails, or takes too much time or memory is an
    entry too.
    """
    preferred = next(iter(unproven_openers(cache, threads)))
    precisions = [
        precision for precision in FROM_EXACT if precision in proof_data.bundle.manifest.precisions
    ]

    def measured(runtime: str, precision: Precision) -> EngineEntry:
        bundle = proof_data.bundle
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
