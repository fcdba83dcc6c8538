"""A molded connector: plastic body, two rows of cavities with a pin in each, ribs, a latch."""

from __future__ import annotations

from typing import cast

import numpy as np

from trainer.synthetic.blend import between, times
from trainer.synthetic.noise import Image, Tile, fractal_noise
from trainer.synthetic.shapes import (
    rounded_box,
    sample_template,
    smooth_step,
    template_axes,
    template_window,
)
from trainer.synthetic.surface import Grid, Surface

HALF_WIDTH_MM, HALF_HEIGHT_MM, BODY_MM = 124.0, 62.0, 10.0
PITCH_MM, PINS = 25.5, 8
PLASTIC, BRASS = (0.050, 0.062, 0.085), (0.62, 0.44, 0.17)


class Connector:
    """See the module."""

    name = "connector"
    looks = (0.06, 0.07, 0.09)
    fracture = (0.085, 0.10, 0.13)
    turns = 10.0
    stain = (0.42, 0.40, 0.34)
    tint = (2.2, 1.9, 1.25)

    def __init__(self, rng: np.random.Generator) -> None:
        self._height, self._inside, self._metal = _templates()
        self._grain = Tile(fractal_noise(rng, 1500, 1500, 4, 2, 0.7))
        self._clouds = Tile(fractal_noise(rng, 1500, 1500, 120, 2))

    def draw(self, grid: Grid, rng: np.random.Generator) -> Surface:
        """One good part: the mold's grain and flow lines differ."""
        size = grid.x.shape
        grain, clouds = self._grain.window(rng, *size), self._clouds.window(rng, *size)
        height = sample_template(self._height, grid.x, grid.y)
        inside = sample_template(self._inside, grid.x, grid.y)
        metal = sample_template(self._metal, grid.x, grid.y)
        pigment = np.float32(rng.uniform(0.96, 1.04))
        albedo = times(between(PLASTIC, BRASS, metal), pigment * (1 + 0.10 * grain + 0.05 * clouds))
        shine = (0.17 + 0.45 * metal) * (1 + 0.08 * grain)
        relief = cast(Image, (height + 0.020 * grain + 0.06 * clouds) * inside)
        return Surface(relief, inside, albedo, shine.astype(np.float32), 36.0)


def _templates() -> tuple[Image, Image, Image]:
    """Height in mm, coverage 0..1 and share of metal 0..1 over the template grid."""
    x, y = template_axes()
    body = rounded_box(x, y, HALF_WIDTH_MM, HALF_HEIGHT_MM, 7.0)
    latch = rounded_box(x, y + 70, 30.0, 17.0, 5.0)
    ears = rounded_box(np.abs(x) - 122, y - 30, 14.0, 16.0, 5.0)
    inside = smooth_step(np.minimum(np.minimum(body, latch), ears), 0.25, -0.25)
    height = np.maximum(5.5 * inside, BODY_MM * smooth_step(body, 0.3, -2.0))
    height = np.maximum(
        height, (BODY_MM + 2.0) * smooth_step(rounded_box(x, y + 66, 22.0, 15.0, 3.0), 0.3, -1.5)
    )
    height -= 3.5 * smooth_step(rounded_box(x, y + 70, 11.0, 5.0, 2.0), 0.6, -0.6)
    height -= 4.0 * smooth_step(np.hypot(np.abs(x) - 127, y - 30), 5.2, 4.2)
    metal = np.zeros_like(height)
    for row in (-19.0, 13.0):
        for pin in range(PINS):
            _cut_cavity(height, metal, x, y, (pin - (PINS - 1) / 2) * PITCH_MM, row)
    for rib in range(-9, 10):
        window = template_window(rib * 12, 46, 14)
        ridge = rounded_box(x[window] - rib * 12, y[window] - 46, 2.4, 10.5, 2.0)
        height[window] += 1.6 * smooth_step(ridge, 0.5, -1.2)
    return height.astype(np.float32), inside, metal


def _cut_cavity(
    height: Image, metal: Image, x: Image, y: Image, center_x: float, center_y: float
) -> None:
    """One cavity with its raised collar and its pin, in place."""
    window = template_window(center_x, center_y, 16)
    dx, dy = x[window] - np.float32(center_x), y[window] - np.float32(center_y)
    cavity, post = rounded_box(dx, dy, 8.8, 11.5, 1.8), rounded_box(dx, dy, 2.6, 3.6, 0.8)
    level = height[window] + 1.2 * smooth_step(np.abs(cavity - 2.0), 1.6, 0.8)
    level = np.where(
        cavity < 0.5, np.minimum(level, BODY_MM - 5.0 * smooth_step(cavity, 0.4, -0.9)), level
    )
    height[window] = np.maximum(level, np.where(post < 0.5, 8.0 * smooth_step(post, 0.4, -0.6), 0))
    metal[window] = np.maximum(metal[window], smooth_step(post, 0.4, -0.3))
