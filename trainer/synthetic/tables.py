"""What synthetic parts lie on: a coated board, brushed steel, a rubber mat or wood, by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2
import numpy as np

from trainer.synthetic.blend import times
from trainer.synthetic.noise import Image, fractal_noise, smooth_noise

Color = tuple[float, float, float]

GAMMA = 2.2
LEAST_CONTRAST = 0.25  # between the gamma-encoded colors of table and part, of 1.73 at most
TRIES = 200
RIB_PX = 9.0  # of the rubber mat


def table_albedo(part: Color, height: int, width: int, rng: np.random.Generator) -> Image:
    """(height, width, 3): a table of random kind and color, which the part stands out from.

    part: linear RGB that the part shows by and large.
    Raises: RuntimeError if no kind of table differs enough from the part.
    """
    kinds = list(_KINDS)
    for _ in range(TRIES):
        draw_tint, draw_texture = _KINDS[kinds[int(rng.integers(len(kinds)))]]
        tint = draw_tint(rng)
        if _contrast(tint, part) >= LEAST_CONTRAST:
            factor = np.maximum(1 + draw_texture(rng, height, width), 0.2).astype(np.float32)
            plain = np.full((height, width, 3), tint, np.float32)
            return times(plain, factor)
    raise RuntimeError(f"no table stands out from a part of color {part}")


def another_table(own: Image, part: Color, rng: np.random.Generator) -> Image:
    """A table that differs from `own` in color, and the part from both.

    Raises: RuntimeError as table_albedo, or if none differs enough.
    """
    for _ in range(TRIES):
        albedo = table_albedo(part, own.shape[0], own.shape[1], rng)
        if _contrast(_mean(albedo), _mean(own)) >= LEAST_CONTRAST:
            return albedo
    raise RuntimeError(f"no table stands out from one of color {_mean(own)}")


def _mean(albedo: Image) -> Color:
    red, green, blue = albedo.mean(axis=(0, 1)).tolist()
    return red, green, blue


def _contrast(one: Color, other: Color) -> float:
    first, second = (np.power(np.array(color), 1 / GAMMA) for color in (one, other))
    return float(np.linalg.norm(first - second))


def _tinted(rng: np.random.Generator, dark: float, bright: float, tint: float) -> Color:
    """A gray between two, shifted in color by a factor of about 1 plus or minus `tint`."""
    gray = float(np.exp(rng.uniform(np.log(dark), np.log(bright))))
    red, green, blue = np.exp(rng.normal(0, tint, 3)).tolist()
    return gray * red, gray * green, gray * blue


def _board_tint(rng: np.random.Generator) -> Color:
    return _tinted(rng, 0.05, 0.42, 0.25)


def _steel_tint(rng: np.random.Generator) -> Color:
    return _tinted(rng, 0.15, 0.42, 0.02)


def _rubber_tint(rng: np.random.Generator) -> Color:
    return _tinted(rng, 0.015, 0.04, 0.05)


def _wood_tint(rng: np.random.Generator) -> Color:
    gray = float(np.exp(rng.uniform(np.log(0.08), np.log(0.45))))
    return gray, gray * float(rng.uniform(0.58, 0.72)), gray * float(rng.uniform(0.28, 0.45))


def _board(rng: np.random.Generator, height: int, width: int) -> Image:
    """Fine speckles and a few long faint scratches."""
    speckle = smooth_noise(rng, height, width, 2.0)
    clouds = fractal_noise(rng, height, width, 120, 3)
    scratches = np.zeros((height, width), np.uint8)
    for _ in range(14):
        start = rng.uniform(0, 1, 2) * (width, height)
        end = start + rng.normal(0, 130, 2)
        ends = [(round(x), round(y)) for x, y in (start.tolist(), end.tolist())]
        cv2.line(scratches, ends[0], ends[1], 255, 1, cv2.LINE_AA)
    return cast(Image, 0.06 * speckle + 0.035 * clouds + 0.10 * scratches.astype(np.float32) / 255)


def _steel(rng: np.random.Generator, height: int, width: int) -> Image:
    """Long fine brush strokes along one direction, and a cloudy sheen."""
    strokes = _streaks(rng, height, width, 61)
    clouds = fractal_noise(rng, height, width, 160, 2)
    return cast(Image, 0.10 * strokes + 0.05 * clouds)


def _rubber(rng: np.random.Generator, height: int, width: int) -> Image:
    """Fine ribs across each other, and dust."""
    turn = float(rng.uniform(0, np.pi))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    phase = np.float32(2 * np.pi / RIB_PX)
    ribs = np.cos((columns * np.cos(turn) + rows * np.sin(turn)) * phase)
    ribs += np.cos((rows * np.cos(turn) - columns * np.sin(turn)) * phase)
    dust = smooth_noise(rng, height, width, 2.0)
    return cast(Image, 0.09 * ribs + 0.10 * dust)


def _wood(rng: np.random.Generator, height: int, width: int) -> Image:
    """Year rings cut lengthwise: bands that wander, with fine pores along them."""
    waves = fractal_noise(rng, height, width, 190, 3)
    turn = float(rng.uniform(0, np.pi))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    across = columns * np.cos(turn) + rows * np.sin(turn)
    bands = np.sin(across / np.float32(rng.uniform(7, 14)) + 2.5 * waves)
    return cast(Image, 0.11 * bands + 0.05 * _streaks(rng, height, width, 31, turn + np.pi / 2))


def _streaks(
    rng: np.random.Generator, height: int, width: int, length: int, turn: float | None = None
) -> Image:
    """White noise smeared over `length` pixels along `turn` (radians, random if None); unit RMS."""
    angle = float(rng.uniform(0, np.pi)) if turn is None else turn
    center = (length - 1) / 2
    kernel = np.zeros((length, length), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * center
    ends = [(round(center + s * reach[0]), round(center + s * reach[1])) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    noise = cv2.filter2D(rng.standard_normal((height, width), np.float32), -1, kernel)
    return cast(Image, noise / noise.std())


_KINDS: dict[
    str,
    tuple[Callable[[np.random.Generator], Color], Callable[[np.random.Generator, int, int], Image]],
] = {
    "board": (_board_tint, _board),
    "steel": (_steel_tint, _steel),
    "rubber": (_rubber_tint, _rubber),
    "wood": (_wood_tint, _wood),
}
