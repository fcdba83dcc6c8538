"""A turned metal washer: a bore, chamfers, a turned groove, concentric marks that catch the
light.
"""

from __future__ import annotations

import numpy as np

from trainer.synthetic.blend import tinted
from trainer.synthetic.noise import Image, Tile, fractal_noise
from trainer.synthetic.shapes import smooth_step
from trainer.synthetic.surface import Grid, Surface

OUTER_MM, BORE_MM, THICKNESS_MM = 118.0, 44.0, 12.0
STEPS_PER_MM = 8


class Washer:
    """See the module."""

    name = "washer"
    looks = (0.36, 0.355, 0.34)
    fracture = (0.20, 0.195, 0.19)
    turns = 180.0
    stain = (0.10, 0.055, 0.02)
    tint = (1.05, 0.72, 0.40)

    def __init__(self, rng: np.random.Generator) -> None:
        self._grain = Tile(fractal_noise(rng, 1500, 1500, 6, 3))
        self._clouds = Tile(fractal_noise(rng, 1500, 1500, 150, 2))

    def draw(self, grid: Grid, rng: np.random.Generator) -> Surface:
        """One good part: bore, groove and marks differ a little from part to part."""
        radius = np.sqrt(grid.x * grid.x + grid.y * grid.y)
        bore = BORE_MM * float(rng.uniform(0.985, 1.015))
        height_table, mark_table = self._tables(bore, rng)
        index = np.minimum((radius * STEPS_PER_MM).astype(np.int32), height_table.size - 1)
        height, marks = height_table[index], mark_table[index]
        grain = self._grain.window(rng, *radius.shape)
        clouds = self._clouds.window(rng, *radius.shape)
        inside = smooth_step(radius, OUTER_MM + 0.2, OUTER_MM - 0.2) * smooth_step(
            radius, bore - 0.2, bore + 0.2
        )
        bright = 0.135 + 0.017 * marks + 0.007 * grain + 0.004 * clouds
        albedo = tinted(bright, (1.0, 0.985, 0.95))
        shine = 0.46 * (1 + 0.20 * marks + 0.06 * grain)
        cos, sin = np.float32(np.cos(grid.turn)), np.float32(np.sin(grid.turn))
        # as the view is turned
        towards_x, towards_y = (cos * grid.x - sin * grid.y, sin * grid.x + cos * grid.y)
        scale = 1 / np.maximum(radius, 1)
        tangent = np.stack([-towards_y * scale, towards_x * scale], -1)
        return Surface(
            height, inside, albedo, shine.astype(np.float32), 46.0, tangent.astype(np.float32)
        )

    def _tables(self, bore: float, rng: np.random.Generator) -> tuple[Image, Image]:
        """Height in mm and strength of the turning marks (unit RMS) over the radius."""
        r = np.arange(0, 260 * STEPS_PER_MM, dtype=np.float32) / STEPS_PER_MM
        chamfer = 5.0
        height = THICKNESS_MM - 4.0 * smooth_step(r, OUTER_MM - chamfer, OUTER_MM)
        height -= 3.0 * smooth_step(r, bore + chamfer, bore)
        groove = 84.0 + float(rng.uniform(-0.6, 0.6))
        height -= 2.4 * smooth_step(np.abs(r - groove), 4.2, 2.6)
        height[(r > OUTER_MM) | (r < bore)] = 0
        marks = np.convolve(rng.standard_normal(r.size), np.hanning(7), "same").astype(np.float32)
        marks = (
            marks / marks.std()
            + np.sin(r * 2 * np.pi / 1.6 + float(rng.uniform(0, 6))).astype(np.float32) * 0.6
        )
        return height.astype(np.float32), marks.astype(np.float32)
