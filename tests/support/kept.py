"""Images of a part as the station hands them to its keeper."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from edge.runtime.kept_files import Images, image_files
from edge.types import Frame
from tests.support.fakes import frame_of
from tests.support.station import BAD

CROP = (32, 24, 64, 48)


@cache
def _frame() -> Frame:
    """One for all, so that every folder has the same size."""
    return frame_of(BAD, 1, exposure_us=8000.0)


def images_of(number: int, day: str = "2026-11-10", judged: bool = False) -> Images:
    """Of the part of that number: NG with a hot spot in its map or, unjudged, UNKNOWN without."""
    heat = np.zeros((12, 16), np.float32)
    heat[4:8, 6:10] = 50.0
    record = {
        "part": f"P{number}",
        "id": f"s1-{number}",
        "code": 2 if judged else 3,
        "reason": "anomaly" if judged else "no_depth",
        "score": 50.0 if judged else None,
        "thr": 20.0,
    }
    return Images(
        f"parts/{day}/s1-{number}",
        _frame(),
        heat if judged else None,
        record,
        CROP if judged else None,
    )


def write_images(folder: Path, images: Images) -> None:
    """A kept part in a folder of any name, without the overlay."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in image_files(images).items():
        (folder / name).write_bytes(data)
