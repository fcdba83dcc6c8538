"""What a threshold at each rank rejects and finds, and the normal scores that alone would set it.

All scores are those of float32 torch. Defects describe the operating points; no defect ever moves
the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import OperatingPoint
from edge.errors import DataError
from edge.frames.dataset import Dataset, Sample
from edge.proof.compare import Count
from edge.proof.outliers import find_outliers
from edge.proof.threshold import (
    CONFIDENCE,
    MOST_FALSE_REJECTS,
    Threshold,
    expected_rate,
    operating_ranks,
    ordinal,
    parts_needed,
    percent_of,
    rank_for,
    rate_bound,
    threshold_at,
)
from edge.schema import Strict
from trainer.data.choose import in_turn
from trainer.data.scene import Scene
from trainer.graph.deploy import Deployed
from trainer.synthetic.on_frames import draw_defect, part_of

REAL = "real"
STRENGTHS = {
    "faint": 0.1,
    "medium": 0.4,
    "strong": 1.0,
}  # of draw_defect: from barely there to plain
DRAWN_PARTS = 16  # normal parts that a synthetic defect of every strength is drawn on
MOST_REAL = 200  # real defects that are judged
FEW_PARTS = 20  # up to so many validation parts a threshold promises little
PROMISES = (0.05, 0.01)  # rates of false rejects that people ask for
PICTURES = "outliers"  # folder in the run

Feeds = Mapping[str, NDArray[Any]]
Tell = Callable[[str], None]


class DefectScores(Strict):
    """Raw scores of defective parts, kept so that the table of operating points needs no images.

    kind: real parts of the data set, or synthetic defects on normal validation parts. groups:
    scores by REAL, or by name of the strength.
    """

    kind: Literal["real", "synthetic"]
    groups: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Outlier:
    """A normal validation part whose score stands apart. next_score: the highest that does not.

    Raw units.
    """

    name: str
    score: float
    next_score: float
    median: float

    @property
    def picture(self) -> Path:
        """Of the part and its map, relative to the run folder."""
        return Path(PICTURES) / f"{self.name.replace('/', '-')}.png"

    def sentence(self) -> str:
        """Which part, and how far its score is from the others'."""
        return (
            f"{self.name} scores {self.score:.4g}; the next normal part scores"
            f" {self.next_score:.4g}, the median is {self.median:.4g}"
        )


def find_named_outliers(names: Sequence[str], scores: Sequence[float]) -> list[Outlier]:
    """The parts that edge.proof.outliers.find_outliers separates from the rest, the highest score
    first.

    Args:
        names, scores: of the n normal validation parts, in the same order.
    """
    found = find_outliers(scores)
    if not found:
        return []
    next_score = float(np.delete(np.asarray(scores, np.float64), found).max())
    median = float(np.median(scores))
    return [Outlier(names[index], float(scores[index]), next_score, median) for index in found]


def outlier_question(outliers: Sequence[Outlier], rank: int) -> str:
    """What the user has to decide about them. rank: of the threshold among all normal scores."""
    one = len(outliers) == 1
    question = (
        f"{'Is it a defect, a damaged file, or' if one else 'Are they defects, damaged files, or'}"
        " a kind of normal part that is too rare in the set?"
    )
    if rank <= len(outliers):
        question += f" {'It alone sets' if one else 'They alone set'} the threshold."
    return f"{question} `trainer export` stops until you say --leave-out NAME or --keep NAME."


def outlier_lines(outliers: Sequence[Outlier], rank: int, folder: Path) -> list[str]:
    """The same for the terminal, with the picture's path; empty without an outlier.

    folder: of the run.
    """
    if not outliers:
        return []
    named = [
        f"outlier among the normal parts: {outlier.sentence()} (picture:"
        f" {folder / outlier.picture})"
        for outlier in outliers
    ]
    return [*named, outlier_question(outliers, rank)]


def measure_defects(
    deployed: Deployed, scene: Scene, dataset: Dataset, normal: Sequence[Sample], tell: Tell
) -> DefectScores:
    """Judge the data set's defective parts, MOST_REAL of them in turn by kind; without any,
    synthetic defects.

    A defective image that cannot be read is told and left out: the training does not depend on it.

    Args:
        normal: validation parts to draw on, DRAWN_PARTS of them, evenly spread.
    """
    defective = [sample for sample in dataset.samples if sample.is_defective]
    scores = []
    for sample in in_turn(defective, lambda sample: sample.defect, MOST_REAL):
        try:
            feeds = scene.feeds_of(sample)
        except DataError as error:
            tell(f"{sample.name} is not counted among the defects: {error}")
        else:
            scores.append(_score(deployed, feeds))
    if scores:
        return DefectScores(kind="real", groups={REAL: tuple(scores)})
    places = np.linspace(0, len(normal) - 1, min(DRAWN_PARTS, len(normal))).round().astype(int)
    drawn: dict[str, list[float]] = {name: [] for name in STRENGTHS}
    for seed, place in enumerate(places):
        feeds = scene.feeds_of(normal[place])
        part = part_of(deployed, feeds)
        for name, strength in STRENGTHS.items():
            drawn[name].append(_score(deployed, draw_defect(feeds, part, strength, seed).feeds))
    return DefectScores(
        kind="synthetic", groups={name: tuple(values) for name, values in drawn.items()}
    )


def few_lines(threshold: Threshold) -> list[str]:
    """What few validation parts can promise at best, and how many would promise more; empty for
    many.
    """
    parts = threshold.parts
    if parts > FEW_PARTS:
        return []
    are = "1 validation part is" if parts == 1 else f"{parts} validation parts are"
    more = (
        f"{percent_of(rate)} would take {_parts_on_average(rate)} parts on average,"
        f" {parts_needed(rate)} with {CONFIDENCE:.0%} confidence"
        for rate in PROMISES
    )
    return [
        (
            f"{are} few: at best they promise that {expected_rate(parts):.1%} of normal parts are"
            f" rejected on average, with {CONFIDENCE:.0%} confidence at most"
            f" {rate_bound(parts):.1%}"
        ),
        "; ".join(more),
    ]


def _parts_on_average(rate: float) -> int:
    """The fewest parts whose highest score is exceeded by `rate` of later ones on average."""
    return next(parts for parts in count(1) if expected_rate(parts) <= rate)


def operating_points(
    normal_scores: Sequence[float],
    rank: int,
    false_rejects: float,
    defect_scores: DefectScores,
    left_out: int = 0,
) -> list[OperatingPoint]:
    """The ranks of operating_ranks(n, rank), each with its threshold, guarantee and the defects
    above it.

    Args:
        normal_scores: of the n normal parts, those left out not among them. rank: the chosen one.
        false_rejects: the rate that was asked for. left_out: m parts that the user declared not to
            be normal.
    Raises: CalibrationError for no or non-finite scores, or a rank beyond them.
    """
    points = []
    for listed in operating_ranks(len(normal_scores), rank):
        threshold = threshold_at(normal_scores, listed, false_rejects, left_out=left_out)
        found = {
            name: Count(count=_above(scores, threshold.value), of=len(scores))
            for name, scores in defect_scores.groups.items()
        }
        points.append(OperatingPoint(threshold=threshold, found=found))
    return points


def operating_rows(points: Sequence[OperatingPoint]) -> list[list[str]]:
    """The table as text, its titles first: rank, threshold, normal parts rejected on average and at
    most, defects.
    """
    titles = ["threshold at", "value", "normal rejected", f"at most ({CONFIDENCE:.0%})"]
    named = ("real defects" if name == REAL else f"synthetic {name}" for name in points[0].found)
    rows = [[*titles, *named]]
    for point in points:
        at = point.threshold
        found = map(str, point.found.values())
        rows.append(
            [_place(point), f"{at.value:.6g}", f"{at.expected:.1%}", f"{at.bound:.1%}", *found]
        )
    return rows


def operating_lines(points: Sequence[OperatingPoint], chosen_rank: int) -> list[str]:
    """The table for the terminal: what it shows, then its columns, the chosen point marked with
    `>`.
    """
    rows = operating_rows(points)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    marks = ["", *(">" if point.threshold.rank == chosen_rank else "" for point in points)]
    parts, kind = points[0].threshold.parts, REAL if REAL in points[0].found else "synthetic"
    lines = [
        f"operating points of {parts} normal parts: rejected on average and at most, {kind} defects"
        " found"
    ]
    for mark, row in zip(marks, rows, strict=True):
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"{mark:<2}{row[0]:<{widths[0]}}  {'  '.join(cells)}")
    return lines


def choice_lines(
    outliers: Sequence[Outlier],
    points: Sequence[OperatingPoint],
    threshold: Threshold,
    suggested: str | None,
    folder: Path,
) -> list[str]:
    """For the terminal, what the threshold was chosen from: outliers, operating points, suggestion,
    guarantee.
    """
    return [
        *outlier_lines(outliers, threshold.rank, folder),
        *operating_lines(points, threshold.rank),
        *([suggested] if suggested else []),
        f"threshold {threshold.value:.6g}: {threshold.guarantee}",
    ]


def suggestion(
    points: Sequence[OperatingPoint],
    chosen_rank: int,
    good: Sequence[float] | NDArray[np.floating] | None = None,
) -> str | None:
    """What the real defects would suggest; None without any, or where it is the chosen point.

    It is the listed point with the largest share of defects found minus expected rate of false
    rejects (Youden's index); of equal ones the one that rejects fewer normal parts.

    Args:
        good: scores of good test parts, which neither trained nor set the threshold; None: not
            judged.
    """
    if not all(REAL in point.found for point in points):
        return None
    best = max(points, key=_youden)
    chosen = next(point for point in points if point.threshold.rank == chosen_rank)
    if best is chosen:
        return None
    text = (
        f"The real defects would suggest the {_place(best)}: {best.found[REAL]} found instead of"
        f" {chosen.found[REAL].count}, {best.threshold.expected:.1%} of normal parts rejected on"
        f" average instead of {chosen.threshold.expected:.1%}"
    )
    if good is not None:
        more = _above(good, best.threshold.value) - _above(good, chosen.threshold.value)
        text += (
            f", {abs(more)} {'fewer' if more < 0 else 'more'} rejected of {len(good)} good test"
            " parts"
        )
    return f"{text}. Defects never move the threshold{_remedy(best)}"


def _place(point: OperatingPoint) -> str:
    rank = point.threshold.rank
    return "highest" if rank == 1 else f"{ordinal(rank)} highest"


def _remedy(point: OperatingPoint) -> str:
    """The option that does: the rate of the rank, rounded up to a tenth of a percent, where it
    gives that rank.
    """
    parts, rank = point.threshold.parts, point.threshold.rank
    rate = math.ceil(1000 * rank / (parts + 1)) / 1000
    fits = rate <= MOST_FALSE_REJECTS and rank_for(parts, rate) == rank
    return f"; --false-rejects {percent_of(rate)} does" if fits else ""


def _youden(point: OperatingPoint) -> float:
    found = point.found[REAL]
    return found.count / max(1, found.of) - point.threshold.expected


def _above(scores: Sequence[float] | NDArray[np.floating], threshold: float) -> int:
    """How many are NG, compared as the device does it: in float32."""
    return int((np.asarray(scores, np.float32) > np.float32(threshold)).sum())


def _score(deployed: Deployed, feeds: Feeds) -> float:
    return float(deployed.run(feeds)["score"].reshape(-1)[0])
