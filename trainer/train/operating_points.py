"""What a threshold at each rank of the normal scores rejects and finds: the table that a threshold
is chosen from.

All scores are those of float32 torch. Defects describe the operating points; no defect ever moves
the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import OperatingPoint
from edge.proof.measures import Count
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
from trainer.train.defect_scores import REAL, DefectScores
from trainer.train.outliers import Outlier, outlier_lines

FEW_PARTS = 20  # up to this many validation parts a threshold promises little
PROMISES = (0.05, 0.01)  # rates of false rejects that people ask for
LEAST_TO_EXPORT = 2  # validation parts: the spread of one score is nothing
ALONE = (
    f"a bundle takes at least {LEAST_TO_EXPORT}, because one alone does not tell how much normal"
    " parts differ; train on 8 or more, of which a fifth validates, or put some into"
    " validation/good of the product"
)


def few_lines(threshold: Threshold) -> list[str]:
    """What few validation parts can promise at best, how many would promise more, and whether they
    are too few for a bundle; empty for many.
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
        *([] if parts >= LEAST_TO_EXPORT else [ALONE]),
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
    of = f"{parts} normal {'part' if parts == 1 else 'parts'}"
    lines = [f"operating points of {of}: rejected on average and at most, {kind} defects found"]
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
        threshold_line(threshold),
    ]


def threshold_line(threshold: Threshold) -> str:
    """The threshold and what it promises."""
    return f"Threshold {threshold.value:.4g}. {threshold.guarantee}"


def suggestion(
    points: Sequence[OperatingPoint],
    chosen_rank: int,
    good: Sequence[float] | NDArray[np.floating] | None = None,
) -> str | None:
    """What the real defects would suggest; None without any, or where it is the chosen point.

    It is the listed point with the largest share of defects found minus expected rate of false
    rejects (Youden's index); of equal ones the one that rejects fewer normal parts.

    Args:
        good: scores of normal test parts, which neither trained nor set the threshold; None: they
            were not judged.
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
