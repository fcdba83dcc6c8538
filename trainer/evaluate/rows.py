"""The rows of the table: metrics per defect type, per group of a synthetic product's defects, and
of all images. Every row of a comparison includes all good parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from trainer.evaluate.images import JudgedImage
from trainer.metrics import Metrics, metrics_of
from trainer.synthetic.scene_defects import Group

GROUPS: tuple[str, ...] = get_args(Group)
ALL = "all"


def counted(name: str, images: Sequence[JudgedImage]) -> Metrics:
    """A row that only counts its defective images: every metric is NaN."""
    nan = float("nan")
    return Metrics(name, 0, sum(image.is_defective for image in images), nan, nan, nan, nan, nan)


def counted_rows(images: Sequence[JudgedImage], really: bool) -> list[Metrics]:
    """A row per defect type that only counts, and "all" last where parts are `really` defective."""
    types = dict.fromkeys(image.defect for image in images if image.is_defective)
    rows = [counted(kind, [image for image in images if image.defect == kind]) for kind in types]
    return [*rows, counted(ALL, images)] if really else rows


def compared_rows(images: Sequence[JudgedImage]) -> list[Metrics]:
    """A row per defect type in alphabetical order, and "all" last."""
    types = sorted({image.defect for image in images if image.is_defective})
    rows = [
        _row(kind, [image for image in images if image.defect == kind or not image.is_defective])
        for kind in types
    ]
    return [*rows, _row(ALL, images)]


def group_rows(images: Sequence[JudgedImage], groups: Mapping[str, str]) -> list[Metrics]:
    """A row per group of defects that occurs. groups: by the name of the image."""
    rows = []
    for group in GROUPS:
        chosen = [
            image for image in images if not image.is_defective or groups.get(image.name) == group
        ]
        if any(image.is_defective for image in chosen):
            rows.append(_row(group, chosen))
    return rows


def _row(name: str, images: Sequence[JudgedImage]) -> Metrics:
    return metrics_of(
        name,
        np.array([image.is_defective for image in images], bool),
        np.array([image.score for image in images], np.float32),
        [image.map for image in images],
        [image.truth for image in images],
    )
