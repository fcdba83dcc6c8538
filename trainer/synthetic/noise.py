"""Random textures: smooth value noise, fractal sums, tiles to cut windows from."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Image:
    """(height, width) float32, mean 0, standard deviation 1: random points `cell` pixels apart,
    cubic between them.
    """
    rows, columns = int(np.ceil(height / cell)) + 3, int(np.ceil(width / cell)) + 3
    grid = rng.standard_normal((rows, columns), np.float32)
    big = cv2.resize(grid, None, fx=cell, fy=cell, interpolation=cv2.INTER_CUBIC)
    top, left = int(cell), int(cell)
    field = big[top : top + height, left : left + width]
    return cast(Image, (field - field.mean()) / max(float(field.std()), 1e-6))


def fractal_noise(
    rng: np.random.Generator,
    height: int,
    width: int,
    cell: float,
    octaves: int = 4,
    decay: float = 0.55,
) -> Image:
    """Octaves of smooth noise, each of half the pitch and `decay` the amplitude of the last;
    standard deviation 1.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        pitch = max(cell / 2**octave, 1.0)
        total += decay**octave * smooth_noise(rng, height, width, pitch)
    return cast(Image, total / np.float32(total.std()))


class Tile:
    """A large texture drawn once, of which every part gets a window of its own: as good as new
    noise, and free.
    """

    def __init__(self, texture: Image) -> None:
        self._texture = texture

    def window(self, rng: np.random.Generator, height: int, width: int) -> Image:
        """A random (height, width) window, mirrored at random."""
        top = int(rng.integers(0, self._texture.shape[0] - height + 1))
        left = int(rng.integers(0, self._texture.shape[1] - width + 1))
        view = self._texture[top : top + height, left : left + width]
        flips = rng.integers(0, 2, 2)
        return np.ascontiguousarray(view[:: 1 - 2 * int(flips[0]), :: 1 - 2 * int(flips[1])])
