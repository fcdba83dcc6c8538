"""The background plane: heights over it, and the same plane in another crop. numpy only, no I/O.

A plane is (alpha, beta, gamma, delta) in the pixel coordinates of one window: the height over it of
pixel (u, v) with depth z meters is delta - z (alpha u + beta v + gamma), in meters, positive
towards the camera (docs/graph-and-bundle.md). With the unit normal n, pointing away from the
camera, and a pinhole camera: alpha = n_x / fx, beta = n_y / fy, gamma = n_z - n_x cx / fx - n_y cy
/ fy, and delta is the distance from the camera's center to the plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.types import Intrinsics

Plane = tuple[float, float, float, float]


def heights_m(
    depth: NDArray[np.uint16], unit: float, plane: Sequence[float]
) -> NDArray[np.float32]:
    """Height of every pixel over the plane.

    Args:
        depth: (H, W) uint16 counts, 0 = no reading.
        unit: meters per count.
        plane: alpha, beta, gamma, delta in this window's pixels.
    Returns: (H, W) float32 meters; NaN where there is no reading.
    """
    height, width = depth.shape
    alpha, beta, gamma, delta = plane
    across = alpha * np.arange(width, dtype=np.float64)
    down = beta * np.arange(height, dtype=np.float64) + gamma
    heights = delta - (depth * unit) * (across[None, :] + down[:, None])
    return np.where(depth > 0, heights, np.nan).astype(np.float32)


def plane_for_crop(plane: Sequence[float], dx: float, dy: float) -> Plane:
    """The same plane in the pixels of a window that lies dx pixels to the right and dy below."""
    alpha, beta, gamma, delta = plane
    return alpha, beta, gamma + alpha * dx + beta * dy, delta


def plane_from_normal(normal: Sequence[float], distance_m: float, intrinsics: Intrinsics) -> Plane:
    """The plane n . X = distance_m in pixel form. normal: (3,) of unit length, n_z > 0."""
    nx, ny, nz = (float(value) for value in normal)
    i = intrinsics
    return nx / i.fx, ny / i.fy, nz - nx * i.cx / i.fx - ny * i.cy / i.fy, float(distance_m)


def normal_of(plane: Sequence[float], intrinsics: Intrinsics) -> tuple[float, float, float]:
    """The unit normal (3,) of a plane of an image with these intrinsics (inverse of
    plane_from_normal).
    """
    alpha, beta, gamma, _ = plane
    i = intrinsics
    return alpha * i.fx, beta * i.fy, gamma + alpha * i.cx + beta * i.cy


def tilt_deg(plane: Sequence[float], intrinsics: Intrinsics) -> float:
    """Angle between the plane's normal and the optical axis in degrees: 0 if the camera points
    straight at the plane.
    """
    nx, ny, nz = normal_of(plane, intrinsics)
    return math.degrees(math.atan2(math.hypot(nx, ny), nz))
