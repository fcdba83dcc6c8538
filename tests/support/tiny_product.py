"""A tiny RGB-D product in MVTec 3D-AD's layout: a textured disc on a plane, stains and dents as
defects.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

SIZE, FOCAL, DISTANCE, THICKNESS, NOISE = 128, 150.0, 0.4, 0.01, 2e-4
SPLITS = {"train/good": 6, "validation/good": 4, "test/good": 3, "test/stain": 2, "test/dent": 2}


def write_tiny_product(root: Path, with_depth: bool = True, validation: bool = True) -> Path:
    """Write the product; without depth there is no xyz, without validation no such folder."""
    for number, (folder, count) in enumerate(SPLITS.items()):
        if not validation and folder.startswith("validation"):
            continue
        for index in range(count):
            color, z, mask = _part(
                np.random.default_rng(100 * number + index), folder.rpartition("/")[2]
            )
            _write(
                root / folder,
                index,
                color,
                z if with_depth else None,
                mask if folder.startswith("test") else None,
            )
    camera = {
        "model": "virtual",
        "serial": "tiny",
        "width": SIZE,
        "height": SIZE,
        "unit": 1e-4,
        "fixed": True,
        "intrinsics": [FOCAL, FOCAL, (SIZE - 1) / 2, (SIZE - 1) / 2],
    }
    (root / "camera.json").write_text(json.dumps(camera))
    return root


def write_photos(folder: Path, kind: str, count: int, seed: int) -> list[Path]:
    """Photos of similar parts directly in `folder`: no layout, no camera.json."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"IMG_{seed + index:04d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        color, _, _ = _part(np.random.default_rng(seed + index), kind)
        cv2.imwrite(str(path), np.ascontiguousarray(color[..., ::-1]))
    return paths


def _part(
    rng: np.random.Generator, kind: str
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_]]:
    v, u = np.mgrid[:SIZE, :SIZE]
    x, y = rng.uniform(58, 70, 2)
    radius = np.hypot(u - x, v - y)
    disc = radius < 38
    mask = np.hypot(u - x - 12, v - y) < 9
    color = (
        np.where(disc[..., None], [180, 150, 90], [60, 80, 70]) + 12 * np.sin(radius / 3)[..., None]
    )
    z = DISTANCE - THICKNESS * disc
    if kind == "stain":
        color = np.where(mask[..., None], [30, 20, 160], color)
    if kind == "dent":
        z = z + 0.004 * mask
    mask &= kind != "good"
    z = z + rng.normal(0, NOISE, z.shape)
    return np.clip(color + rng.normal(0, 3, color.shape), 0, 255).astype(np.uint8), z, mask


def _write(
    folder: Path,
    index: int,
    color: NDArray[np.uint8],
    z: NDArray[np.float64] | None,
    mask: NDArray[np.bool_] | None,
) -> None:
    (folder / "rgb").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "rgb" / f"{index:03d}.png"), np.ascontiguousarray(color[..., ::-1]))
    if z is not None:
        (folder / "xyz").mkdir(exist_ok=True)
        v, u = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) / FOCAL
        cloud = np.stack([u * z, v * z, z], axis=-1).astype(np.float32)
        tifffile.imwrite(folder / "xyz" / f"{index:03d}.tiff", cloud, photometric="rgb")
    if mask is not None:
        (folder / "gt").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "gt" / f"{index:03d}.png"), mask.astype(np.uint8) * 255)
