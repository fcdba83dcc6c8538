"""`edge verify`: every engine of this machine measured again, and compared with what is kept. Nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge.bundle.engine_table import engine_table
from edge.bundle.engines import (
    EngineEntry,
    ProofFile,
    certificate_path,
    choose_engine,
    keep_certificate,
    measure_engines,
    open_cpu,
    read_proof,
)
from edge.bundle.evidence import checked_evidence
from edge.bundle.status import plane_lines
from edge.bundle.store import Installed, Store
from edge.config import PrecisionChoice
from edge.errors import EdgeError
from edge.files import write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge.engine.base import Engine
    from edge.proof.prove import Calibrated

SAME_THRESHOLD = 0.01    # s, of this precision's normal scores: a threshold measured again may differ by so much


@dataclass(frozen=True)
class Verified:
    """One engine, measured again. drift: how its threshold differs from the one kept; empty where it does not."""

    entry: EngineEntry
    judges: bool              # `edge run` uses it
    drift: str = ""

    @property
    def passed(self) -> bool:
        """Proven, with the threshold that is kept."""
        return self.entry.is_proven and not self.drift

    @property
    def state(self) -> str:
        """What the table says of it."""
        if not self.passed:
            return f"failed: {'; '.join(reason for reason in (self.entry.why_not, self.drift) if reason)}"
        state = "judges" if self.judges else "proven"
        calibrated = self.entry.section is not None and self.entry.section.calibrated
        return f"{state} (under this station's calibration)" if calibrated else state


@dataclass(frozen=True)
class VerifyReport:
    """What `edge verify` found. kept: the file that holds it. certificate: the one that this machine has completed.

    writable: whether this account may keep them; where not, the result is printed only.
    note: why no engine may judge, where station.toml wants one that is not there.
    """

    bundle: Installed
    results: tuple[Verified, ...]
    table: tuple[str, ...]
    kept: Path
    certificate: Path
    writable: bool = True
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the engine that judges decides as the trained model did, with the threshold that is kept."""
        return any(result.judges and result.passed for result in self.results)

    def lines(self) -> list[str]:
        """A table, one line per engine, and the verdict."""
        m = self.bundle.manifest
        verdict = "passed" if self.passed else f"FAILED: {self.note or 'the engine that judges may not judge'}"
        kept = [
            f"certificate with this machine's sections: {self.certificate}", f"verify {verdict}; kept in {self.kept}",
        ]
        printed = [f"verify {verdict}; not kept: {self.kept.parent} cannot be written by this account"]
        return [
            f"{m.product} {m.version} ({self.bundle.slot}): signature and {len(m.files)} digests are right",
            *self.table,
            *plane_lines(m),
            *(kept if self.writable else printed),
        ]


def verify_installed(
    store: Store, bundle: Installed, threads: int = 2, wanted: PrecisionChoice = "auto"
) -> VerifyReport:
    """Check every digest of an installed bundle, then run its frames through every engine this machine has.

    wanted: `precision` in station.toml.
    Raises: BundleError if a file is damaged, the bundle contradicts itself or the signature is not trusted.
    """
    store.verify(bundle)
    evidence = checked_evidence(bundle)
    with _calibrations(store, bundle, threads) as calibrated:
        entries = measure_engines(store, evidence, threads, calibrated)
    known = read_proof(store, bundle)
    judge, note = _judge(store, bundle, known, entries, wanted)
    results = tuple(Verified(entry, entry is judge, _drift(store, bundle, known, entry)) for entry in entries)
    report = VerifyReport(
        bundle,
        results,
        tuple(engine_table(bundle.manifest, evidence.certificate, entries, [result.state for result in results])),
        store.site_folder(bundle.product) / f"verify-{bundle.digest[:12]}.json",
        certificate_path(store, bundle),
        store.is_writable(),
        note,
    )
    if report.writable:
        _keep(store, report)
    return report


def _judge(
    store: Store, bundle: Installed, known: ProofFile | None, entries: list[EngineEntry], wanted: PrecisionChoice
) -> tuple[EngineEntry | None, str]:
    """(the engine that judges by what is kept, as it was measured now; why there is none)."""
    if known is None or known.state == "pending":
        chosen, _ = choose_engine(entries, store.model_states(bundle))
        known = ProofFile(
            digest=bundle.digest, state="proven", engines=tuple(entries),
            chosen=None if chosen is None else entries.index(chosen),
        )
    try:
        judge = known.judge(bundle.manifest, wanted)
    except EdgeError as error:
        return None, str(error)
    same = [entry for entry in entries if entry.precision == judge.precision]
    kind = judge.runtime.split()[0]
    return next((entry for entry in same if entry.runtime.split()[0] == kind), None), ""


def _drift(store: Store, bundle: Installed, known: ProofFile | None, entry: EngineEntry) -> str:
    """How the threshold differs from the one kept for this very engine; under site tensors it may."""
    before = next((one.section for one in known.engines if one.name == entry.name), None) if known else None
    state = store.model_state(bundle, entry.precision, entry.runtime)
    if before is None or entry.section is None or (state is not None and state.tensors):
        return ""
    kept, now = before.threshold.value, entry.section.threshold.value
    allowed = SAME_THRESHOLD * bundle.manifest.normal_spread[entry.precision].spread
    if abs(now - kept) <= allowed:
        return ""
    return f"threshold {now:.6g}, kept is {kept:.6g}: may differ by {allowed:.2g} ({SAME_THRESHOLD} s)"


@contextmanager
def _calibrations(
    store: Store, bundle: Installed, threads: int
) -> Iterator[Callable[[Engine], Calibrated | None]]:
    """What this station has calibrated for an engine, with float32 on the CPU as its oracle, closed at the end."""
    oracles: list[Engine] = []

    def find(engine: Engine) -> Calibrated | None:
        from edge.proof.prove import Calibrated

        state = store.model_state(bundle, engine.precision, engine.name)
        if state is None:
            return None
        if not oracles:
            oracles.append(open_cpu(bundle, "fp32", threads))
        return Calibrated(state.threshold, state.arrays(), oracles[0])

    try:
        yield find
    finally:
        for oracle in oracles:
            oracle.close()


def _keep(store: Store, report: VerifyReport) -> None:
    """The whole result as JSON in the product's site folder, and the completed certificate, replacing the last ones."""
    results = [
        {"judges": r.judges, "passed": r.passed, "drift": r.drift, **r.entry.model_dump(mode="json")}
        for r in report.results
    ]
    with store.change("edge verify"):
        report.kept.parent.mkdir(parents=True, exist_ok=True)
        about = {"schema": 2, "product": report.bundle.product, "digest": report.bundle.digest, "passed": report.passed}
        write_json(report.kept, {**about, "results": results})
        sections = [result.entry.section for result in report.results if result.entry.section is not None]
        keep_certificate(store, report.bundle, sections)
