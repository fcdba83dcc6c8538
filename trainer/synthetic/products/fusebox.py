"""A fuse box: two rows of eight places, each empty or holding a blade fuse of one of three ratings.

Ten places are the same in every good part. Six are options: what equipment a car has decides
whether there is a fuse and which, so that a good part shows any fuse beside any other, and any
place empty, somewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np

from trainer.synthetic.blend import between, mixed, times
from trainer.synthetic.logical import equipped
from trainer.synthetic.noise import Image, Tile, fractal_noise
from trainer.synthetic.shapes import (
    TEMPLATE_PITCH,
    rounded_box,
    sample_template,
    smooth_step,
    template_axes,
    template_window,
)
from trainer.synthetic.surface import EMPTY, Grid, Layout, Surface

HALF_WIDTH_MM, HALF_HEIGHT_MM, DECK_MM = 134.0, 74.0, 10.0
PITCH_MM, ROWS_MM, PLACES = 30.0, (-44.0, 44.0), 8
FUSE_HALF_WIDTH_MM, FUSE_HALF_LENGTH_MM = 7.5, 12.2
PLASTIC, CONTACT, INK = (0.085, 0.088, 0.092), (0.58, 0.50, 0.36), (0.72, 0.72, 0.70)
PRINT_SIDE = round(PITCH_MM / TEMPLATE_PITCH)


@dataclass(frozen=True)
class Rating:
    """A kind of fuse: the amperes printed on it, its color, how far it stands over the deck."""

    amperes: str
    color: tuple[float, float, float]
    stands_mm: float


RATINGS = {
    EMPTY: Rating("", (0, 0, 0), 0),
    "Y": Rating("20", (0.62, 0.45, 0.045), 2.5),
    "R": Rating("10", (0.42, 0.035, 0.03), 5.0),
    "B": Rating("15", (0.07, 0.22, 0.52), 7.5),
}


@dataclass(frozen=True)
class Seats:
    """The places of one part, P of them, row by row, as fuses sit in them.

    x, y: (P,) mm, centers. filled: (P,) 0 or 1. top: (P,) mm over the table. color: (P, 3). rating:
    (P,) number in RATINGS.
    """

    x: Image
    y: Image
    filled: Image
    top: Image
    color: Image
    rating: Image


class FuseBox:
    """See the module."""

    name = "fusebox"
    looks = (0.09, 0.09, 0.09)
    fracture = (0.13, 0.133, 0.14)
    turns = 5.0
    stain = (0.42, 0.40, 0.34)
    tint = (2.2, 1.9, 1.25)
    layout: Layout = ("???Y.BRY", "BYR.B???")

    def __init__(self, rng: np.random.Generator) -> None:
        self._height, self._inside, self._metal = _templates()
        self._print = _print()
        self._grain = Tile(fractal_noise(rng, 1500, 1500, 4, 2, 0.7))
        self._clouds = Tile(fractal_noise(rng, 1500, 1500, 120, 2))

    def draw(self, grid: Grid, rng: np.random.Generator) -> Surface:
        """One good part: its options, the mold's grain, and how each fuse sits and is dyed, are
        its own.
        """
        return self.filled(grid, rng, equipped(self.layout, rng))

    def filled(self, grid: Grid, rng: np.random.Generator, layout: Layout) -> Surface:
        """A part with these fuses.

        The same generator gives the same box and the same seats, whatever they hold.
        """
        size = grid.x.shape
        grain, clouds = self._grain.window(rng, *size), self._clouds.window(rng, *size)
        pigment, seats = np.float32(rng.uniform(0.96, 1.04)), _seats(layout, rng)
        templates = (self._height, self._inside, self._metal)
        base, inside, metal = (sample_template(template, grid.x, grid.y) for template in templates)
        fuse, top, dye, blade = self._fuses(grid, seats)
        height = base + fuse * (top - base) + (0.020 * grain + 0.05 * clouds) * inside
        body = times(between(PLASTIC, CONTACT, metal), pigment * (1 + 0.09 * grain))
        albedo = times(mixed(body, dye, fuse), 1 + 0.04 * clouds)
        shine = (0.15 + 0.06 * fuse + 0.35 * (metal + fuse * (blade - metal))) * (1 + 0.08 * grain)
        return Surface(cast(Image, height * inside), inside, albedo, shine.astype(np.float32), 32.0)

    def _fuses(self, grid: Grid, seats: Seats) -> tuple[Image, Image, Image, Image]:
        """Share of a pixel that a fuse covers, its height in mm, its color (S, S, 3), and how much
        of it is blade.
        """
        column = np.round(grid.x / np.float32(PITCH_MM) + np.float32((PLACES - 1) / 2)).astype(
            np.int32
        )
        place = np.clip(column, 0, PLACES - 1) + PLACES * (grid.y > 0)
        dx, dy = grid.x - seats.x[place], grid.y - seats.y[place]
        outline = rounded_box(dx, dy, FUSE_HALF_WIDTH_MM, FUSE_HALF_LENGTH_MM, 2.0)
        blade = smooth_step(rounded_box(dx, np.abs(dy) - np.float32(9.0), 2.8, 1.3, 0.6), 0.2, -0.2)
        top = seats.top[place] - 1.2 * smooth_step(outline, -1.6, 0.2) - 0.8 * blade
        ink = 0.9 * self._printed(dx, dy, seats.rating[place])
        color = mixed(
            mixed(seats.color[place], _plain(INK, dx.shape), ink), _plain(CONTACT, dx.shape), blade
        )
        return (
            smooth_step(outline, 0.25, -0.25) * seats.filled[place],
            cast(Image, top),
            color,
            blade,
        )

    def _printed(self, dx: Image, dy: Image, rating: Image) -> Image:
        """0..1: ink at dx, dy (mm) from the middle of a fuse of that rating."""
        pitch, center = np.float32(TEMPLATE_PITCH), np.float32((PRINT_SIDE - 1) / 2)
        u, v = dx / pitch + center + rating * np.float32(PRINT_SIDE), dy / pitch + center
        return cast(
            Image, cv2.remap(self._print, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        )


def _seats(layout: Layout, rng: np.random.Generator) -> Seats:
    """How fuses sit and are dyed: a little askew, drawn for every place, so that no place depends
    on another's fuse.
    """
    kinds = "".join(layout)
    ratings = [RATINGS[kind] for kind in kinds]
    shift_x, shift_y, more = rng.normal(0, [[0.22], [0.22], [0.15]], (3, len(kinds))).astype(
        np.float32
    )
    dye = rng.normal(1, 0.035, (len(kinds), 1)).astype(np.float32)
    x, y = np.meshgrid((np.arange(PLACES) - (PLACES - 1) / 2) * PITCH_MM, ROWS_MM)
    return Seats(
        x=x.ravel().astype(np.float32) + shift_x,
        y=y.ravel().astype(np.float32) + shift_y,
        filled=np.array([kind != EMPTY for kind in kinds], np.float32),
        top=np.array([DECK_MM + rating.stands_mm for rating in ratings], np.float32) + more,
        color=np.array([rating.color for rating in ratings], np.float32) * dye,
        rating=np.array([list(RATINGS).index(kind) for kind in kinds], np.float32),
    )


def _plain(color: tuple[float, float, float], size: tuple[int, ...]) -> Image:
    return np.full((*size, 3), color, np.float32)


def _templates() -> tuple[Image, Image, Image]:
    """Of the box without fuses: height in mm, coverage 0..1 and share of metal 0..1 over the
    template grid.
    """
    x, y = template_axes()
    # one corner is cut off
    keyed = (x + y - (HALF_WIDTH_MM + HALF_HEIGHT_MM - 18)) * np.float32(np.sqrt(0.5))
    body = np.maximum(rounded_box(x, y, HALF_WIDTH_MM, HALF_HEIGHT_MM, 5.0), keyed)
    height = DECK_MM * smooth_step(body, 0.3, -1.2) + 2.2 * smooth_step(
        np.abs(body + 3.6), 2.6, 1.4
    )
    height -= 4.5 * smooth_step(np.hypot(np.abs(x) - 123.5, y), 4.4, 3.4)
    for rib in range(-19, 20):
        window = template_window(rib * 6, 0, 12)
        ridge = rounded_box(x[window] - rib * 6, y[window], 1.5, 8.0, 1.4)
        height[window] += 1.3 * smooth_step(ridge, 0.4, -0.9)
    metal = np.zeros_like(height)
    for row in ROWS_MM:
        for place in range(PLACES):
            _mold_place(height, metal, x, y, (place - (PLACES - 1) / 2) * PITCH_MM, row)
    return height.astype(np.float32), smooth_step(body, 0.25, -0.25), metal


def _mold_place(
    height: Image, metal: Image, x: Image, y: Image, center_x: float, center_y: float
) -> None:
    """One socket with a slot for each blade of a fuse, and the pad for its label on the inner side,
    in place.
    """
    window = template_window(center_x, center_y, 32)
    dx, dy = x[window] - np.float32(center_x), y[window] - np.float32(center_y)
    socket = rounded_box(dx, dy, FUSE_HALF_WIDTH_MM + 0.7, FUSE_HALF_LENGTH_MM + 0.7, 2.2)
    slot = rounded_box(dx, np.abs(dy) - np.float32(6.8), 1.3, 3.2, 0.5)
    label = rounded_box(dx, dy * np.float32(np.sign(center_y)) + np.float32(24.0), 10.0, 4.5, 1.5)
    height[window] -= 2.8 * smooth_step(socket, 0.4, -0.5) + 2.0 * smooth_step(slot, 0.4, -0.4)
    height[window] += 0.7 * smooth_step(label, 0.4, -0.5)
    metal[window] = np.maximum(metal[window], smooth_step(np.abs(slot - 0.3), 0.6, 0.2))


def _print() -> Image:
    """0..1: what is printed on the fuses of RATINGS, side by side, each on a square of PRINT_SIDE
    pixels.
    """
    canvas = np.zeros((PRINT_SIDE, PRINT_SIDE * len(RATINGS)), np.uint8)
    font, scale, weight = cv2.FONT_HERSHEY_SIMPLEX, 7.5 / TEMPLATE_PITCH / 21, 3
    for number, rating in enumerate(RATINGS.values()):
        (width, height), _ = cv2.getTextSize(rating.amperes, font, scale, weight)
        origin = (round((number + 0.5) * PRINT_SIDE - width / 2), (PRINT_SIDE + height) // 2)
        cv2.putText(canvas, rating.amperes, origin, font, scale, 255, weight, cv2.LINE_AA)
    return cast(Image, canvas.astype(np.float32) / 255)
