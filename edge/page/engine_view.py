"""What judges, as the page shows it to the engineer: bundle, engine, threshold, certificate and
times, from the station's files. Nothing is opened or proven here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from edge.page.what_if import JudgedPart, percentile

if TYPE_CHECKING:
    from edge.install.proof_file import ProofFile
    from edge.proof.certificate import BoardSection, Certificate, PrecisionSection
    from edge.station.store import Installed, Store

STAGE = "_ms"  # ends the names of the medians of the stages in the state
SHARES = (0.5, 0.99)


class EngineRow(BaseModel):
    """One engine of this machine."""

    name: str = Field(description="runtime, version and precision")
    board: str | None
    time_ms: float | None = Field(description="median of one run, when it was proven")
    proven: bool
    judges: bool
    why_not: str = Field(description="why it may not judge; empty where it may")
    proven_at: str | None = Field(description="UTC, ISO 8601")
    threshold: float | None = Field(description="measured on its own scores")
    guarantee: str


class Certified(BaseModel):
    """One precision of the certificate, or the same on this machine (`board`)."""

    precision: str
    runtime: str
    board: str | None = Field(description="null: as the bundle brought it")
    passed: bool
    reasons: list[str]
    good_rejected: str | None = Field(description="normal parts rejected, of how many")
    defects_missed: str | None = Field(description="real and synthetic defects missed")
    unlike: str | None = Field(description="verdicts unlike float32's")
    noise: float = Field(description="of the scores, in units of half their spread")
    map_error: float = Field(description="mean, as a share of float32's map range")


class Calibration(BaseModel):
    """The model state of the engine that judges."""

    threshold: float | None
    guarantee: str
    parts: int
    inputs: list[str] = Field(description="site inputs that it sets")
    version: int
    who: str
    when: str


class EngineView(BaseModel):
    """What judges. problem: why that is not known; empty where it is."""

    product: str = ""
    version: str = ""
    bundle: str = ""
    system: str = ""
    why: str = Field(default="", description="why this engine judges")
    engines: list[EngineRow] = []
    calibration: Calibration | None = None
    provisional: bool | None = Field(default=None, description="no machine has confirmed it yet")
    certificate: list[Certified] = []
    problem: str = ""


class Latency(BaseModel):
    """Milliseconds. judge_p50, judge_p99: from the capture of the frame that completed a part to
    its judgment, over the newest judged parts. stages: medians since the start of `edge run`.
    """

    parts: int
    judge_p50: float | None
    judge_p99: float | None
    stages: dict[str, float]


def latency_of(parts: Sequence[JudgedPart], said: Mapping[str, Any]) -> Latency:
    """said: the state of the station; empty where it does not run."""
    times = [part.judge_ms for part in parts if part.judge_ms is not None]
    p50, p99 = (percentile(times, share) for share in SHARES)
    stages = {
        key.removesuffix(STAGE): float(value)
        for key, value in said.items()
        if key.endswith(STAGE) and isinstance(value, (int, float))
    }
    return Latency(parts=len(times), judge_p50=p50, judge_p99=p99, stages=stages)


def read_engine(root: Path) -> EngineView:
    """Of the active product. What cannot be read is said in `problem`."""
    from edge.errors import EdgeError
    from edge.station.store import Store

    store = Store(root)
    try:
        return _read(store, store.active())
    except EdgeError as error:
        return EngineView(problem=str(error))


def _read(store: Store, bundle: Installed) -> EngineView:
    from edge.install.proof_file import certificate_path, read_proof
    from edge.install.summary import find_judge
    from edge.proof.certificate import read_certificate

    judge, why = find_judge(store, bundle)
    own = certificate_path(store, bundle)
    certificate = read_certificate(own if own.is_file() else bundle.certificate)
    state = None if judge is None else store.model_state(bundle, judge.precision, judge.runtime)
    manifest = bundle.manifest
    return EngineView(
        product=manifest.product,
        version=manifest.version,
        bundle=bundle.slot,
        system=f"{manifest.system} {manifest.preset}",
        why=why,
        engines=_engines(read_proof(store, bundle), None if judge is None else judge.name),
        calibration=None
        if state is None
        else Calibration(inputs=sorted(state.tensors), **_plain(state)),
        provisional=certificate.provisional,
        certificate=_certified(certificate),
    )


def _plain(state: Any) -> dict[str, Any]:
    keys = ("threshold", "guarantee", "parts", "version", "who", "when")
    return {key: getattr(state, key) for key in keys}


def _engines(proof: ProofFile | None, judging: str | None) -> list[EngineRow]:
    found = []
    for entry in proof.engines if proof is not None else ():
        section = entry.section
        found.append(
            EngineRow(
                name=entry.name,
                board=None if section is None else section.board,
                time_ms=None if section is None else section.time_ms,
                proven=entry.is_proven,
                judges=entry.name == judging,
                why_not=entry.why_not,
                proven_at=None if section is None else section.proven_at,
                threshold=None if section is None else section.threshold.value,
                guarantee="" if section is None else section.threshold.guarantee,
            )
        )
    return found


def _certified(certificate: Certificate) -> list[Certified]:
    own = [_of_bundle(section) for section in certificate.sections]
    return own + [_of_board(section) for section in certificate.boards]


def _of_bundle(section: PrecisionSection) -> Certified:
    verdicts = section.verdicts
    return Certified(
        precision=section.precision,
        runtime=section.runtime,
        board=None,
        passed=section.passed,
        reasons=list(section.reasons),
        good_rejected=None if verdicts.good is None else str(verdicts.good),
        defects_missed=str(verdicts.missed),
        unlike=str(verdicts.unlike),
        noise=section.noise.rms,
        map_error=section.mean_map_error,
    )


def _of_board(section: BoardSection) -> Certified:
    return Certified(
        precision=section.precision,
        runtime=section.runtime,
        board=section.board,
        passed=section.passed,
        reasons=list(section.reasons),
        good_rejected=None,
        defects_missed=None,
        unlike=str(section.golden_unlike),
        noise=section.noise.rms,
        map_error=section.mean_map_error,
    )
