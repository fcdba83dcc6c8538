"""Parts as a site shows them to a station with the tiny bundle: each lies elsewhere and differs a
little from the others, under a light that may not be that of the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.support.station import EMPTY, HEIGHT, WIDTH, write_belt
from tests.support.tiny_bundle import PART_M, RED_OF_A_GOOD_PART, TABLE_M, UNIT

TRAINED = tuple(np.linspace(0.0, 20.5, 40).tolist())  # defects of the bundle's normal parts
RADIUS = 30  # pixels


@dataclass(frozen=True)
class SitePart:
    """One part. defect: added to red, so that it adds about that to the score. light: times all
    colors. stripes: added to and taken from half of the part each. holes: share of the readings
    that are missing. at: which place it lies at and which noise it has.
    """

    defect: float = 5.0
    light: float = 1.0
    stripes: float = 0.0
    holes: float = 0.0
    at: int = 0


def normal_parts(count: int, light: float = 1.0, seed: int = 0) -> list[SitePart]:
    """As different from each other as the bundle's normal parts, in any order."""
    places = (np.random.default_rng(seed).permutation(count) + 0.5) / count
    defects = TRAINED[0] + places * (TRAINED[-1] - TRAINED[0])
    return [
        SitePart(float(defect), light, at=100 * seed + number)
        for number, defect in enumerate(defects)
    ]


def draw_site_part(
    part: SitePart, noise_seed: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Color (H, W, 3) uint8 RGB and depth (H, W) uint16 counts.

    noise_seed: of the sensor's noise; by default, that of the part.
    """
    place = np.random.default_rng(part.at)
    center_u, center_v = np.array([WIDTH, HEIGHT]) / 2 + place.uniform(-8, 8, 2)
    noise = np.random.default_rng(1000 + part.at if noise_seed is None else noise_seed)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    inside = (u - center_u) ** 2 + (v - center_v) ** 2 <= RADIUS**2
    color = np.full((HEIGHT, WIDTH, 3), 60.0)
    color[inside] = (RED_OF_A_GOOD_PART + part.defect, 90, 80)
    color[inside & (u % 16 < 8)] += part.stripes
    color[inside & (u % 16 >= 8)] -= part.stripes
    color = color * part.light + noise.normal(0, 2, color.shape)
    depth = np.where(inside, PART_M, TABLE_M) + noise.normal(0, 0.0003, inside.shape)
    counts = np.round(depth / UNIT)
    counts[noise.random(inside.shape) < part.holes] = 0
    return np.clip(color, 0, 255).astype(np.uint8), counts.astype(np.uint16)


def write_parts(folder: Path, parts: Sequence[SitePart]) -> Path:
    """One image for each part."""
    write_belt(folder, [EMPTY] * len(parts))
    for number, part in enumerate(parts):
        _write(folder, number, *draw_site_part(part))
    return folder


def write_shown(folder: Path, parts: Sequence[SitePart], frames: int = 6, gap: int = 4) -> Path:
    """A belt that shows each part at rest in some frames, and is empty between them."""
    write_belt(folder, [EMPTY] * (gap + len(parts) * (frames + gap)))
    for number, part in enumerate(parts):
        for frame in range(frames):
            at = gap + number * (frames + gap) + frame
            _write(folder, at, *draw_site_part(part, noise_seed=7 * at))
    return folder


def _write(folder: Path, number: int, color: NDArray[np.uint8], counts: NDArray[np.uint16]) -> None:
    cv2.imwrite(str(folder / f"{number:04d}_color.png"), color[:, :, ::-1])
    cv2.imwrite(str(folder / f"{number:04d}_depth.png"), counts)
