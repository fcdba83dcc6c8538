"""The baseline that any detector has to beat: how far a part is from the per-pixel median of the
normal ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from edge.types import Frame
from tests.benchmarks.compared import tested, view
from trainer.synthetic.noise import Image

TOP_SHARE = 0.01

Sense = Literal["color", "height", "both"]
SENSES: tuple[Sense, ...] = get_args(Sense)


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

    def map(self, frame: Frame, sense: Sense = "both") -> Image:
        """(H, W) distance in color, in height, or their sum; without depth that of color alone."""
        color = _color_distance(frame, self.color) / self.color_scale
        if self.depth is None or sense == "color":
            return cast(Image, color)
        height = _depth_distance(frame, self.depth) / self.depth_scale
        return cast(Image, height if sense == "height" else color + height)

    def score(self, frame: Frame, sense: Sense = "both") -> float:
        """Mean of the largest 1 % of the distances."""
        return top_mean(self.map(frame, sense))


def top_mean(distance: Image) -> float:
    """Mean of the largest 1 %."""
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
    samples = tested(dataset)
    reference = fit_reference([view(dataset, sample) for sample in dataset.split("train")])
    return samples, np.array([reference.score(view(dataset, sample)) for sample in samples])


def _color_distance(frame: Frame, reference: Image) -> Image:
    return cast(Image, np.abs(frame.color - reference).mean(axis=-1))


def _depth_distance(frame: Frame, reference: Image) -> Image:
    """(H, W) counts; 0 where either has no reading."""
    counts = cast(NDArray[np.uint16], frame.depth).astype(np.float32)
    return np.where((counts > 0) & (reference > 0), np.abs(counts - reference), 0)
