"""How a part looks: grain, brushing, turning marks and color, in part coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import cv2
import numpy as np
from manifold3d import Manifold

from trainer.synthetic.noise import Image, fractal_noise, smooth_noise

PITCH_MM = 0.2  # of a texture's pixels
SIDE_PX = 1400
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Place:
    """Points on a part, (H, W) float32 each. x, y, z: mm, part coordinates. up: z of the normal."""

    x: Image
    y: Image
    z: Image
    up: Image


@dataclass(frozen=True)
class Look:
    """How points look. albedo: (H, W, 3) linear. shine: (H, W), strength of the highlight, of that
    exponent. mirror: (H, W), share of the surroundings that is reflected. slope_x, slope_y: (H, W),
    of the grain that is finer than the mesh.
    """

    albedo: Image
    shine: Image
    mirror: Image
    slope_x: Image
    slope_y: Image
    exponent: float


class Finish(Protocol):
    """The surface of one part."""

    def look(self, place: Place) -> Look:
        """How it looks there."""
        ...


class MeshProduct(Protocol):
    """A kind of part that is a mesh.

    Its constructor draws what all parts of a station share; `solid` and `finish` are called once a
    part.
    """

    name: str
    turns: float  # degrees it may be turned to either side
    looks: Color  # linear RGB it shows by and large: the table has another
    fracture: Color  # albedo of a fresh break
    stain: Color  # albedo of what soils it
    tint: Color  # factor of a discoloration
    flash_mm: float  # height of a burr at its outline

    def __init__(self, rng: np.random.Generator) -> None: ...

    def solid(self, rng: np.random.Generator) -> Manifold:
        """One good part, standing on z = 0 around the origin: dimensions differ by fractions of a
        percent.
        """
        ...

    def finish(self, rng: np.random.Generator) -> Finish:
        """The surface of one part."""
        ...


class Texture:
    """A random field over part coordinates, unit RMS, with its slopes in 1 / mm; (S, S) at
    PITCH_MM.
    """

    def __init__(self, field: Image) -> None:
        self.field = field
        scale = 1 / (8 * PITCH_MM)
        self.slope_x = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3, scale=scale)
        self.slope_y = cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3, scale=scale)


def grain(rng: np.random.Generator, cell_mm: float, octaves: int = 3) -> Texture:
    """Isotropic grain of that cell size."""
    return Texture(fractal_noise(rng, SIDE_PX, SIDE_PX, cell_mm / PITCH_MM, octaves, 0.6))


def streaks(rng: np.random.Generator, length_mm: float) -> Texture:
    """Brush marks along x."""
    stretch = length_mm / PITCH_MM
    fine = smooth_noise(rng, SIDE_PX, round(SIDE_PX / stretch * 2) + 4, 1.0)
    coarse = smooth_noise(rng, SIDE_PX // 4, round(SIDE_PX / stretch) + 4, 1.0)
    size = (SIDE_PX, SIDE_PX)
    field = cv2.resize(fine, size, interpolation=cv2.INTER_CUBIC)
    field = field + 0.8 * cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    return Texture((field / field.std()).astype(np.float32))


class Patch:
    """A texture as it lies on one part: shifted at random."""

    def __init__(self, texture: Texture, rng: np.random.Generator) -> None:
        self._texture = texture
        self._shift = rng.uniform(0, SIDE_PX * PITCH_MM, 2).astype(np.float32)

    def at(self, x: Image, y: Image) -> Image:
        """The field at part coordinates."""
        return self._sampled(self._texture.field, x, y)

    def slopes(self, x: Image, y: Image) -> tuple[Image, Image]:
        """The slopes of the field at part coordinates, 1 / mm."""
        return (
            self._sampled(self._texture.slope_x, x, y),
            self._sampled(self._texture.slope_y, x, y),
        )

    def _sampled(self, image: Image, x: Image, y: Image) -> Image:
        pitch = np.float32(1 / PITCH_MM)
        u, v = (x + self._shift[0]) * pitch, (y + self._shift[1]) * pitch
        return cast(
            Image, cv2.remap(image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        )


class Marks:
    """Turning marks of one part: a random profile over the radius, unit RMS."""

    STEPS_PER_MM = 6
    REACH_MM = 150

    def __init__(self, rng: np.random.Generator, feed_mm: float) -> None:
        r = np.arange(self.REACH_MM * self.STEPS_PER_MM, dtype=np.float32) / self.STEPS_PER_MM
        noise = np.convolve(rng.standard_normal(r.size), np.hanning(5), "same")
        wave = np.sin(r * (2 * np.pi / feed_mm) + rng.uniform(0, 2 * np.pi))
        profile = noise / noise.std() + 0.8 * wave
        self._profile = (profile / profile.std()).astype(np.float32)
        self._slope = np.gradient(self._profile * self.STEPS_PER_MM).astype(np.float32)

    def at(self, radius: Image) -> tuple[Image, Image]:
        """Profile and its slope (1 / mm) at that distance from the axis."""
        last = self._profile.size - 1
        index = np.minimum((radius * self.STEPS_PER_MM).astype(np.int32), last)
        return self._profile[index], self._slope[index]


def varied(rng: np.random.Generator, color: Color, share: float) -> Color:
    """A color brighter or darker, and of another hue, by about that share."""
    level, hue = rng.normal(1, share), rng.normal(1, share / 3, 3)
    red, green, blue = (float(c * level * h) for c, h in zip(color, hue, strict=True))
    return red, green, blue


def toned(color: Color, factor: Image) -> Image:
    """The color times (H, W): (H, W, 3)."""
    return cast(Image, cv2.merge([factor * np.float32(channel) for channel in color]))


def scaled(rng: np.random.Generator, size_mm: float, share: float = 0.0015) -> float:
    """A dimension as one part has it."""
    return size_mm * float(rng.normal(1, share))
