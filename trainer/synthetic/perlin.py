"""Perlin noise, and masks of drawn anomalies made of it (Perlin, SIGGRAPH 2002; DRAEM, ICCV 2021, section 3.3)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

LEVEL = 0.5  # of the noise, as DRAEM takes it
COARSEST = 6  # gradient cells per side: 2^0 to 2^6
TRIES = 12
MOST_PIECES = 4

Mask = NDArray[np.bool_]


def perlin_noise(
    height: int, width: int, rows: int, columns: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Gradient noise, (height, width), of rows x columns cells with a random unit gradient at each of their corners.

    With (x, y) the place inside a cell and f(t) = 6 t^5 - 15 t^4 + 10 t^3: the four corners' gradients times the
    offsets from them, interpolated by f(x) and f(y). Scaled by sqrt(2), so that it lies in -1..1.
    """
    angles = generator.uniform(0, 2 * np.pi, (rows + 1, columns + 1))
    gradients = np.stack([np.cos(angles), np.sin(angles)])  # (2, rows + 1, columns + 1)
    y, x = (np.arange(size) * cells / size for size, cells in ((height, rows), (width, columns)))
    top, left = y.astype(int), x.astype(int)
    y, x = (y - top)[:, None], (x - left)[None, :]

    def ramp(down: int, right: int) -> NDArray[np.float64]:
        along_x, along_y = gradients[:, (top + down)[:, None], (left + right)[None, :]]
        return np.asarray(along_x * (x - right) + along_y * (y - down))

    fade_x, fade_y = (t**3 * (t * (6 * t - 15) + 10) for t in (x, y))
    upper = ramp(0, 0) + fade_x * (ramp(0, 1) - ramp(0, 0))
    lower = ramp(1, 0) + fade_x * (ramp(1, 1) - ramp(1, 0))
    return np.asarray(np.sqrt(2) * (upper + fade_y * (lower - upper)))


def anomaly_mask(
    foreground: Mask, generator: np.random.Generator, least: float = 0.0005, largest: float = 0.25
) -> Mask:
    """Where an anomaly lies: (h, w), inside the foreground, between these shares of it.

    Thresholded Perlin noise of random coarseness, turned at random; in half of the draws only one to four of its
    pieces, for real damages are single and small. Where no draw suits, a disc.
    """
    height, width = foreground.shape
    area = int(foreground.sum())
    if area == 0:
        return np.zeros_like(foreground)
    for _ in range(TRIES):
        rows, columns = (int(2 ** generator.integers(0, COARSEST + 1)) for _ in range(2))
        noise = perlin_noise(height, width, rows, columns, generator)
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), generator.uniform(-90, 90), 1.0)
        mask = np.asarray((cv2.warpAffine(noise, turn, (width, height)) > LEVEL) & foreground)
        if generator.random() < 0.5:
            mask = _some_pieces(mask, generator)
        if least * area <= mask.sum() <= largest * area and mask.any():
            return mask
    return _disc(foreground, generator.uniform(least, min(largest, 0.02)) * area, generator)


def _some_pieces(mask: Mask, generator: np.random.Generator) -> Mask:
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    if count <= 2:
        return mask
    chosen = 1 + generator.permutation(count - 1)[: generator.integers(1, MOST_PIECES + 1)]
    return np.asarray(np.isin(labels, chosen))


def _disc(foreground: Mask, area: float, generator: np.random.Generator) -> Mask:
    rows, columns = np.nonzero(foreground)
    centre = int(generator.integers(len(rows)))
    v, u = np.mgrid[: foreground.shape[0], : foreground.shape[1]]
    squared = (v - rows[centre]) ** 2 + (u - columns[centre]) ** 2
    return np.asarray((squared <= max(area / np.pi, 1.0)) & foreground)
