"""What synthetic anomalies are made of: pieces of a user's images, or procedural textures.

DRAEM (ICCV 2021, section 3.3) and AAND (section III-B) paste images of the Describable Textures
Dataset. Its license does not allow us to ship them: any folder of images serves instead, and
without one nine kinds of procedural textures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.images import read_color
from edge.frames.listing import IMAGE_SUFFIXES, files_in
from trainer.synthetic.noise import Image, fractal_noise, smooth_noise

SHORT_SIDE = 512  # px; larger images are reduced once, when they are read
KEPT_IMAGES = 128  # reduced images in memory, about 1 MB each


class Textures:
    """A source of textures, deterministic from the generator it draws with.

    folder: images of any size, also in sub-folders; None = the shipped kinds. Raises: DataError if
    the folder holds no image that can be read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._paths: list[Path] = []
        if folder is None:
            return
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder: name one that holds images to paste as anomalies"
            )
        self._paths = [path for path in files_in(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
        if not any(_reduced(path) is not None for path in self._paths):
            raise DataError(
                f"{folder} holds no image that can be read ({len(self._paths)} files with an"
                f" image's name): put {', '.join(IMAGE_SUFFIXES)} files there, or leave the folder"
                " out for the shipped textures"
            )

    @property
    def digest(self) -> str:
        """Of everything a drawing depends on: names, sizes and times of the user's files."""
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self._paths]
        return (
            hashlib.sha256(repr(stats).encode()).hexdigest() if stats else f"shipped {len(KINDS)}"
        )

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Image:
        """One texture, mirrored, turned and changed in light and color at random: (height, width,
        3) RGB 0..255.
        """
        if self._paths:
            texture = _window(self._read(rng), height, width, rng)
        else:
            texture = shipped_texture(KINDS[int(rng.integers(len(KINDS)))], height, width, rng)
        return _varied(texture, rng)

    def _read(self, rng: np.random.Generator) -> NDArray[np.uint8]:
        """A random image, or the first readable one after it."""
        start = int(rng.integers(len(self._paths)))
        for path in self._paths[start:] + self._paths[:start]:
            image = _reduced(path)
            if image is not None:
                return image
        raise DataError(f"{self._paths[0].parent}: none of the texture images can be read any more")


@lru_cache(maxsize=KEPT_IMAGES)
def _reduced(path: Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) uint8 RGB with a short side of at most SHORT_SIDE; None where the file cannot be
    read.
    """
    try:
        image = read_color(path)
    except DataError:
        return None
    factor = SHORT_SIDE / min(image.shape[:2])
    if factor >= 1:
        return image
    return np.asarray(
        cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8
    )


def _window(image: NDArray[np.uint8], height: int, width: int, rng: np.random.Generator) -> Image:
    """A random window of this aspect, half to all of what fits, resized to (height, width, 3)
    float32.
    """
    fits = min(image.shape[0] / height, image.shape[1] / width) * rng.uniform(0.5, 1.0)
    rows, columns = max(1, int(height * fits)), max(1, int(width * fits))
    top = int(rng.integers(image.shape[0] - rows + 1))
    left = int(rng.integers(image.shape[1] - columns + 1))
    way = cv2.INTER_AREA if fits > 1 else cv2.INTER_LINEAR
    resized = cv2.resize(
        image[top : top + rows, left : left + columns], (width, height), interpolation=way
    )
    return np.asarray(resized, np.float32)


def _varied(texture: Image, rng: np.random.Generator) -> Image:
    """The texture mirrored and turned about its center, with other brightness, contrast and color
    balance.
    """
    height, width = texture.shape[:2]
    flips = rng.integers(0, 2, 2)
    texture = np.ascontiguousarray(texture[:: 1 - 2 * int(flips[0]), :: 1 - 2 * int(flips[1])])
    turn = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), float(rng.uniform(-45, 45)), 1.0
    )
    texture = cv2.warpAffine(texture, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    gain = np.float32(rng.uniform(0.7, 1.3)) * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    offset = np.float32(rng.uniform(-25, 25))
    return cast(Image, np.clip((texture - 128) * gain + 128 + offset, 0, 255).astype(np.float32))


def shipped_texture(kind: str, height: int, width: int, rng: np.random.Generator) -> Image:
    """A procedural texture of one of KINDS, (height, width, 3) float32 0..255: its pattern between
    two random colors.
    """
    pattern = _PATTERNS[kind](height, width, rng)
    dark, light = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    while np.abs(light - dark).max() < 60:
        light = rng.uniform(0, 255, 3).astype(np.float32)
    grain = np.float32(rng.uniform(0, 10)) * rng.standard_normal((height, width, 1), np.float32)
    return cast(Image, np.clip(dark + pattern[..., None] * (light - dark) + grain, 0, 255))


def _turned_axes(height: int, width: int, rng: np.random.Generator) -> tuple[Image, Image]:
    """Coordinates of the pixels along two perpendicular axes of a random direction."""
    turn = np.float32(rng.uniform(0, np.pi))
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    return cast(Image, x * np.cos(turn) + y * np.sin(turn)), cast(
        Image, y * np.cos(turn) - x * np.sin(turn)
    )


def _stepped(wave: Image, steepness: float) -> Image:
    """-1..1 to 0..1, the steeper the closer to a square wave."""
    return cast(Image, np.clip(0.5 + np.float32(0.5 * steepness) * wave, 0, 1))


def _stripes(height: int, width: int, rng: np.random.Generator) -> Image:
    along, across = _turned_axes(height, width, rng)
    bent = along + np.float32(rng.uniform(0, 6)) * np.sin(across / np.float32(rng.uniform(10, 40)))
    return _stepped(np.sin(bent * np.float32(2 * np.pi / rng.uniform(5, 28))), rng.uniform(0.8, 5))


def _checks(height: int, width: int, rng: np.random.Generator) -> Image:
    along, across = _turned_axes(height, width, rng)
    rows, columns = (np.float32(2 * np.pi / rng.uniform(8, 40)) for _ in range(2))
    return _stepped(np.sin(along * rows) * np.sin(across * columns), rng.uniform(2, 12))


def _spots(height: int, width: int, rng: np.random.Generator) -> Image:
    pattern = np.zeros((height, width), np.float32)
    radius = rng.uniform(2, 9)
    count = min(400, int(0.25 * height * width / (radius * radius * np.pi)) + 1)
    rows, columns = rng.integers(0, height, count), rng.integers(0, width, count)
    for row, column, shade in zip(rows, columns, rng.uniform(0.4, 1, count), strict=True):
        cv2.circle(
            pattern, (int(column), int(row)), max(1, round(radius)), float(shade), -1, cv2.LINE_AA
        )
    return cast(Image, cv2.GaussianBlur(pattern, (0, 0), 0.8))


def _clouds(height: int, width: int, rng: np.random.Generator) -> Image:
    return _stepped(fractal_noise(rng, height, width, rng.uniform(12, 60)), rng.uniform(0.5, 1.5))


def _marble(height: int, width: int, rng: np.random.Generator) -> Image:
    along, _ = _turned_axes(height, width, rng)
    swirl = fractal_noise(rng, height, width, rng.uniform(30, 70), octaves=3)
    veins = 1 - np.abs(np.sin(along * np.float32(np.pi / rng.uniform(15, 50)) + swirl))
    return cast(Image, veins * veins)


def _fibres(height: int, width: int, rng: np.random.Generator) -> Image:
    pattern = np.zeros((height, width), np.float32)
    main, spread, long_side = rng.uniform(0, np.pi), rng.uniform(0.05, 1.6), max(height, width)
    count = int(rng.integers(30, 120))
    starts = rng.uniform(-0.1, 1.1, (count, 2)) * (width, height)
    turns = main + spread * rng.standard_normal(count)
    ends = starts + (rng.uniform(0.1, 0.6, count) * long_side)[:, None] * np.stack(
        [np.cos(turns), np.sin(turns)], 1
    )
    for start, end, shade in zip(
        starts.astype(int), ends.astype(int), rng.uniform(0.4, 1, count), strict=True
    ):
        cv2.line(
            pattern,
            start.tolist(),
            end.tolist(),
            float(shade),
            int(rng.integers(1, 3)),
            cv2.LINE_AA,
        )
    return pattern


def _weave(height: int, width: int, rng: np.random.Generator) -> Image:
    along, across = _turned_axes(height, width, rng)
    pitch = rng.uniform(6, 20)
    i, j = along / np.float32(pitch), across / np.float32(pitch)
    over = (np.floor(i) + np.floor(j)) % 2
    thread = np.where(
        over > 0, np.sin(np.float32(np.pi) * (i % 1)), np.sin(np.float32(np.pi) * (j % 1))
    )
    return cast(Image, (thread * (0.6 + 0.4 * over)).astype(np.float32))


def _bricks(height: int, width: int, rng: np.random.Generator) -> Image:
    along, across = _turned_axes(height, width, rng)
    tall, joint = rng.uniform(8, 24), rng.uniform(0.08, 0.2)
    row = np.floor(across / np.float32(tall))
    j = along / np.float32(tall * rng.uniform(1.5, 3)) + 0.5 * (row % 2)
    inside = ((across / np.float32(tall)) % 1 > joint) & (j % 1 > joint / 2)
    shade = 0.5 + 0.5 * np.sin(12.9898 * row + 78.233 * np.floor(j))  # differs from brick to brick
    return cast(Image, (inside * (0.5 + 0.5 * shade)).astype(np.float32))


def _flecks(height: int, width: int, rng: np.random.Generator) -> Image:
    levels = smooth_noise(rng, height, width, rng.uniform(4, 18))
    return cast(Image, np.digitize(levels, (-0.8, 0.3, 1.0)).astype(np.float32) / 3)


_PATTERNS: dict[str, Callable[[int, int, np.random.Generator], Image]] = {
    "stripes": _stripes,
    "checks": _checks,
    "spots": _spots,
    "clouds": _clouds,
    "marble": _marble,
    "fibres": _fibres,
    "weave": _weave,
    "bricks": _bricks,
    "flecks": _flecks,
}
KINDS = tuple(_PATTERNS)
