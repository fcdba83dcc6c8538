"""An embossed biscuit: scalloped edge, a ridged rim, docker holes, raised letters, browned where it
stands up.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from trainer.synthetic.blend import between, times
from trainer.synthetic.noise import Image, Tile, fractal_noise, smooth_noise
from trainer.synthetic.shapes import (
    TEMPLATE_PITCH,
    rounded_box,
    sample_template,
    smooth_step,
    template_axes,
    template_window,
)
from trainer.synthetic.surface import Grid, Surface

HALF_WIDTH_MM, HALF_HEIGHT_MM, THICKNESS_MM = 118.0, 86.0, 9.0
SCALLOP_MM = 32 / 3
PALE, DARK = (0.68, 0.45, 0.21), (0.33, 0.135, 0.038)


class Biscuit:
    """See the module."""

    name = "biscuit"
    looks = (0.50, 0.30, 0.13)
    fracture = (0.60, 0.42, 0.21)
    turns = 10.0
    stain = (0.06, 0.02, 0.015)
    tint = (0.60, 0.45, 0.36)

    def __init__(self, rng: np.random.Generator) -> None:
        self._template, self._browned = _templates()
        self._crumb = Tile(fractal_noise(rng, 1500, 1500, 5, 3, 0.7))
        self._clouds = Tile(fractal_noise(rng, 1500, 1500, 130, 3))
        pores = smooth_noise(rng, 1500, 1500, 4.5)
        self._pores = Tile(smooth_step(pores, 2.2, 3.0))

    def draw(self, grid: Grid, rng: np.random.Generator) -> Surface:
        """One good part: crumb, pores and browning are its own."""
        size = grid.x.shape
        crumb, clouds, pores = (
            tile.window(rng, *size) for tile in (self._crumb, self._clouds, self._pores)
        )
        bend = 0.7
        x, y = grid.x + bend * clouds, grid.y + bend * clouds[::-1]
        shape, browned = sample_template(self._template, x, y), sample_template(self._browned, x, y)
        inside = smooth_step(shape, 1.0, 2.6)
        height = shape + (0.10 * crumb + 0.12 * clouds - 0.5 * pores) * inside
        brown = (
            smooth_step(shape, THICKNESS_MM - 4.0, THICKNESS_MM + 2.6)
            + 0.10 * clouds
            + 0.05 * crumb
        )
        baked = np.clip(
            0.16 + 0.50 * (brown - 0.45) + 0.58 * browned + float(rng.normal(0, 0.025)), 0, 1
        )
        albedo = times(between(PALE, DARK, baked), 1 + 0.055 * crumb - 0.35 * pores)
        shine = np.full(size, 0.035, np.float32)
        return Surface(cast(Image, height * inside), inside, albedo, shine, 12.0)


def _templates() -> tuple[Image, Image]:
    """Height in mm and how brown the place is (0..1) over the template grid."""
    x, y = template_axes()
    beside = np.abs(x) - HALF_WIDTH_MM > np.abs(y) - HALF_HEIGHT_MM
    wave = np.cos(
        np.where(beside, HALF_HEIGHT_MM - np.abs(y), HALF_WIDTH_MM - np.abs(x))
        * (2 * np.pi / SCALLOP_MM)
    )
    box = rounded_box(x, y, HALF_WIDTH_MM, HALF_HEIGHT_MM, 10.0)
    inside = -(box - 2.0 * wave)  # scalloped; the corner ends in a tooth from both sides
    height = THICKNESS_MM * smooth_step(inside, -2.5, 7.0)
    rim = smooth_step(np.abs(-box - 12), 6.0, 2.0)
    height += rim * (1.5 + 0.6 * wave)
    height += 2.0 * _letters(x.shape) * smooth_step(-box, 20, 24)
    docked = [(column * 27.0, row * 46.0) for row in (-1, 1) for column in range(-3, 4)]
    for hole_x, hole_y in [*docked, (-94.0, 0.0), (94.0, 0.0)]:
        window = template_window(hole_x, hole_y, 10)
        distance = np.hypot(x[window] - hole_x, y[window] - hole_y)
        height[window] -= 4.5 * smooth_step(distance, 4.2, 1.8)
        height[window] += 0.5 * smooth_step(np.abs(distance - 5.6), 2.2, 0.4)
    browned = 0.75 * smooth_step(-box, 24, 5) + 0.25 * smooth_step(inside, 6, 0)
    return cast(Image, np.maximum(height, 0).astype(np.float32)), browned


def _letters(size: tuple[int, ...]) -> Image:
    """0..1: the maker's name, raised in the middle."""
    canvas = np.zeros(size, np.uint8)
    font, scale, weight = cv2.FONT_HERSHEY_DUPLEX, 15 / TEMPLATE_PITCH / 10.5, 14
    (width, height), _ = cv2.getTextSize("CRUMB", font, scale, weight)
    origin = ((size[1] - width) // 2, (size[0] + height) // 2)
    cv2.putText(canvas, "CRUMB", origin, font, scale, 255, weight, cv2.LINE_AA)
    soft = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), 1.2 / TEMPLATE_PITCH)
    return smooth_step(soft, 0.1, 0.75)
