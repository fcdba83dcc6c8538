"""The parity certificate (schema 2): does a quantized graph decide as the float32 model does?

The trainer writes one section for each precision into parity.json; `edge install` and the first
`edge run` add the results of the machine's own engine. Distances are in units of s, half the
distance from the 16th to the 84th percentile of float32's normal scores (edge/proof/compare.py).
Shares of the whole score range would be too coarse: it reaches to the worst defect, so that all
normal parts could change their verdict within a small share.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ConfigDict, Field, ValidationError

from edge.errors import BundleError
from edge.files import read_bytes
from edge.proof.measures import Count, MapComparison, Noise
from edge.proof.threshold import Threshold
from edge.schema import Precision, Strict, parse_json

CERTIFICATE_LIMIT = 4 << 20  # bytes of parity.json
# share of verdicts that may differ from float32's, among frames chosen without regard to the
# threshold
UNLIKE_LEAST, UNLIKE_SHARE = (2, 1 / 50)
UNLIKE_DISTANCE = 1.0  # s: no verdict further than this from the threshold may differ
SLOPES = (0.5, 2.0)  # of a precision's scores against float32's
NAMED_NOISE = 0.20  # s: from here on the table mentions it, below the limit
SAME_SLOPE = 0.05  # of the same precision on another runtime: |slope - 1|
SAME_SHIFT = 0.10  # s, at the threshold
BOARD_FACTOR = 2.0  # a board's mean map error, as a multiple of the certificate's
# of the map range: float32 libraries sum in different orders, and the certificate's error may be 0
BOARD_FLOOR = 2e-4
INT8_MACS = 0.60  # share of all multiply-accumulates below which a file may not be called int8
INT8_BACKBONE_MACS = 0.80  # the same of the backbone's


class Limits(NamedTuple):
    """How far one precision may differ from float32.

    mean_map_error: share of the map range; i_auroc_points: 0..100; noise: s.
    """

    mean_map_error: float
    rank_correlation: float
    i_auroc_points: float
    noise: float

    def within(self, room: float) -> Limits:
        """Limits of `room` times these deviations."""
        return Limits(
            self.mean_map_error * room,
            1 - (1 - self.rank_correlation) * room,
            self.i_auroc_points * room,
            self.noise * room,
        )


LIMITS: dict[Precision, Limits] = {
    "fp32": Limits(1e-4, 0.99, 0.2, 0.10),
    "fp16": Limits(2e-3, 0.99, 0.2, 0.10),
    "int8": Limits(1e-2, 0.99, 0.5, 0.35),
}


class MacShares(Strict):
    """Share of multiply-accumulates (of Conv, ConvTranspose, Gemm, MatMul) that run in each
    precision; together 1.
    """

    fp32: float = Field(ge=0, le=1)
    fp16: float = Field(ge=0, le=1)
    int8: float = Field(ge=0, le=1)


class AccuracyChange(Strict):
    """Candidate minus float32 on the certificate's frames, in points of 100; null without labels or
    masks.
    """

    i_auroc: float | None = None
    p_auroc: float | None = None
    aupro: float | None = None


class Verdicts(Strict):
    """The verdicts of a precision with its own threshold, as counts.

    good: rejected normal parts that were used neither for the threshold nor for the choice of the
        plan; null: not measured.
    expected: the rate of rejected normal parts that follows from the threshold's rank.
    real, drawn: missed real and synthetic defects.
    near: changed verdicts among synthetic defects near the threshold.
    unlike: changed verdicts among all frames that were chosen without regard to the threshold.
    furthest: distance of the furthest changed frame from the threshold in s.
    """

    good: Count | None
    expected: float = Field(ge=0, le=1)
    real: Count
    drawn: Count
    unlike: Count
    near: Count
    furthest: float = Field(ge=0)

    @property
    def missed(self) -> Count:
        """Missed defects, real and synthetic."""
        return self.real + self.drawn


class PrecisionSection(MapComparison):
    """One precision of the certificate."""

    precision: Precision
    runtime: str  # that computed these values
    threshold: Threshold  # of its own scores
    verdicts: Verdicts
    noise: Noise  # of its normal scores against float32's
    repeat: Noise  # of the same file's scores in another arithmetic against these
    # the mean map error on the reference frames alone, which a board repeats
    golden_map_error: float = Field(ge=0)
    change: AccuracyChange
    macs: MacShares  # of the whole graph
    backbone_macs: MacShares | None  # of its backbone; null where the graph marks none
    passed: bool
    reasons: tuple[str, ...]  # which limits were exceeded, each with the measured value


class BoardSection(MapComparison):
    """Results of the bundle's frames with the engine of the machine that judges.

    golden_unlike: reference frames whose verdict differs from float32's, each with its own
        threshold.
    furthest: distance of the furthest of them from the threshold in s.
    noise: of the normal scores against those of the same precision in the certificate.
    time_ms: median of one run of the engine.
    threshold: measured on the engine's own scores of the bundle's normal frames.
    """

    precision: Precision
    runtime: str  # engine and its version
    board: str  # which machine
    model_sha256: str  # of the ONNX file that the engine was made from
    # of the plan or ONNX file that ran; empty: written by a version without this key
    engine_sha256: str = ""
    threshold: Threshold
    golden_unlike: Count
    furthest: float = Field(ge=0)
    noise: Noise
    time_ms: float = Field(ge=0)
    calibrated: bool = False  # compared with this station's own site inputs and threshold
    proven_at: str  # UTC, ISO 8601
    passed: bool
    reasons: tuple[str, ...]


class Certificate(Strict):
    """parity.json. Provisional until a board has added a section that passes."""

    schema_: Literal[2] = Field(alias="schema", default=2)
    provisional: bool = True
    note: str  # whose arithmetic computed the values
    spread: float = Field(ge=0)  # s of float32's normal scores, raw units
    map_low: float  # lowest and highest value of float32's maps of the certificate's frames
    map_high: float
    normal_frames: int = Field(ge=0)  # for the thresholds and the noise
    good_frames: int = Field(ge=0)  # normal parts used for no choice; 0: not measured
    real_frames: int = Field(ge=0)  # with real defects
    drawn_frames: int = Field(ge=0)  # with synthetic defects, from barely visible to plain
    near_frames: int = Field(ge=0)  # with synthetic defects near float32's threshold
    golden_frames: int = Field(ge=0)
    sections: tuple[PrecisionSection, ...]
    boards: tuple[BoardSection, ...] = ()

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True
    )

    def section(self, precision: Precision) -> PrecisionSection:
        """The certificate's section of one precision. Raises: BundleError if it has none."""
        for section in self.sections:
            if section.precision == precision:
                return section
        have = ", ".join(section.precision for section in self.sections) or "none"
        raise BundleError(
            f"the parity certificate has no {precision}, only {have}: use one of those, or export"
            " again"
        )

    @property
    def map_span(self) -> float:
        """float32's map range over the certificate's frames."""
        return self.map_high - self.map_low

    def with_boards(self, sections: tuple[BoardSection, ...]) -> Certificate:
        """A copy with these boards' sections; no longer provisional once one passes."""
        boards = (*self.boards, *sections)
        return self.model_copy(
            update={"boards": boards, "provisional": not any(board.passed for board in boards)}
        )

    def to_json(self) -> str:
        """The text of parity.json."""
        return (
            json.dumps(self.model_dump(mode="json", by_alias=True), indent=2, allow_nan=False)
            + "\n"
        )


def read_certificate(path: Path) -> Certificate:
    """parity.json at `path`.

    Raises: BundleError if it is missing, unreadable or not a certificate of this schema.
    """
    try:
        data = read_bytes(path, BundleError, CERTIFICATE_LIMIT)
        parse_json(data)
        return Certificate.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"]) or "the file"
        what = f"{path}: {where}: {first['msg']}"
        raise BundleError(
            f"{what}. The parity certificate is damaged or of another schema: export again"
        ) from error
    except ValueError as error:
        raise BundleError(
            f"{path}: not JSON ({error}). The parity certificate is damaged: export again"
        ) from error


def failures(
    measured: MapComparison,
    precision: Precision,
    noise: Noise,
    repeat: Noise,
    verdicts: Verdicts,
    change: AccuracyChange,
    macs: MacShares,
    backbone_macs: MacShares | None,
    room: float = 1.0,
) -> tuple[str, ...]:
    """The exceeded limits of the certificate, each as a clause with value and limit; empty: passed.

    room: share of each limit that may be used; below 1 while a plan is chosen that unseen frames
    will still test.
    """
    if not measured.finite:
        return ("the outputs are not finite",)
    limits = LIMITS[precision].within(room)
    reasons = _verdict_failures(verdicts, room) + noise_failures(noise, limits.noise)
    reasons += [
        f"in another arithmetic {reason}" for reason in repeat_failures(repeat, precision, room)
    ]
    if measured.mean_map_error > limits.mean_map_error:
        reasons.append(
            f"mean map error {measured.mean_map_error:.3%} of float32's range, limit"
            f" {limits.mean_map_error:.2%}"
        )
    if measured.rank_correlation < limits.rank_correlation:
        reasons.append(
            f"score rank correlation {measured.rank_correlation:.4f}, limit"
            f" {limits.rank_correlation:.4g}"
        )
    if change.i_auroc is not None and abs(change.i_auroc) > limits.i_auroc_points:
        reasons.append(
            f"I-AUROC changes by {change.i_auroc:+.2f} points, limit {limits.i_auroc_points:.2g}"
        )
    return (*reasons, *(_share_failures(macs, backbone_macs) if precision == "int8" else ()))


def most_unlike(frames: int) -> float:
    """How many verdicts of `frames` frames may differ from float32's."""
    return max(UNLIKE_LEAST, UNLIKE_SHARE * frames)


def _verdict_failures(verdicts: Verdicts, room: float) -> list[str]:
    reasons = []
    limit, distance = int(room * most_unlike(verdicts.unlike.of)), room * UNLIKE_DISTANCE
    if verdicts.unlike.count > limit:
        reasons.append(f"{verdicts.unlike} verdicts differ from float32's, limit {limit}")
    if verdicts.furthest > distance:
        reasons.append(
            f"a verdict differs {verdicts.furthest:.2f} s from the threshold, limit {distance:.2g}"
            " s (s: half the spread of normal scores)"
        )
    return reasons


def noise_failures(noise: Noise, limit: float) -> list[str]:
    """How a precision's scores differ from float32's by more than scale and offset, in clauses.

    limit: of the noise, in units of s.
    """
    if noise.spread == 0:
        return ["every normal part has the same score"]
    if not SLOPES[0] <= noise.slope <= SLOPES[1]:
        return [
            f"scores are {noise.slope:.2f} times float32's, limit {SLOPES[0]:g} to {SLOPES[1]:g}"
        ]
    if noise.rms > limit:
        return [f"noise of the normal scores {noise.rms:.2f} s, limit {limit:.2f} s"]
    return []


def repeat_failures(repeat: Noise, precision: Precision, room: float = 1.0) -> list[str]:
    """Why two runtimes do not decide alike with the same file, in clauses.

    repeat: the normal scores of one against the other's. room: share of each limit that may be
    used.
    """
    reasons = noise_failures(repeat, LIMITS[precision].within(room).noise)
    if abs(repeat.slope - 1) > room * SAME_SLOPE:
        reasons.append(
            f"scores are {repeat.slope:.3f} times the certificate's, limit {room * SAME_SLOPE:.0%}"
            " from 1"
        )
    if abs(repeat.shift) > room * SAME_SHIFT:
        reasons.append(
            f"scores at the threshold are {repeat.shift:+.2f} s off the certificate's, limit"
            f" {room * SAME_SHIFT:.2g} s"
        )
    return reasons


def _share_failures(macs: MacShares, backbone_macs: MacShares | None) -> list[str]:
    """Why a file may not be called int8, in clauses."""
    reasons = []
    if macs.int8 < INT8_MACS:
        reasons.append(
            f"only {macs.int8:.1%} of all multiply-accumulates are INT8, {INT8_MACS:.0%} needed"
        )
    if backbone_macs is not None and backbone_macs.int8 < INT8_BACKBONE_MACS:
        reasons.append(
            f"only {backbone_macs.int8:.1%} of the backbone's multiply-accumulates are INT8, "
            f"{INT8_BACKBONE_MACS:.0%} needed"
        )
    return reasons


def map_error_limit(section: PrecisionSection) -> float:
    """The limit of a board's mean map error on the reference frames, as a share of float32's map
    range.
    """
    return max(BOARD_FACTOR * section.golden_map_error, BOARD_FLOOR)


def board_failures(
    measured: MapComparison,
    furthest: float,
    noise: Noise,
    section: PrecisionSection,
    same_precision: bool = True,
) -> tuple[str, ...]:
    """The exceeded limits of a board, compared with the certificate's section of its precision, as
    clauses; empty: proven.

    Args:
        measured, furthest: on the reference frames against float32.
        noise: of the normal scores against those of the same precision, or against float32's
            (same_precision False), from which a precision may differ in scale and offset.
    """
    if not measured.finite:
        return ("the outputs are not finite",)
    limit = map_error_limit(section)
    limits = LIMITS[section.precision]
    reasons = (
        repeat_failures(noise, section.precision)
        if same_precision
        else noise_failures(noise, limits.noise)
    )
    if furthest > UNLIKE_DISTANCE:
        reasons.append(
            f"a reference frame changes its verdict {furthest:.2f} s from the threshold, limit"
            f" {UNLIKE_DISTANCE:g} s"
        )
    if measured.mean_map_error > limit:
        reasons.append(
            f"mean map error {measured.mean_map_error:.3%} of float32's range, "
            f"limit {limit:.3%} (twice the certificate's)"
        )
    return tuple(reasons)
