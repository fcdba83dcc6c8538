"""What a detector outside of the trainer says of a product's test images, compared as `trainer
evaluate` compares: the same crop, truth, metrics and groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from edge.types import Frame
from trainer.evaluate.known_defects import known_defects
from trainer.evaluate.rows import ALL, compared_rows, group_rows, row_of
from trainer.metrics import Metrics


@dataclass(frozen=True, eq=False)
class Answer:
    """A test image and its score and map (h, w); truth: mask (H, W), None if not outlined."""

    name: str
    defect: str
    is_defective: bool
    score: float
    map: NDArray[np.float32]
    truth: NDArray[np.bool_] | None


def answer(dataset: Dataset, sample: Sample, score: float, map_: NDArray[np.float32]) -> Answer:
    """What a detector says of a test sample, with the truth of the camera's crop beside it."""
    x, y, width, height = _crop(dataset)
    truth: NDArray[np.bool_] | None = np.zeros((height, width), np.bool_)
    if sample.is_defective:
        mask = sample.load_mask()
        truth = None if mask is None else mask[y : y + height, x : x + width]
    return Answer(sample.name, sample.defect, sample.is_defective, score, map_, truth)


def view(dataset: Dataset, sample: Sample) -> Frame:
    """The frame within the camera's crop, which is what the trainer shows a detector."""
    return sample.load().cropped(*_crop(dataset))


def tested(dataset: Dataset) -> list[Sample]:
    """The test samples. Raises: DataError without defects to find, or good images beside them."""
    samples = dataset.split("test")
    if len({sample.is_defective for sample in samples}) < 2:
        raise DataError(
            f"{dataset.root / 'test'} has no defective images to tell from the good ones, or no"
            " good ones"
        )
    return samples


def compared(root: Path, answers: Iterable[Answer]) -> dict[str, list[dict[str, Any]]]:
    """Metrics of every type, "all" last, and of every group of defects.json, each against all good
    images; shares 0..1, in the form of evaluate.json.
    """
    images = list(answers)
    return {
        "rows": [row.plain() for row in compared_rows(images)],
        "groups": [row.plain() for row in _by_group(root, images)],
    }


def by_group(root: Path, answers: Iterable[Answer]) -> list[Metrics]:
    """A row per group of defects.json, each against all good images, and "all" last."""
    images = list(answers)
    return [*_by_group(root, images), row_of(ALL, images)]


def _by_group(root: Path, images: Sequence[Answer]) -> list[Metrics]:
    return group_rows(images, {defect.name: defect.group for defect in known_defects(root)})


def _crop(dataset: Dataset) -> tuple[int, int, int, int]:
    camera = dataset.camera
    return camera.crop or (0, 0, camera.width, camera.height)
