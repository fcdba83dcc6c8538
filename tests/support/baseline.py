"""The baseline that any detector has to beat: how far a part is from the per-pixel median of the
normal ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from edge.types import Frame
from trainer.synthetic.noise import Image

TOP_SHARE = 0.01


@dataclass(frozen=True)
class Reference:
    """Per-pixel medians of normal images, and their usual distances from them.

    color: (H, W, 3). depth: (H, W) counts, 0 where no normal image had a reading; None for color
    only.
    color_scale, depth_scale: mean distance of the normal images themselves, so that both weigh the
    same.
    """

    color: Image
    depth: Image | None
    color_scale: float
    depth_scale: float

    def score(self, frame: Frame) -> float:
        """Mean of the largest 1 % of the distances in color and height."""
        distance = _color_distance(frame, self.color) / self.color_scale
        if self.depth is not None:
            distance = distance + _depth_distance(frame, self.depth) / self.depth_scale
        count = max(1, round(distance.size * TOP_SHARE))
        return float(np.partition(distance.ravel(), -count)[-count:].mean())


def fit_reference(frames: Sequence[Frame]) -> Reference:
    """The reference of some normal frames.

    Camera and table do not move, so that a difference in depth is one in height.
    """
    color = np.median(np.stack([frame.color for frame in frames]), axis=0).astype(np.float32)
    color_scale = float(np.mean([_color_distance(frame, color).mean() for frame in frames]))
    if frames[0].depth is None:
        return Reference(color, None, color_scale, 1.0)
    counts = np.stack([cast(NDArray[np.uint16], frame.depth) for frame in frames])
    depth = np.median(counts, axis=0).astype(np.float32)
    depth_scale = float(np.mean([_depth_distance(frame, depth).mean() for frame in frames]))
    return Reference(color, depth, color_scale, depth_scale)


def baseline_scores(dataset: Dataset) -> tuple[list[Sample], NDArray[np.float64]]:
    """Every test sample and its score, within the camera's crop where it has one.

    Raises: DataError without defects to find.
    """
    reference = fit_reference([_window(dataset, sample) for sample in dataset.split("train")])
    tested = dataset.split("test")
    if not any(sample.is_defective for sample in tested):
        raise DataError(
            f"{dataset.root / 'test'} has no defective images to tell from the good ones"
        )
    return tested, np.array([reference.score(_window(dataset, sample)) for sample in tested])


def _window(dataset: Dataset, sample: Sample) -> Frame:
    frame = sample.load()
    return frame.cropped(*dataset.camera.crop) if dataset.camera.crop else frame


def _color_distance(frame: Frame, reference: Image) -> Image:
    return cast(Image, np.abs(frame.color - reference).mean(axis=-1))


def _depth_distance(frame: Frame, reference: Image) -> Image:
    """(H, W) counts; 0 where either has no reading."""
    counts = cast(NDArray[np.uint16], frame.depth).astype(np.float32)
    return np.where((counts > 0) & (reference > 0), np.abs(counts - reference), 0)
