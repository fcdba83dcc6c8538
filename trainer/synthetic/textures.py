"""What drawn anomalies are made of: images of the user's folder, or procedural textures where there is none.

The papers take the Describable Textures Dataset, which is not ours to ship. The procedural ones are as varied as a few
lines allow: what matters is that they differ from the part (DRAEM, section 3.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.images import read_color

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

Image = NDArray[np.float32]  # (h, w, 3), 0..255


class Textures:
    """A source of textures: the same generator state gives the same texture.

    Args:
        folder: of images, searched with its sub-folders; None takes procedural ones.
    Raises: DataError if the folder holds no image.
    """

    def __init__(self, folder: Path | None) -> None:
        self.files: list[Path] = []
        self.digest = "procedural 1"
        if folder is not None:
            self.files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
            if not self.files:
                raise DataError(f"{folder} holds no images: name a folder of textures ({', '.join(SUFFIXES)})")
            names = "\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in self.files)
            self.digest = hashlib.sha256(names.encode()).hexdigest()

    def draw(self, height: int, width: int, generator: np.random.Generator) -> Image:
        """One texture of that size, randomly turned, mirrored, lit and tinted. Raises: DataError for a bad image."""
        if self.files:
            image = self._from_file(height, width, generator)
        else:
            image = PROCEDURAL[int(generator.integers(len(PROCEDURAL)))](height, width, generator)
        if generator.random() < 0.5:
            image = image[:, ::-1]
        if generator.random() < 0.5:
            image = image[::-1]
        gain, shift = generator.uniform(0.6, 1.4, 3), generator.uniform(-40, 40)
        return np.asarray(np.clip(image * gain + shift, 0, 255), np.float32)

    def _from_file(self, height: int, width: int, generator: np.random.Generator) -> Image:
        whole = read_color(self.files[int(generator.integers(len(self.files)))])
        scale = max(height / whole.shape[0], width / whole.shape[1]) * generator.uniform(1.0, 2.0)
        size = max(width, round(whole.shape[1] * scale)), max(height, round(whole.shape[0] * scale))
        resized = cv2.resize(whole, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        top = int(generator.integers(resized.shape[0] - height + 1))
        left = int(generator.integers(resized.shape[1] - width + 1))
        return np.asarray(resized[top : top + height, left : left + width], np.float32)


def _two_colors(share: NDArray[np.floating], generator: np.random.Generator) -> Image:
    """(h, w) shares 0..1 between two random colors."""
    first, second = generator.uniform(0, 255, (2, 3))
    return np.asarray(first + (second - first) * np.clip(share, 0, 1)[..., None], np.float32)


def _along(height: int, width: int, generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates along and across a random direction, px."""
    v, u = np.mgrid[:height, :width].astype(np.float64)
    turn = generator.uniform(0, np.pi)
    return u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)


def _stripes(height: int, width: int, generator: np.random.Generator) -> Image:
    along, _ = _along(height, width, generator)
    wave = np.sin(along * 2 * np.pi / generator.uniform(3, 40))
    return _two_colors(0.5 + generator.uniform(0.5, 4) * wave, generator)


def _checks(height: int, width: int, generator: np.random.Generator) -> Image:
    along, across = _along(height, width, generator)
    side = generator.uniform(3, 25)
    return _two_colors((np.floor(along / side) + np.floor(across / side)) % 2, generator)


def _bricks(height: int, width: int, generator: np.random.Generator) -> Image:
    along, across = _along(height, width, generator)
    tall, long = generator.uniform(5, 20), generator.uniform(10, 50)
    row = np.floor(across / tall)
    joint = ((across / tall) % 1 < 0.15) | (((along / long) + 0.5 * (row % 2)) % 1 < 0.08)
    return _two_colors(joint.astype(np.float64), generator)


def _spots(height: int, width: int, generator: np.random.Generator) -> Image:
    noise = generator.normal(size=(height, width))
    smooth = cv2.GaussianBlur(noise, (0, 0), generator.uniform(1.5, 6))
    return _two_colors((smooth / smooth.std() > generator.uniform(0.3, 1.5)).astype(np.float64), generator)


def _clouds(height: int, width: int, generator: np.random.Generator) -> Image:
    """Fractal noise, each color by itself."""
    image = np.zeros((height, width, 3))
    for octave in range(6):
        side = 2 ** (octave + 1)
        coarse = generator.normal(size=(side, side, 3))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**octave
    return np.asarray(np.clip(128 + 60 * image, 0, 255), np.float32)


def _grain(height: int, width: int, generator: np.random.Generator) -> Image:
    """Noise of single pixels around one color."""
    color = generator.uniform(0, 255, 3)
    grey = generator.normal(size=(height, width, 1)) * generator.uniform(5, 60)
    return np.asarray(np.clip(color + grey, 0, 255), np.float32)


def _fibres(height: int, width: int, generator: np.random.Generator) -> Image:
    image = np.zeros((height, width), np.uint8)
    for _ in range(int(generator.integers(20, 120))):
        start = generator.uniform(0, (width, height))
        step = generator.normal(size=2) * generator.uniform(10, 60)
        end = start + step
        ends = [tuple(int(value) for value in point) for point in (start, end)]
        cv2.line(image, ends[0], ends[1], int(generator.integers(60, 256)), int(generator.integers(1, 3)), cv2.LINE_AA)
    return _two_colors(image / 255.0, generator)


def _plain(height: int, width: int, generator: np.random.Generator) -> Image:
    """One color, slowly shaded."""
    along, _ = _along(height, width, generator)
    shade = along / (np.abs(along).max() + 1) * generator.uniform(0, 60)
    return np.asarray(np.clip(generator.uniform(0, 255, 3) + shade[..., None], 0, 255), np.float32)


PROCEDURAL: tuple[Callable[[int, int, np.random.Generator], Image], ...] = (
    _stripes,
    _checks,
    _bricks,
    _spots,
    _clouds,
    _grain,
    _fibres,
    _plain,
)
