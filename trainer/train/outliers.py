"""Normal validation parts whose score stands apart from the others'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.proof.outliers import find_outliers
from trainer.train.run_folder import OUTLIERS, picture_of


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
        return picture_of(OUTLIERS, self.name)

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
