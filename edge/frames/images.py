"""Image files as arrays: every failure is a DataError that names the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError


def _decoded(path: Path, flags: int) -> NDArray[np.generic]:
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    image: NDArray[np.generic] | None = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise DataError(f"{path} is not an image that can be decoded: it is empty, cut off or of another format")
    return image


def read_color(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB; grey images give three equal channels."""
    import cv2

    return np.asarray(cv2.cvtColor(_decoded(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), np.uint8)


def read_depth(path: Path) -> NDArray[np.uint16]:
    """(H, W) uint16 counts, 0 = no reading."""
    import cv2

    depth = _decoded(path, cv2.IMREAD_UNCHANGED)
    if depth.dtype != np.uint16 or depth.ndim != 2:
        raise DataError(f"{path} is {depth.dtype} {depth.shape}, a depth image is one channel of uint16 counts")
    return np.asarray(depth, np.uint16)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """(H, W) bool, True on the defect: any value other than 0."""
    import cv2

    mask = _decoded(path, cv2.IMREAD_UNCHANGED)
    flat = mask if mask.ndim == 2 else mask[..., :3].max(axis=-1)
    return np.asarray(flat, np.bool_)


def read_xyz(path: Path) -> NDArray[np.float32]:
    """(H, W, 3) float32 metres in camera coordinates, z = 0 where there was no reading (MVTec 3D-AD)."""
    import tifffile

    try:
        xyz = np.asarray(tifffile.imread(path))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (tifffile.TiffFileError, ValueError, KeyError, IndexError, RuntimeError) as error:   # of damaged files
        raise DataError(f"{path} is not a tiff that can be decoded: {error}") from error
    if xyz.ndim != 3 or xyz.shape[2] != 3 or xyz.dtype.kind != "f":
        raise DataError(f"{path} is {xyz.dtype} {xyz.shape}, an organised point cloud is (H, W, 3) floats in metres")
    return np.ascontiguousarray(xyz, np.float32)


def counts_from_xyz(xyz: NDArray[np.float32], unit: float) -> NDArray[np.uint16]:
    """z of an organised point cloud (H, W, 3) metres as (H, W) uint16 counts of `unit`; 0 beyond their range."""
    z = np.nan_to_num(xyz[..., 2], nan=0.0, posinf=0.0, neginf=0.0)
    counts = np.round(z / unit)
    return np.where((counts > 0) & (counts <= 65535), counts, 0).astype(np.uint16)


def intrinsics_from_xyz(xyz: NDArray[np.float32]) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy by least squares over the points of one image; None where too few have a reading.

    x / z = (u - cx) / fx is linear in u: a straight line fitted to every pixel with a reading, and the same in v.
    """
    rows, columns = np.nonzero(np.nan_to_num(xyz[..., 2]) > 0)
    if rows.size < 100 or np.ptp(rows) < 2 or np.ptp(columns) < 2:
        return None
    points = xyz[rows, columns].astype(np.float64)
    slope_u, offset_u = np.polyfit(columns, points[:, 0] / points[:, 2], 1)
    slope_v, offset_v = np.polyfit(rows, points[:, 1] / points[:, 2], 1)
    if not (slope_u > 1e-6 and slope_v > 1e-6):
        return None
    return float(1 / slope_u), float(1 / slope_v), float(-offset_u / slope_u), float(-offset_v / slope_v)
