"""How image files of one product become frames, alike in training, evaluation and on the
station.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """How to read image files.

    size: (width, height) in pixels to which every color image is letterboxed; None leaves images as
    they are. color_bits: how many bits of a 16-bit color image hold the values (10, 12, 14 or 16);
    None refuses such images. unit: meters per count that point clouds, which hold meters, are
    counted in where no file names a unit; None: DEFAULT_UNIT_M of edge.frames.camera_info.
    """

    size: tuple[int, int] | None = None
    color_bits: int | None = None
    unit: float | None = None


AS_IS = Reading()
