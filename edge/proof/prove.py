"""Does this machine's engine decide as its precision's certificate says, and what is its
threshold?
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.engine.machine import this_machine
from edge.errors import CalibrationError
from edge.proof.certificate import BoardSection, Certificate, board_failures
from edge.proof.compare import TINY, Responses, compare_maps, fit_noise, furthest, spread_of, unlike
from edge.proof.golden import GoldenFrame, NormalFrames
from edge.proof.measures import Count, Noise
from edge.proof.threshold import Threshold, threshold_at
from edge.schema import Precision

WARM_UP = 3  # runs before any is timed: lazy kernels, clocks, caches
LEAST_TIMED = 10  # runs for the median


class Runner(Protocol):
    """What a proof needs of an engine."""

    @property
    def name(self) -> str:
        """The runtime, with its version if known."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Graph inputs by name -> graph outputs by name, at least "map" and "score"."""


class Expected(NamedTuple):
    """The bundle's values for one precision.

    scores: (n,) of all normal validation parts by onnxruntime, in the order of falling float32
        scores.
    threshold: measured on them.
    float32: float32's own threshold, for the verdicts of the reference frames.
    """

    scores: NDArray[np.float64]
    threshold: Threshold
    float32: Threshold


ADAPTING = ("shift", "scale")  # site inputs that bring features back to where training had them


class Calibrated(NamedTuple):
    """A station's own threshold and site inputs, and float32 on the CPU with the same site
    inputs.
    """

    threshold: float | None
    tensors: Mapping[str, NDArray[Any]]
    oracle: Runner


class Measured(NamedTuple):
    """Results of the bundle's normal frames: scores (k,) in their order, and the median time_ms of
    one run.
    """

    scores: NDArray[np.float32]
    time_ms: float


def measure_normal(
    engine: Runner, normal: NormalFrames, site: Mapping[str, NDArray[Any]] | None = None
) -> Measured:
    """Run the bundle's normal frames through an engine and time it.

    site: site inputs that replace the frames' own.

    Raises: EngineError if it fails, BundleError if a frame is damaged.
    """
    scores: list[np.float32] = []
    times: list[float] = []
    feeds: Mapping[str, NDArray[Any]] = {}
    for feeds in ({**frame, **(site or {})} for frame in normal.feeds()):
        for _ in range(0 if scores else WARM_UP):
            engine.run(feeds)
        start_s = time.perf_counter()
        outputs = engine.run(feeds)
        times.append(time.perf_counter() - start_s)
        scores.append(np.float32(outputs["score"].reshape(())))
    while len(times) < LEAST_TIMED:
        start_s = time.perf_counter()
        engine.run(feeds)
        times.append(time.perf_counter() - start_s)
    return Measured(np.array(scores, np.float32), 1000 * float(np.median(times)))


def threshold_of(measured: Measured, normal: NormalFrames, expected: Threshold) -> Threshold:
    """The threshold on these scores of an engine, at the rank of the bundle's own threshold.

    Raises: CalibrationError if a score is not finite.
    """
    return threshold_at(
        measured.scores,
        expected.rank,
        expected.false_rejects,
        normal.index.parts,
        expected.left_out,
    )


def prove_engine(
    engine: Runner,
    precision: Precision,
    golden: Sequence[GoldenFrame],
    normal: NormalFrames,
    certificate: Certificate,
    expected: Expected,
    *,
    model_sha256: str = "",
    engine_sha256: str = "",
    board: str = "",
    calibrated: Calibrated | None = None,
) -> BoardSection:
    """Run the bundle's frames through a machine's engine.

    Its maps of the reference frames are compared with float32's, its normal scores with those of
    the same precision in the certificate. Its threshold is measured on its own scores, and with it
    the reference frames must get float32's verdicts.

    Args:
        engine: the engine that is to judge parts; precision: of it.
        calibrated: this station's own calibration. If it changes site inputs, the certificate does
            not apply, and scores and maps are compared with float32 on the CPU with the same site
            inputs; but for ADAPTING, which stay neutral: the bundle's frames have the training's
            light, and need none of what brings this site's light back to it.
        model_sha256, engine_sha256: of the ONNX file, and of the plan built from it. board: the
            name of this machine.
    Returns: the board's section; `passed` says whether the engine may judge a part, `reasons` why
        not.
    Raises: BundleError if the certificate lacks the precision, or a frame is damaged; EngineError
        if the engine fails or is another model's.
    """
    section = certificate.section(precision)
    site = _site_of(calibrated)
    measured = measure_normal(engine, normal, site)
    answers = Responses.of(engine.run({**frame.feeds, **site}) for frame in golden)
    if site and calibrated:
        reference = Responses.of(calibrated.oracle.run({**frame.feeds, **site}) for frame in golden)
        oracle = measure_normal(calibrated.oracle, normal, site)
        same = oracle.scores.astype(np.float64)
        exact = threshold_of(oracle, normal, expected.float32).value
        at, scale, spread = exact, spread_of(same), spread_of(same)
    else:
        reference = Responses.of({"map": frame.map, "score": frame.score} for frame in golden)
        same = expected.scores[[rank - 1 for rank in normal.ranks]]
        exact = expected.float32.value
        at, scale, spread = expected.threshold.value, spread_of(expected.scores), certificate.spread
    comparison = compare_maps(reference, answers, certificate.map_span)
    try:
        own = threshold_of(measured, normal, expected.threshold)
    except CalibrationError:
        comparison = comparison.model_copy(update={"finite": False})
        own = expected.threshold
    noise = _noise(same, measured.scores, at, scale, comparison.finite)
    limits = [(exact, own.value)]
    if calibrated is not None and calibrated.threshold is not None:
        # the station's own threshold belongs to this engine's scores; float32's is found by the
        # inverse of the line from float32's scores to this engine's
        line = noise if site else section.noise
        limits.append(
            ((calibrated.threshold - line.offset) / (line.slope or 1.0), calibrated.threshold)
        )
    changes = [unlike(reference.scores, answers.scores, pair, spread) for pair in limits]
    distance = max(
        furthest(reference.scores, changed, pair[0], spread)
        for changed, pair in zip(changes, limits, strict=True)
    )
    reasons = board_failures(comparison, distance, noise, section, same_precision=not site)
    return BoardSection(
        **comparison.model_dump(),
        precision=precision,
        runtime=engine.name,
        board=board or this_machine(),
        model_sha256=model_sha256,
        engine_sha256=engine_sha256,
        threshold=own,
        golden_unlike=Count(count=int(np.any(changes, axis=0).sum()), of=len(golden)),
        furthest=distance,
        noise=noise,
        time_ms=measured.time_ms,
        calibrated=calibrated is not None,
        proven_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        passed=not reasons,
        reasons=reasons,
    )


def _site_of(calibrated: Calibrated | None) -> dict[str, NDArray[Any]]:
    """The calibrated site inputs under which the bundle's frames are judged."""
    tensors = {} if calibrated is None else calibrated.tensors
    return {name: value for name, value in tensors.items() if name not in ADAPTING}


def _noise(
    same: NDArray[np.float64],
    own: NDArray[np.float32],
    threshold: float,
    spread: float,
    finite: bool,
) -> Noise:
    if not finite or not np.isfinite(own).all():
        return Noise(frames=len(own), slope=0, offset=0, rms=0, shift=0, spread=0)
    if np.array_equal(same.astype(np.float32), own):
        # equal bit for bit: exact even where the normal scores do not vary, so that no line fits
        return Noise(frames=len(own), slope=1, offset=0, rms=0, shift=0, spread=max(spread, TINY))
    return fit_noise(same, own, threshold, spread)
