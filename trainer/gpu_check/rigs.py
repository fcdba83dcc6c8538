"""Cameras and depth images that the image stage is compared on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.engine.stage import Rig
from edge.types import Intrinsics

WIDE = Intrinsics(640, 480, 613.0, 613.2, 322.6, 248.2)
COARSE = Intrinsics(640, 480, 390.0, 390.6, 318.2, 241.6)
LARGE = Intrinsics(1280, 720, 920.0, 920.0, 642.0, 362.0)
TURNED = (0.9998, 0.004, 0.02, -0.0042, 0.99994, 0.01, -0.01996, -0.0101, 0.99975)  # by columns
ASIDE = (0.015, 0.0003, -0.0004)  # m
RIGS = {
    "the same camera": Rig(WIDE, WIDE, 1e-3, (0, 0, 640, 480)),
    "a turned camera, cropped": Rig(WIDE, WIDE, 1e-3, (80, 21, 480, 440), TURNED, ASIDE),
    "coarser depth": Rig(COARSE, WIDE, 1e-3, (0, 0, 640, 480), TURNED, ASIDE),
    "larger color": Rig(COARSE, LARGE, 1e-4, (100, 60, 900, 600), TURNED, ASIDE),
}


def pair_for(rig: Rig, seed: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """(h, w) counts of a tilted table with boxes, which hide one another, and holes; (H, W, 3)
    noise as color.
    """
    noise = np.random.default_rng(seed)
    height, width = rig.depth.height, rig.depth.width
    v, u = np.mgrid[:height, :width]
    z_m = 0.7 + 3e-4 * u - 2e-4 * v + noise.normal(0, 2e-3, (height, width))
    for _ in range(8):
        x, y = noise.integers(0, width - 120), noise.integers(0, height - 120)
        size = noise.integers(20, 120)
        z_m[y : y + size, x : x + size] -= noise.uniform(0.03, 0.3)
    counts = np.round(z_m / rig.unit_m).astype(np.uint16)
    counts[noise.random((height, width)) < 0.05] = 0
    color = noise.integers(0, 256, (rig.color.height, rig.color.width, 3)).astype(np.uint8)
    return counts, color
