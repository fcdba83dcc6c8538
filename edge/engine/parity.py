"""The parity certificate: does a quantised graph decide as the float32 model did? numpy and pydantic only.

The trainer writes one section per precision into parity.json; `edge install` and `edge verify` repeat the comparison
on the golden frames with the board's own engine. All figures are relative to what float32 spans over the certificate's
frames:

    map range    highest minus lowest value of the float32 maps
    score range  highest minus lowest float32 score
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from edge.bundle.manifest import Precision, Strict
from edge.errors import BundleError, EngineError

FLIP_BAND = 0.02            # share of the score range around the threshold in which a verdict may differ
BOARD_FACTOR = 2.0          # a board's mean map error, as a multiple of the certificate's
BOARD_FLOOR = 2e-4          # of the map range: float32 libraries sum in another order, and the certificate's may be 0
INT8_MACS = 0.60            # share of all multiply-accumulates below which a file may not be called int8
INT8_BACKBONE_MACS = 0.80   # the same of the backbone's


class Limits(NamedTuple):
    """What one precision may cost. mean_map_error: share of the map range; i_auroc_points: 0..100."""

    mean_map_error: float
    rank_correlation: float
    i_auroc_points: float


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(1e-4, 0.99, 0.2),
    "fp16": Limits(2e-3, 0.99, 0.2),
    "int8": Limits(1e-2, 0.99, 0.5),
}


class MacShares(Strict):
    """Share of multiply-accumulates (of Conv, ConvTranspose, Gemm, MatMul) that run in each precision; together 1."""

    fp32: float = Field(ge=0, le=1)
    fp16: float = Field(ge=0, le=1)
    int8: float = Field(ge=0, le=1)


class Comparison(Strict):
    """A candidate against float32 on the same frames. Errors and distances are shares of float32's ranges."""

    frames: int = Field(ge=1)
    finite: bool                                  # every map value and score of the candidate
    mean_map_error: float = Field(ge=0)           # over the cells that are not 0 in both: the background adds nothing
    largest_map_error: float = Field(ge=0)
    largest_score_error: float = Field(ge=0)
    rank_correlation: float = Field(ge=-1, le=1)  # Spearman, ties given their mean rank
    flips: int = Field(ge=0)                      # verdicts that differ
    largest_flip_distance: float = Field(ge=0)    # of a flipped frame's float32 score from the threshold


class AccuracyChange(Strict):
    """Candidate minus float32 on the certificate's frames, in points of 100; null where there is no such truth."""

    i_auroc: float | None = None
    p_auroc: float | None = None
    aupro: float | None = None


class PrecisionSection(Comparison):
    """One precision of the certificate."""

    precision: Precision
    runtime: str                         # what computed these figures
    golden_map_error: float = Field(ge=0)   # the mean map error on the golden frames alone, which a board repeats
    change: AccuracyChange
    macs: MacShares                      # of the whole graph
    backbone_macs: MacShares | None      # of its backbone; null where the graph marks none
    passed: bool
    reasons: tuple[str, ...]             # what did not hold, each with its figure and limit


class BoardSection(Comparison):
    """The same golden frames through the engine of the machine that judges."""

    precision: Precision
    runtime: str              # engine and its version
    board: str                # which machine
    threshold: float
    proven_at: str            # UTC, ISO 8601
    passed: bool
    reasons: tuple[str, ...]


class Certificate(Strict):
    """parity.json. Provisional until a board has added a section that passed."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    provisional: bool = True
    note: str                 # whose arithmetic the figures are
    threshold: float          # a float32, exactly; score > threshold is NG
    score_low: float          # float32's span over the certificate's frames
    score_high: float
    map_low: float
    map_high: float
    normal_frames: int = Field(ge=0)
    defect_frames: int = Field(ge=0)   # real and drawn
    drawn_frames: int = Field(ge=0)    # of them, those drawn
    golden_frames: int = Field(ge=0)
    sections: tuple[PrecisionSection, ...]
    boards: tuple[BoardSection, ...] = ()

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    def section(self, precision: Precision) -> PrecisionSection:
        """The certificate's section of one precision. Raises: BundleError if it has none."""
        for section in self.sections:
            if section.precision == precision:
                return section
        have = ", ".join(section.precision for section in self.sections) or "none"
        raise BundleError(f"the parity certificate has no {precision}, only {have}: use one of those, or export again")

    @property
    def spans(self) -> Spans:
        """float32's map and score range over the certificate's frames."""
        return Spans(self.map_high - self.map_low, self.score_high - self.score_low)

    def with_board(self, section: BoardSection) -> Certificate:
        """A copy that ends with the board's section; no longer provisional once one has passed."""
        boards = (*self.boards, section)
        return self.model_copy(update={"boards": boards, "provisional": not any(board.passed for board in boards)})

    def to_json(self) -> str:
        """The text of parity.json."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, allow_nan=False) + "\n"


class Spans(NamedTuple):
    """float32's map range and score range, raw units."""

    map: float
    score: float


@dataclass(frozen=True, eq=False)
class Responses:
    """What one graph answered for n frames. maps: (n, h, w) float32, scores: (n,) float32, raw units."""

    maps: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def spans(self) -> Spans:
        """Highest minus lowest map value and score."""
        return Spans(float(self.maps.max() - self.maps.min()), float(self.scores.max() - self.scores.min()))

    @classmethod
    def of(cls, outputs: Iterable[Mapping[str, NDArray[Any]]]) -> Responses:
        """From the raw outputs "map" (1, 1, h, w) and "score" (1,) of every frame."""
        pairs = [(raw["map"].reshape(raw["map"].shape[-2:]), raw["score"].reshape(())) for raw in outputs]
        maps = np.stack([pair[0] for pair in pairs]).astype(np.float32)
        return cls(maps, np.array([pair[1] for pair in pairs], np.float32))

    def take(self, rows: slice | Sequence[int]) -> Responses:
        """The chosen frames."""
        return Responses(self.maps[rows], self.scores[rows])


class Runner(Protocol):
    """The part of an engine that a proof needs."""

    @property
    def name(self) -> str:
        """Which runtime this is, with its version where known."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Graph inputs by name -> graph outputs by name, at least "map" and "score"."""


@dataclass(frozen=True, eq=False)
class GoldenFrame:
    """One golden frame. feeds: every graph input by name. map (1, 1, h, w), score (1,): float32, from torch."""

    name: str
    feeds: dict[str, NDArray[Any]]
    map: NDArray[np.float32]
    score: NDArray[np.float32]


def read_certificate(path: Path) -> Certificate:
    """parity.json at `path`. Raises: BundleError if it is missing, unreadable or not a certificate of this schema."""
    try:
        return Certificate.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}). Install the bundle again") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"]) or "the file"
        what = f"{path}: {where}: {first['msg']}"
        raise BundleError(f"{what}. The parity certificate is damaged or of another schema: export again") from error


def read_golden(folder: Path) -> list[GoldenFrame]:
    """Every golden frame in a bundle's golden/ folder, by name. Raises: BundleError if none, or one is damaged."""
    frames = [_read_frame(path) for path in sorted(folder.glob("*.npz"))]
    if not frames:
        raise BundleError(f"{folder}: no golden frames (*.npz) to prove an engine with. Export the bundle again")
    return frames


def _read_frame(path: Path) -> GoldenFrame:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return GoldenFrame(path.stem, map=arrays.pop("map"), score=arrays.pop("score"), feeds=arrays)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise BundleError(f"{path}: not a golden frame ({error}). Export the bundle again") from error


def mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rank of every value, 1 for the lowest; equal values share the mean of their ranks. values: (n,)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def rank_correlation(reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    """Spearman's correlation of two (n,) vectors in -1..1, exact with ties: Pearson's of the mean ranks.

    Undefined where one of them is constant: 1 if they are equal, else 0, so that a constant output cannot pass.
    """
    first, second = mean_ranks(reference), mean_ranks(candidate)
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    if norm == 0:
        return 1.0 if np.array_equal(reference, candidate) else 0.0
    return float(np.clip(first @ second / norm, -1, 1))


def image_auroc(labels: NDArray[np.bool_], scores: NDArray[Any]) -> float | None:
    """Probability that a defect scores above a normal frame, ties one half (Mann-Whitney); None without both kinds."""
    defects = int(labels.sum())
    normals = len(labels) - defects
    if not defects or not normals:
        return None
    rank_sum = float(mean_ranks(scores)[labels].sum())
    return (rank_sum - defects * (defects + 1) / 2) / (defects * normals)


def compare(reference: Responses, candidate: Responses, threshold: float, spans: Spans | None = None) -> Comparison:
    """Compare a candidate with float32 on the same frames.

    Args:
        reference: float32. candidate: as many frames, the same map size.
        threshold: score > threshold is NG, as float32.
        spans: float32's ranges to measure by; default those of `reference`.
    Raises: EngineError if the frames or the map sizes differ.
    """
    if reference.maps.shape != candidate.maps.shape or reference.scores.shape != candidate.scores.shape:
        shapes = f"maps {candidate.maps.shape}, the reference has {reference.maps.shape}"
        raise EngineError(f"the engine gives {shapes}: it was built from another model, install the bundle again")
    if not (np.isfinite(candidate.maps).all() and np.isfinite(candidate.scores).all()):
        return _not_finite(len(reference))
    map_span, score_span = (max(span, float(np.finfo(np.float32).tiny)) for span in spans or reference.spans)
    errors = np.abs(candidate.maps.astype(np.float64) - reference.maps)
    judged = (candidate.maps != 0) | (reference.maps != 0)
    limit = np.float32(threshold)
    flipped = (reference.scores > limit) != (candidate.scores > limit)
    distances = np.abs(reference.scores[flipped].astype(np.float64) - float(limit)) / score_span
    score_errors = np.abs(candidate.scores.astype(np.float64) - reference.scores)
    return Comparison(
        frames=len(reference),
        finite=True,
        mean_map_error=float(errors[judged].mean() / map_span) if judged.any() else 0.0,
        largest_map_error=float(errors.max() / map_span),
        largest_score_error=float(score_errors.max() / score_span),
        rank_correlation=rank_correlation(reference.scores, candidate.scores),
        flips=int(flipped.sum()),
        largest_flip_distance=float(distances.max(initial=0.0)),
    )


def _not_finite(frames: int) -> Comparison:
    """NaN or infinity somewhere: nothing can be measured, everything counts as wrong."""
    return Comparison(
        frames=frames,
        finite=False,
        mean_map_error=1,
        largest_map_error=1,
        largest_score_error=1,
        rank_correlation=0,
        flips=frames,
        largest_flip_distance=1,
    )


def failures(
    measured: Comparison,
    precision: Precision,
    change: AccuracyChange,
    macs: MacShares,
    backbone_macs: MacShares | None,
) -> tuple[str, ...]:
    """What of the certificate's limits does not hold, a sentence each with figure and limit; empty: it passes."""
    if not measured.finite:
        return ("the outputs are not finite",)
    limits = LIMITS[precision]
    reasons = []
    if measured.mean_map_error > limits.mean_map_error:
        reasons.append(
            f"mean map error {measured.mean_map_error:.3%} of float32's range, limit {limits.mean_map_error:.2%}"
        )
    if measured.rank_correlation < limits.rank_correlation:
        reasons.append(f"score rank correlation {measured.rank_correlation:.4f}, limit {limits.rank_correlation}")
    if change.i_auroc is not None and abs(change.i_auroc) > limits.i_auroc_points:
        reasons.append(f"I-AUROC changes by {change.i_auroc:+.2f} points, limit {limits.i_auroc_points}")
    if measured.largest_flip_distance > FLIP_BAND:
        reasons.append(
            f"a verdict flips {measured.largest_flip_distance:.2%} of the score range away from the threshold, "
            f"limit {FLIP_BAND:.0%}"
        )
    return (*reasons, *(_share_failures(macs, backbone_macs) if precision == "int8" else ()))


def _share_failures(macs: MacShares, backbone_macs: MacShares | None) -> list[str]:
    """What keeps a file from being called int8."""
    reasons = []
    if macs.int8 < INT8_MACS:
        reasons.append(f"only {macs.int8:.1%} of all multiply-accumulates are INT8, {INT8_MACS:.0%} needed")
    if backbone_macs is not None and backbone_macs.int8 < INT8_BACKBONE_MACS:
        reasons.append(
            f"only {backbone_macs.int8:.1%} of the backbone's multiply-accumulates are INT8, "
            f"{INT8_BACKBONE_MACS:.0%} needed"
        )
    return reasons


def board_failures(measured: Comparison, section: PrecisionSection) -> tuple[str, ...]:
    """What of a board's limits does not hold against the certificate's section of its precision; empty: proven."""
    if not measured.finite:
        return ("the outputs are not finite",)
    limit = max(BOARD_FACTOR * section.golden_map_error, BOARD_FLOOR)
    reasons = []
    if measured.largest_flip_distance > FLIP_BAND:
        reasons.append(
            f"a golden frame changes sides {measured.largest_flip_distance:.2%} of the score range away from the "
            f"threshold, the band is {FLIP_BAND:.0%}"
        )
    if measured.mean_map_error > limit:
        reasons.append(
            f"mean map error {measured.mean_map_error:.3%} of float32's range, "
            f"limit {limit:.3%} (twice the certificate's)"
        )
    return tuple(reasons)


def prove_on_golden(
    engine: Runner,
    golden: Path | Sequence[GoldenFrame],
    certificate: Certificate,
    precision: Precision,
    *,
    threshold: float | None = None,
    site: Mapping[str, NDArray[Any]] | None = None,
    oracle: Runner | None = None,
    board: str = "",
) -> BoardSection:
    """Run the golden frames through a machine's engine and compare with float32.

    Args:
        engine: the engine that is to judge parts.
        golden: the bundle's golden/ folder, or its frames.
        precision: of the engine; the certificate must have its section.
        threshold: default the certificate's; the site's where it has its own.
        site: site tensors to set instead of those in the golden frames; the reference then has to come from `oracle`.
        oracle: float32 on the CPU; default the float32 torch reference stored in the golden frames.
        board: which machine this is.
    Returns: the board's section; `passed` says whether the engine may judge a part, `reasons` why not.
    Raises: BundleError if golden frames or section are missing, EngineError if the engine fails or is another model's,
        ValueError if site tensors are given without an oracle.
    """
    if site and oracle is None:
        raise ValueError("site tensors change the reference: give an oracle that computes it under the same tensors")
    frames = read_golden(golden) if isinstance(golden, Path) else list(golden)
    section = certificate.section(precision)
    limit = certificate.threshold if threshold is None else float(np.float32(threshold))
    feeds = [{**frame.feeds, **(site or {})} for frame in frames]
    if oracle is None:
        reference = Responses.of({"map": frame.map, "score": frame.score} for frame in frames)
    else:
        reference = Responses.of(oracle.run(feed) for feed in feeds)
    comparison = compare(reference, Responses.of(engine.run(feed) for feed in feeds), limit, certificate.spans)
    reasons = board_failures(comparison, section)
    return BoardSection(
        **comparison.model_dump(),
        precision=precision,
        runtime=engine.name,
        board=board or this_machine(),
        threshold=limit,
        proven_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        passed=not reasons,
        reasons=reasons,
    )


def this_machine() -> str:
    """The board's own name where the device tree tells it (Jetson), else processor architecture and host name."""
    model = Path("/proc/device-tree/model")
    if model.is_file():
        return model.read_text(errors="replace").strip("\0\n ")
    return f"{platform.machine()} {platform.node()}".strip()
