"""Organized point clouds of any source, as meters in camera coordinates: x right, y down, z forward
(MVTec 3D-AD).

Units and axes follow from what is physically possible: a table lies 2 cm to 20 m in front of the
camera, x grows to the right in the image and y downward. Clouds in millimeters and clouds along -z
(OpenGL) are recognized and converted to meters along +z; any other cloud is refused.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.camera_info import find_implausible
from edge.frames.images import read_tiff

NEAREST_M, FARTHEST_M = 0.02, 20.0
LEAST_READINGS = 100  # from which a focal length can be fitted

log = logging.getLogger(__name__)
_told: set[tuple[Path, str]] = set()


@dataclass(frozen=True, eq=False)
class Cloud:
    """An organized point cloud.

    z: (H, W) float32 meters, 0 = no reading. rays: (H, W, 2) float32 x / z and y / z, None if the
    file holds z alone. notes: how the file was interpreted, if it differs from MVTec 3D-AD's
    convention.
    """

    z: NDArray[np.float32]
    rays: NDArray[np.float32] | None
    notes: tuple[str, ...] = ()


def read_cloud(path: Path) -> Cloud:
    """Read an organized point cloud, or z alone, from a TIFF of floats.

    The interpretation is logged once for each folder.

    Raises: DataError naming the file, if it is damaged, has another shape or type, or can be
        neither in meters nor in millimeters.
    """
    values = read_tiff(path)
    if values.dtype.kind != "f":
        raise DataError(
            f"{path} holds {values.dtype}: an organized point cloud is floats (H, W, 3) in meters"
        )
    if values.ndim == 3 and values.shape[0] == 3 and values.shape[2] != 3:
        values = np.moveaxis(values, 0, 2)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim != 2 and (values.ndim != 3 or values.shape[2] != 3):
        raise DataError(
            f"{path} is {values.shape}: an organized point cloud is floats (H, W, 3) in meters"
        )
    points = values.astype(np.float64)
    read = np.isfinite(points).all(axis=2) if points.ndim == 3 else np.isfinite(points)
    z = np.where(read, points if points.ndim == 2 else points[..., 2], 0.0)
    if points.ndim == 3:
        z[_is_placeholder(points)] = 0.0
    beyond = np.abs(z) > 1000 * FARTHEST_M
    if not beyond[z != 0].all():
        z[beyond] = 0.0
    if not z.any():
        return Cloud(
            z.astype(np.float32), None if points.ndim == 2 else np.zeros((*z.shape, 2), np.float32)
        )
    backwards = bool(np.median(z[z != 0]) < 0)
    z = np.maximum(-z if backwards else z, 0.0)
    scale, notes = _scale(path, float(np.median(z[z > 0])))
    if backwards:
        notes = (*notes, "points along -z: converted to +z")
    z[z * scale > FARTHEST_M] = 0.0
    for note in notes:
        _tell_once(path, note)
    return Cloud((z * scale).astype(np.float32), _rays(path, points, z, backwards), notes)


def _is_placeholder(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(H, W) bool: placeholders that drivers write for no reading, such as (0, 0, 65.535) or
    (-1, -1, -1).

    They repeat, whereas at most one ray through an image has x = y = 0.
    """
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    on_the_axis = (x == 0) & (y == 0)
    return np.asarray((on_the_axis & (on_the_axis.sum() > 1)) | ((x == y) & (y == z)), np.bool_)


def _tell_once(path: Path, note: str) -> None:
    """Log notes once for each folder, which may hold a thousand such files."""
    kind = path.parent, note.partition(" (")[0]
    if kind not in _told:
        _told.add(kind)
        log.info("%s %s", path, note)


def counts_of(z: NDArray[np.float32], unit: float) -> NDArray[np.uint16]:
    """(H, W) meters as uint16 counts of `unit` meters; 0 for no reading and beyond their range."""
    counts = np.round(z.astype(np.float64) / unit)
    return np.where((counts > 0) & (counts <= 65535), counts, 0).astype(np.uint16)


def intrinsics_of(cloud: Cloud) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy in pixels by least squares over the points; None with too few readings.

    x / z = (u - cx) / fx is linear in u: a straight line is fitted to all pixels with a reading,
    and likewise in v.
    """
    rows, columns = np.nonzero(cloud.z > 0)
    if cloud.rays is None or rows.size < LEAST_READINGS or np.ptp(rows) < 2 or np.ptp(columns) < 2:
        return None
    rays = cloud.rays[rows, columns].astype(np.float64)
    slope_u, offset_u = np.polyfit(columns, rays[:, 0], 1)
    slope_v, offset_v = np.polyfit(rows, rays[:, 1], 1)
    if not (slope_u > 1e-6 and slope_v > 1e-6):
        return None
    lens = (
        float(1 / slope_u),
        float(1 / slope_v),
        float(-offset_u / slope_u),
        float(-offset_v / slope_v),
    )
    return lens if find_implausible(cloud.z.shape[1], cloud.z.shape[0], lens) is None else None


def _scale(path: Path, median: float) -> tuple[float, tuple[str, ...]]:
    """Meters per unit of the file."""
    if NEAREST_M <= median <= FARTHEST_M:
        return 1.0, ()
    if 1000 * NEAREST_M < median <= 1000 * FARTHEST_M and median > 3 * FARTHEST_M:
        return 0.001, (f"is in millimeters (z around {median:.0f}): read as such",)
    raise DataError(
        f"{path} has z around {median:.4g}, which is no distance in meters ({NEAREST_M:g} to"
        f" {FARTHEST_M:g}) or millimeters: save the cloud in meters"
    )


def _rays(
    path: Path, points: NDArray[np.float64], z: NDArray[np.float64], backwards: bool
) -> NDArray[np.float32] | None:
    """x / z and y / z with y downwards.

    Raises: DataError if the cloud is mirrored relative to its image.
    """
    if points.ndim == 2:
        return None
    read = z > 0
    rays = np.zeros((*z.shape, 2), np.float64)
    rays[read] = points[..., :2][read] / z[read][:, None]
    rows, columns = np.nonzero(read)
    if rows.size < LEAST_READINGS or np.ptp(rows) < 2 or np.ptp(columns) < 2:
        return rays.astype(np.float32)
    rightwards, downwards = (
        np.polyfit(columns, rays[read][:, 0], 1)[0],
        np.polyfit(rows, rays[read][:, 1], 1)[0],
    )
    if backwards and downwards < 0:
        rays[..., 1] *= -1  # OpenGL: y up, z towards the viewer
        downwards = -downwards
    if rightwards < 0 or downwards < 0:
        axis, way = ("x", "to the right") if rightwards < 0 else ("y", "downwards")
        raise DataError(
            f"{path}: {axis} falls {way}, so the cloud is mirrored or turned against its color"
            " image: save both the same way round"
        )
    return rays.astype(np.float32)
