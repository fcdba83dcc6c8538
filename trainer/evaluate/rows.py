"""The rows of the table: metrics per defect type, per group of a synthetic product's defects, and
of all images. Every row of a comparison includes all good parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from trainer.metrics import Metrics, metrics_of
from trainer.synthetic.scene_defects import Group

GROUPS: tuple[str, ...] = get_args(Group)
ALL = "all"


class Answered(Protocol):
    """An image and what a detector says of it, as `trainer.evaluate.images.JudgedImage` describes
    it; any other detector's answer is compared in the same way.
    """

    @property
    def name(self) -> str:
        """Unique within an evaluation."""

    @property
    def defect(self) -> str:
        """Its type, or "good"."""

    @property
    def is_defective(self) -> bool:
        """Really or synthetically."""

    @property
    def score(self) -> float:
        """Raw."""

    @property
    def map(self) -> NDArray[np.float32]:
        """(h, w) raw."""

    @property
    def truth(self) -> NDArray[np.bool_] | None:
        """(H, W) mask; None where the defect is not outlined."""


def counted(name: str, images: Sequence[Answered]) -> Metrics:
    """A row that only counts its defective images: every metric is NaN."""
    nan = float("nan")
    defective = sum(image.is_defective for image in images)
    return Metrics(name, 0, defective, nan, nan, nan, nan, nan, nan)


def counted_rows(images: Sequence[Answered], really: bool) -> list[Metrics]:
    """A row per defect type that only counts, and "all" last where parts are `really` defective."""
    types = dict.fromkeys(image.defect for image in images if image.is_defective)
    rows = [counted(kind, [image for image in images if image.defect == kind]) for kind in types]
    return [*rows, counted(ALL, images)] if really else rows


def compared_rows(images: Sequence[Answered]) -> list[Metrics]:
    """A row per defect type in alphabetical order, and "all" last."""
    types = sorted({image.defect for image in images if image.is_defective})
    rows = [
        row_of(kind, [image for image in images if image.defect == kind or not image.is_defective])
        for kind in types
    ]
    return [*rows, row_of(ALL, images)]


def group_rows(images: Sequence[Answered], groups: Mapping[str, str]) -> list[Metrics]:
    """A row per group of defects that occurs: those of `trainer synthesize` in its order, then any
    other that the product names.

    groups: by the name of the image.
    """
    rows = []
    for group in dict.fromkeys((*GROUPS, *groups.values())):
        chosen = [
            image for image in images if not image.is_defective or groups.get(image.name) == group
        ]
        if any(image.is_defective for image in chosen):
            rows.append(row_of(group, chosen))
    return rows


def row_of(name: str, images: Sequence[Answered]) -> Metrics:
    """Every metric over these images, the good ones among them."""
    return metrics_of(
        name,
        np.array([image.is_defective for image in images], bool),
        np.array([image.score for image in images], np.float32),
        [image.map for image in images],
        [image.truth for image in images],
    )
