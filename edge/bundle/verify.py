"""`edge verify`: the parity certificate again, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle.engines import machine_engines, open_cpu
from edge.bundle.store import Installed, Store
from edge.files import write_json

if TYPE_CHECKING:
    from edge.engine.base import Engine
    from edge.engine.parity import BoardSection, Certificate


@dataclass(frozen=True)
class Verified:
    """One engine's golden frames. limit: of the mean map error, share of float32's range."""

    section: BoardSection
    limit: float
    judges: bool              # `edge run` uses it
    calibrated: bool          # compared under this station's own site tensors and threshold


@dataclass(frozen=True)
class VerifyReport:
    """What `edge verify` found. kept: the file that holds it."""

    bundle: Installed
    results: tuple[Verified, ...]
    kept: Path

    @property
    def passed(self) -> bool:
        """Whether the engine that judges decides as the trained model did."""
        return any(result.judges for result in self.results)

    def lines(self) -> list[str]:
        """A table, one line per engine, and the verdict."""
        head = f"{'engine':<24} {'precision':<9} {'frames':>6} {'same side':>9} {'mean map error':>14} {'limit':>8}"
        m = self.bundle.manifest
        verdict = "passed" if self.passed else "FAILED: no engine of this machine may judge with this bundle"
        return [
            f"{m.product} {m.version} ({self.bundle.slot}): signature and {len(m.files)} digests are right",
            f"{head}  result",
            *(_row(result) for result in self.results),
            f"verify {verdict}; kept in {self.kept}",
        ]


def _row(result: Verified) -> str:
    s = result.section
    state = "judges" if result.judges else "passed" if s.passed else f"failed: {'; '.join(s.reasons)}"
    if result.calibrated:
        state += " (under this station's calibration)"
    figures = f"{s.frames:>6} {s.frames - s.flips:>9} {s.mean_map_error:>13.4%}  {result.limit:>7.3%}"
    return f"{s.runtime:<24} {s.precision:<9} {figures}  {state}"


def verify_installed(store: Store, bundle: Installed, threads: int = 2) -> VerifyReport:
    """Check every digest of an installed bundle, then run the golden frames through every engine this machine has.

    The first that passes, in the order tried, is the one that judges. Precisions that only a GPU would use are run on
    the CPU too: the figures say what the same file does there, and decide nothing.
    Raises: BundleError if a file is damaged or the signature is not trusted, EngineError if no engine can be opened.
    """
    from edge.engine.parity import read_certificate

    store.verify(bundle)
    certificate = read_certificate(bundle.certificate)
    results: list[Verified] = []
    for engine, may_judge in _all_engines(store, bundle, threads):
        free = may_judge and not any(result.judges for result in results)
        results.append(_verify_one(store, bundle, certificate, engine, free, threads))
        engine.close()
    kept = store.site_folder(bundle.product) / f"verify-{bundle.digest[:12]}.json"
    report = VerifyReport(bundle, tuple(results), kept)
    _keep(store, report)
    return report


def _all_engines(store: Store, bundle: Installed, threads: int) -> Iterator[tuple[Engine, bool]]:
    """(engine, whether it may judge): those of this machine in the order tried, then the other files on the CPU."""
    on_cpu = set()
    for engine in machine_engines(store, bundle, threads):
        if engine.name.startswith("onnxruntime"):
            on_cpu.add(engine.precision)
        yield engine, True
    for precision in bundle.manifest.precisions:
        if precision not in on_cpu:
            yield open_cpu(bundle, precision, threads), False


def _verify_one(
    store: Store, bundle: Installed, certificate: Certificate, engine: Engine, may_judge: bool, threads: int
) -> Verified:
    from edge.engine.parity import BOARD_FACTOR, BOARD_FLOOR, prove_on_golden

    state = store.model_state(bundle, engine.precision, engine.name)
    tensors = state.arrays() if state is not None else {}
    oracle = open_cpu(bundle, "fp32", threads) if tensors else None
    section = prove_on_golden(
        engine,
        bundle.golden,
        certificate,
        engine.precision,
        threshold=None if state is None else state.threshold,
        site=tensors,
        oracle=oracle,
    )
    if oracle is not None:
        oracle.close()
    limit = max(BOARD_FACTOR * certificate.section(engine.precision).golden_map_error, BOARD_FLOOR)
    return Verified(section, limit, may_judge and section.passed, state is not None)


def _keep(store: Store, report: VerifyReport) -> None:
    """The whole result as JSON in the product's site folder, replacing the last one of this bundle."""
    results = [
        {"judges": r.judges, "calibrated": r.calibrated, "limit": r.limit, **r.section.model_dump(mode="json")}
        for r in report.results
    ]
    with store.change("edge verify"):
        report.kept.parent.mkdir(parents=True, exist_ok=True)
        about = {"schema": 1, "product": report.bundle.product, "digest": report.bundle.digest, "passed": report.passed}
        write_json(report.kept, {**about, "results": results})
