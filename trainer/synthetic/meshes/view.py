"""A pinhole camera over a tilted table.

World coordinates are the table's: mm, the origin where the middle of the crop looks, z upwards, x
to the right of the image, y upwards in it. Pixel centers are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.noise import Image
from trainer.synthetic.scene import CROP, MM_PER_M, View

Vectors = NDArray[np.float32]
"""(..., 3)."""


@dataclass(frozen=True)
class Window:
    """Rows and columns of a view: top and left inside, bottom and right outside."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """What indexes an image of the whole view."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


class Eye:
    """The camera of a view (trainer.synthetic.scene.View), in world coordinates."""

    def __init__(self, view: View) -> None:
        self.intrinsics = view.intrinsics
        nx, _, nz = view.normal
        length = float(np.hypot(nx, nz))
        right = np.array([nz / length, 0.0, -nx / length])
        up = -np.array(view.normal)
        # columns: the camera's x to the right, y down, z forward, in world coordinates
        self.axes = np.stack([right, np.cross(up, right), up])
        fx, fy, cx, cy = view.intrinsics
        u, v = CROP[0] + (CROP[2] - 1) / 2, CROP[1] + (CROP[3] - 1) / 2
        ray = np.array([(u - cx) / fx, (v - cy) / fy, 1.0])
        middle = ray * (view.distance_m * MM_PER_M / float(ray @ np.array(view.normal)))
        self.center = -self.axes @ middle

    def rays(self, window: Window, samples: int = 1) -> Vectors:
        """Directions through samples x samples points of each pixel, (h * samples, w * samples, 3).

        Their length is such that a multiple of one is as deep as its factor: it is z of the camera.
        """
        fx, fy, cx, cy = self.intrinsics
        u = _sampled(window.left, window.right, samples)[None, :]
        v = _sampled(window.top, window.bottom, samples)[:, None]
        x, y, z = self.axes.T.astype(np.float32)
        right, down = ((u - cx) / fx).astype(np.float32), ((v - cy) / fy).astype(np.float32)
        return cast(Vectors, right[..., None] * x + down[..., None] * y + z)

    def table_depth(self, rays: Vectors) -> Image:
        """z of the camera in mm where rays meet the table."""
        return cast(Image, np.float32(-self.center[2]) / rays[..., 2])

    def points(self, rays: Vectors, depth: Image) -> Vectors:
        """World coordinates at that depth along the rays."""
        return cast(Vectors, self.center.astype(np.float32) + depth[..., None] * rays)

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 2) u and v of (N, 3) world points."""
        fx, fy, cx, cy = self.intrinsics
        seen = (points - self.center) @ self.axes
        return np.stack([fx * seen[:, 0] / seen[:, 2] + cx, fy * seen[:, 1] / seen[:, 2] + cy], 1)


def _sampled(start: int, end: int, samples: int) -> NDArray[np.float64]:
    """Evenly spread points within the pixels from `start` to `end`."""
    return start - 0.5 + (np.arange((end - start) * samples) + 0.5) / samples
