"""A rope laid in an S: three twisted strands with a blue tracer, its ends whipped with red
thread.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.blend import mixed, times, tinted
from trainer.synthetic.noise import Image, Tile, fractal_noise
from trainer.synthetic.shapes import TEMPLATE_PITCH, sample_template, smooth_step, template_axes
from trainer.synthetic.surface import Grid, Surface

RADIUS_MM, ARC_MM, LAY_MM = 27.0, 56.0, 96.0
WHIPPING_MM = 26.0
FLATTENED = 0.34  # it lies pressed by its own weight


class Rope:
    """See the module."""

    name = "rope"
    looks = (0.38, 0.28, 0.16)
    fracture = (0.58, 0.46, 0.28)
    turns = 10.0
    stain = (0.045, 0.04, 0.04)
    tint = (0.62, 0.86, 0.50)

    def __init__(self, rng: np.random.Generator) -> None:
        self._along, self._across, self._away, self._length = _curve_coordinates()
        self._fuzz = Tile(fractal_noise(rng, 1500, 1500, 4, 2, 0.7))
        self._clouds = Tile(fractal_noise(rng, 1500, 1500, 220, 1))

    def draw(self, grid: Grid, rng: np.random.Generator) -> Surface:
        """One good part: the twist starts a little earlier or later, the S bends a little."""
        size = grid.x.shape
        fuzz, clouds = self._fuzz.window(rng, *size), self._clouds.window(rng, *size)
        x, y = grid.x + 0.9 * clouds, grid.y + 0.9 * clouds[::-1]
        along, across = sample_template(self._along, x, y), sample_template(self._across, x, y)
        near = sample_template(self._away, x, y, 1e3) < 1.2 * RADIUS_MM
        twist = np.float32(2 * np.pi / LAY_MM) * along + np.float32(rng.normal(0, 0.13))
        height, strand, offset = _strands(twist, across)
        ends = np.minimum(along, self._length - along)
        whipped = smooth_step(ends, WHIPPING_MM + 0.5, WHIPPING_MM - 0.5)
        bound = np.sqrt(np.maximum((0.90 * RADIUS_MM) ** 2 - across * across, 0))
        bound += np.where(bound > 0, 0.95 * RADIUS_MM, 0).astype(np.float32)
        thread = np.sin(along * np.float32(2 * np.pi / 3.2) + 0.02 * across)
        height = height * (1 - whipped) + (bound + 0.5 * thread) * whipped
        inside = smooth_step(height, 8.0, 9.0) * smooth_step(ends, 0.0, 0.8) * near
        yarn = np.sin(
            0.62 * offset * np.float32(2 * np.pi / 2.3)
            + along * np.float32(2 * np.pi / 7.0)
            + 0.5 * fuzz
        )
        albedo = _albedo(strand, yarn, fuzz, whipped, thread)
        height = height + (0.16 * yarn * (1 - whipped) + 0.10 * fuzz) * inside
        height = FLATTENED * height * smooth_step(ends, -0.5, 5.0)
        shine = np.full(size, 0.03, np.float32)
        return Surface(
            cast(Image, (height * inside).astype(np.float32)), inside, albedo, shine, 10.0
        )


def _strands(twist: Image, across: Image) -> tuple[Image, NDArray[np.int8], Image]:
    """Height in mm of the topmost of three round strands on a helix, its number, and the place
    across it (mm).
    """
    axis, thick = 0.53 * RADIUS_MM, 0.52 * RADIUS_MM
    height = np.zeros_like(across)
    strand = np.zeros(across.shape, np.int8)
    offset = np.zeros_like(across)
    for number in range(3):
        angle = twist + np.float32(number * 2 * np.pi / 3)
        place = across - np.float32(axis) * np.sin(angle)
        top = np.sqrt(np.maximum(np.float32(thick * thick) - place * place, 0))
        level = np.where(top > 0, top + np.float32(axis) * np.cos(angle) + np.float32(RADIUS_MM), 0)
        higher = level > height
        height = np.where(higher, level, height)
        strand[higher] = number
        offset = np.where(higher, place, offset)
    return height.astype(np.float32), strand, offset.astype(np.float32)


def _albedo(
    strand: NDArray[np.int8], yarn: Image, fuzz: Image, whipped: Image, thread: Image
) -> Image:
    """(S, S, 3): two strands of hemp, one blue, the ends red."""
    palette = np.array([[0.50, 0.36, 0.19], [0.50, 0.36, 0.19], [0.07, 0.16, 0.36]], np.float32)
    fibre = times(palette[strand], 1 + 0.22 * yarn + 0.10 * fuzz)
    binding = tinted(1 + 0.25 * thread + 0.05 * fuzz, (0.42, 0.045, 0.04))
    return mixed(fibre, binding, whipped)


def _curve() -> NDArray[np.float32]:
    """(P, 2) points of the S in mm, 0.5 mm apart: tail, arc, opposite arc, tail."""
    turn = np.deg2rad(np.arange(0.0, 215.0, np.rad2deg(0.5 / ARC_MM)))
    upper = np.stack([ARC_MM * np.sin(turn), -ARC_MM + ARC_MM * np.cos(turn)], 1)
    heading = np.array([np.cos(turn[-1]), -np.sin(turn[-1])])
    tail = upper[-1] + np.arange(0.5, 44.0, 0.5)[:, None] * heading
    half = np.concatenate([upper, tail])
    return np.concatenate([-half[::-1], half[1:]]).astype(np.float32)


def _curve_coordinates() -> tuple[Image, Image, Image, float]:
    """Over the template grid, mm: distance along the S, signed distance across it, distance from it
    (1000 far away);

    and the length of the S.
    """
    points = _curve()
    steps = np.hypot(*np.diff(points, axis=0).T)
    lengths = np.concatenate([[0], np.cumsum(steps)]).astype(np.float32)
    x, y = template_axes()
    along, across = np.zeros_like(x), np.zeros_like(x)
    heading = np.gradient(points, axis=0)
    heading /= np.hypot(*heading.T)[:, None]
    near = np.full_like(x, 1e6)
    reach = int(1.4 * RADIUS_MM / TEMPLATE_PITCH)
    center = (x.shape[0] - 1) / 2
    for point, direction, length in zip(points, heading, lengths, strict=True):
        column, row = (np.round(point / TEMPLATE_PITCH + center)).astype(int)
        window = (
            slice(max(row - reach, 0), row + reach),
            slice(max(column - reach, 0), column + reach),
        )
        dx, dy = x[window] - point[0], y[window] - point[1]
        squared = dx * dx + dy * dy
        closer = squared < near[window]
        near[window][closer] = squared[closer]
        along[window][closer] = (length + dx * direction[0] + dy * direction[1])[closer]
        across[window][closer] = (dy * direction[0] - dx * direction[1])[closer]
    return along, across, np.sqrt(near), float(lengths[-1])
