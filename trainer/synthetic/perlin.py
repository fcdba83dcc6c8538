"""Where synthetic anomalies lie: thresholded Perlin noise on the part.

Gradient noise with the fade of Perlin, Improving Noise (SIGGRAPH 2002); masks as DRAEM draws them
(Zavrtanik et al., ICCV 2021, section 3.3), which AAND takes over (section III-B, Anomaly
synthesis). DRAEM's masks are large, and real damages are small: half of the masks here keep only a
few of their connected pieces.
"""

from __future__ import annotations

import math
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.noise import Image, smooth_noise

Mask = NDArray[np.bool_]

FINEST = 6  # gradient cells per axis: 2**0 to 2**6
CELL_PX = 4  # a cell is at least this many pixels wide
THRESHOLD = 0.5
MOST_PIECES = 4
LEAST_PX = 4  # a smaller mask is no anomaly that an image of this size could show
TRIES = 12


def perlin_noise(
    height: int, width: int, cells: tuple[int, int], rng: np.random.Generator
) -> Image:
    """Gradient noise within -1..1, sampled at pixel centers, 0 at the corners of the cells.

    In a cell, the noise is the blend of its corners' gradients (unit vectors) times the way from
    each corner, by the fade 6t^5 - 15t^4 + 10t^3 per axis. The blend is separable, so all pixels
    are two matrix products.

    Args:
        height, width: pixels. cells: rows and columns of gradient cells, any numbers >= 1.
    Returns: (height, width) float32; times sqrt(2), as the largest of the plain noise is sqrt(1/2).
    """
    angle = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1)).astype(np.float32)
    fade_y, way_y = _corners(height, cells[0])
    fade_x, way_x = _corners(width, cells[1])
    noise = fade_y @ np.cos(angle) @ way_x.T + way_y @ np.sin(angle) @ fade_x.T
    return cast(Image, np.float32(math.sqrt(2)) * noise)


def _corners(pixels: int, cells: int) -> tuple[Image, Image]:
    """(pixels, cells + 1) each: the weight of a corner at a pixel, and that times the signed way in
    cells.
    """
    position = (np.arange(pixels) + 0.5) * cells / pixels
    cell = np.minimum(position.astype(int), cells - 1)
    t = position - cell
    fade = t * t * t * (t * (6 * t - 15) + 10)
    weight, way = np.zeros((2, pixels, cells + 1), np.float32)
    rows = np.arange(pixels)
    weight[rows, cell], weight[rows, cell + 1] = 1 - fade, fade
    way[rows, cell], way[rows, cell + 1] = (1 - fade) * t, fade * (t - 1)
    return weight, way


def perlin_mask(height: int, width: int, rng: np.random.Generator) -> Mask:
    """(height, width) bool: noise of random cells per axis, turned at random, above 0.5.

    It may be empty.
    """
    cells = _drawn_cells(height, rng), _drawn_cells(width, rng)
    noise = perlin_noise(height, width, cells, rng)
    turn = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), float(rng.uniform(-90, 90)), 1.0
    )
    turned = cv2.warpAffine(
        noise, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return cast(Mask, turned > THRESHOLD)


def _drawn_cells(pixels: int, rng: np.random.Generator) -> int:
    """A power of two, 1 to 64, of cells of at least CELL_PX pixels."""
    finest = min(FINEST, int(math.log2(max(pixels / CELL_PX, 1))))
    return int(2 ** rng.integers(0, finest + 1))


def some_pieces(mask: Mask, rng: np.random.Generator) -> Mask:
    """One to four of the mask's connected pieces, chosen at random."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = rng.permutation(np.arange(1, count))[: rng.integers(1, MOST_PIECES + 1)]
    return np.isin(labels, kept)


def anomaly_mask(
    foreground: Mask, rng: np.random.Generator, least: float = 0.0005, most: float = 0.2
) -> Mask:
    """Where an anomaly lies: a share of the foreground, never empty unless the foreground is.

    Perlin masks are drawn until one covers enough and not too much of the foreground; after twelve
    in vain, a blob whose share is within the bounds.

    Args:
        foreground: (h, w) bool. least, most: share of the foreground; `least` is LEAST_PX pixels at
            the least.
    Returns: (h, w) bool.
    """
    pixels = int(foreground.sum())
    smallest = max(math.ceil(least * pixels), LEAST_PX)
    largest = max(int(most * pixels), smallest)
    height, width = foreground.shape
    for _ in range(TRIES if pixels else 0):
        mask = perlin_mask(height, width, rng) & foreground
        if rng.uniform() < 0.5:
            mask = some_pieces(mask, rng)
        if smallest <= mask.sum() <= largest:
            return mask
    share = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    return _blob(foreground, min(pixels, round(share)), rng)


def _blob(foreground: Mask, pixels: int, rng: np.random.Generator) -> Mask:
    """The `pixels` pixels of the foreground nearest to one of them, along a random ellipse with a
    rough outline.
    """
    mask = np.zeros_like(foreground)
    height, width = foreground.shape
    rows, columns = np.nonzero(foreground)
    if not pixels:
        return mask
    center, turn = int(rng.integers(len(rows))), float(rng.uniform(0, np.pi))
    stretch = float(np.exp(rng.uniform(-0.7, 0.7)))
    dy, dx = rows - rows[center], columns - columns[center]
    along = (dx * np.cos(turn) + dy * np.sin(turn)) / stretch
    across = (dy * np.cos(turn) - dx * np.sin(turn)) * stretch
    cell = max(2.0, math.sqrt(pixels) / 2)
    rough = 1 + 0.2 * np.clip(smooth_noise(rng, height, width, cell)[rows, columns], -2, 2)
    nearest = np.argpartition(np.hypot(along, across) * rough, pixels - 1)[:pixels]
    mask[rows[nearest], columns[nearest]] = True
    return mask
