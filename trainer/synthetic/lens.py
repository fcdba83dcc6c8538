"""Images moved pixel by pixel: through a lens that distorts, or from one view of a plane to
another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from trainer.synthetic.noise import Image

STEPS = 20  # of the fixed point: far below a hundredth of a pixel for any lens of `--scene`


@dataclass(frozen=True, eq=False)
class Remap:
    """Where every pixel of a new image comes from: u and v in the old one, (H, W) pixels."""

    u: Image
    v: Image

    def zeroed(self, image: Image) -> Image:
        """The image moved; 0 where the old one ends."""
        moved = cv2.remap(image, self.u, self.v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return cast(Image, moved)

    def mirrored(self, image: Image) -> Image:
        """The image moved; what lies beyond its border is its mirror image."""
        border = cv2.BORDER_REFLECT_101
        return cast(Image, cv2.remap(image, self.u, self.v, cv2.INTER_LINEAR, borderMode=border))

    def sharp(self, image: Image) -> Image:
        """As mirrored, without the blur of linear interpolation; never negative."""
        border = cv2.BORDER_REFLECT_101
        moved = cv2.remap(image, self.u, self.v, cv2.INTER_CUBIC, borderMode=border)
        return cast(Image, np.maximum(moved, 0))


def distorting(
    intrinsics: tuple[float, float, float, float], size: tuple[int, int], k1: float
) -> Remap | None:
    """What a lens of this radial distortion makes of a pinhole's image; None for a lens without.

    A point at the distance r from the optical axis, over the focal length, appears at r (1 + k1 r
    r) (Brown, Decentering distortion of lenses, 1966; OpenCV's k1). size: rows and columns.
    """
    if k1 == 0:
        return None
    fx, fy, cx, cy = intrinsics
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float64)
    x, y = (columns - cx) / fx, (rows - cy) / fy
    seen = np.sqrt(x * x + y * y)
    straight = seen.copy()
    for _ in range(STEPS):
        straight = seen / (1 + k1 * straight * straight)
    share = np.divide(straight, seen, out=np.ones_like(seen), where=seen > 0)
    return Remap((x * share * fx + cx).astype(np.float32), (y * share * fy + cy).astype(np.float32))
