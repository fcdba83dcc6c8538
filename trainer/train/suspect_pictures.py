"""Pictures of the images that trainer.train.suspects found, beside where they differ from the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.frames.sample import Sample
from edge.overlay import write_png
from trainer import pictures
from trainer.data.scene import Scene, crop_frame
from trainer.train.suspects import Search


def draw_suspects(folder: Path, search: Search, scene: Scene, samples: Sequence[Sample]) -> None:
    """Write one picture of each suspect, those that differ in the same modality on one scale.

    Args:
        folder: of the run. samples: what was searched.
    Raises: DataError for an image that cannot be read any more, OSError.
    """
    by_name = {sample.name: sample for sample in samples}
    for modality, maps in search.maps.items():
        names = [suspect.name for suspect in search.suspects if suspect.differs == modality]
        scale = pictures.heat_scale(list(maps.values()), np.array([name in names for name in maps]))
        for suspect in search.suspects:
            if suspect.differs != modality:
                continue
            path = folder / suspect.picture
            path.parent.mkdir(parents=True, exist_ok=True)
            image = crop_frame(by_name[suspect.name].load(), scene.crop).color
            write_png(path, pictures.beside_heat(image, maps[suspect.name], scale))
