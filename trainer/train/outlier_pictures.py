"""Pictures of the normal validation parts whose scores stand apart, beside their anomaly maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.frames.sample import Sample
from edge.overlay import write_png
from trainer import pictures
from trainer.data.scene import Scene, crop_frame
from trainer.train.outliers import Outlier
from trainer.train.validation import JudgedPart


def draw_outliers(
    folder: Path,
    outliers: Sequence[Outlier],
    scene: Scene,
    samples: Sequence[Sample],
    normal: Sequence[JudgedPart],
) -> None:
    """Write one picture of each outlier into the run folder, all on one scale.

    Args:
        samples, normal: the validation parts, and what the graph says of each.
    """
    picture = {outlier.name: outlier.picture for outlier in outliers}
    if not picture:
        return
    apart = np.array([sample.name in picture for sample in samples])
    scale = pictures.heat_scale([part.map for part in normal], apart)
    for sample, part in zip(samples, normal, strict=True):
        if sample.name in picture:
            path = folder / picture[sample.name]
            path.parent.mkdir(exist_ok=True)
            image = crop_frame(sample.load(), scene.crop).color
            write_png(path, pictures.beside_heat(image, part.map, scale))
