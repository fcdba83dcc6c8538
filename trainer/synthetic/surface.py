"""What a product draws: height, color and shine over the supersampled view; and the light that
falls on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import cv2
import numpy as np

from trainer.synthetic.blend import times
from trainer.synthetic.noise import Image

Layout = tuple[str, ...]
"""Rows of equally many places, a letter a place: the kind of element, EMPTY, or OPTION."""

EMPTY, OPTION = ".", "?"  # OPTION: a good part may hold anything or nothing there
SHADOW_STEP_PX = 2.0  # at half resolution
MOST_SHADOW_STEPS = 30


@dataclass
class Surface:
    """A part as seen from above on an (S, S) grid. Everything float32; the arrays may be changed by
    a defect.

    height: mm over the table, 0 outside. inside: 0..1 coverage. albedo: (S, S, 3) linear
    reflectance 0..1.
    shine: strength of the highlight. exponent: its sharpness. tangent: (S, S, 2) along turning
    marks, or None.
    """

    height: Image
    inside: Image
    albedo: Image
    shine: Image
    exponent: float
    tangent: Image | None = None


@dataclass(frozen=True)
class Light:
    """A lamp: azimuth and elevation in radians, strength, its color (linear RGB), and the even
    light around it.
    """

    azimuth: float
    elevation: float
    strength: float
    color: tuple[float, float, float]
    ambient: float

    def direction(self) -> tuple[float, float, float]:
        """Unit vector towards the lamp; x right, y down, z towards the camera."""
        c = np.cos(self.elevation)
        return (
            float(c * np.cos(self.azimuth)),
            float(c * np.sin(self.azimuth)),
            float(np.sin(self.elevation)),
        )


@dataclass(frozen=True)
class Lamp:
    """The lamp of a station: azimuth and elevation in radians; warmth: share of red added, and of
    blue taken.
    """

    azimuth: float
    elevation: float
    warmth: float

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Lamp:
        """A lamp on any side, neither flat nor overhead, neutral to warm or cool."""
        return cls(
            azimuth=float(rng.uniform(-np.pi, np.pi)),
            elevation=float(np.deg2rad(rng.uniform(35, 65))),
            warmth=float(rng.uniform(-0.10, 0.14)),
        )

    def light(self, rng: np.random.Generator) -> Light:
        """The light of one image: mild changes of direction, strength and color temperature."""
        warmth = self.warmth + float(rng.normal(0, 0.012))
        return Light(
            azimuth=self.azimuth + float(np.deg2rad(rng.uniform(-9, 9))),
            elevation=self.elevation + float(np.deg2rad(rng.uniform(-4, 4))),
            strength=float(rng.uniform(0.95, 1.05)),
            color=(1 + warmth, 1.0, 1 - warmth),
            ambient=float(rng.uniform(0.36, 0.40)),
        )


@dataclass(frozen=True)
class Grid:
    """Part coordinates of every pixel of the supersampled view.

    x, y: (S, S) float32 mm. pitch: mm per pixel. turn: radians from the part's axes to the view's.
    """

    x: Image
    y: Image
    pitch: float
    turn: float


class Product(Protocol):
    """A kind of part.

    Its constructor may take seconds and draws from the generator; `draw` is called once a part.
    """

    name: str
    looks: tuple[float, float, float]  # linear RGB it shows by and large: the table has another
    fracture: tuple[float, float, float]  # albedo of a fresh break
    turns: float  # degrees it may be turned to either side
    stain: tuple[float, float, float]  # albedo of what soils it
    tint: tuple[float, float, float]  # factor of a discoloration

    def __init__(self, rng: np.random.Generator) -> None: ...

    def draw(self, grid: Grid, rng: np.random.Generator) -> Surface:
        """One good part."""
        ...


@runtime_checkable
class Counted(Product, Protocol):
    """A product whose elements are counted and in order: what each place holds makes a part good or
    not.

    `draw` first decides the options (trainer.synthetic.logical.equipped), then fills the places.
    """

    layout: Layout

    def filled(self, grid: Grid, rng: np.random.Generator, layout: Layout) -> Surface:
        """A part with this layout, without options.

        The same generator gives the same part but for what it holds.
        """
        ...


def shade(surface: Surface, light: Light, pitch: float) -> tuple[Image, Image]:
    """Linear color (S/2, S/2, 3) and glare (S/2, S/2) of the view; pitch: mm per supersampled
    pixel.

    Lambert's cosine law with a cast shadow and a curvature term for ambient light; Blinn's
    half-vector highlight, or for turned metal Kajiya and Kay's sine of the angle to the marks'
    direction (Rendering Fur, SIGGRAPH 1989).
    """
    lx, ly, lz = light.direction()
    dx = cv2.Sobel(surface.height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * pitch))
    dy = cv2.Sobel(surface.height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * pitch))
    norm = 1 / np.sqrt(dx * dx + dy * dy + 1)
    facing = np.maximum((lz - dx * lx - dy * ly) * norm, 0)
    lit, open_sky = _shadow_and_openness(surface.height, light, pitch)
    length = math.sqrt(lx * lx + ly * ly + (lz + 1) ** 2)
    # plain floats: numpy's own would make everything float64
    half = (lx / length, ly / length, (lz + 1) / length)
    if surface.tangent is None:
        base = np.maximum((half[2] - dx * half[0] - dy * half[1]) * norm, 0)
    else:
        along = surface.tangent[..., 0] * half[0] + surface.tangent[..., 1] * half[1]
        tilt = np.clip((half[2] - dx * half[0] - dy * half[1]) * norm / half[2], 0, 1)
        base = np.sqrt(np.maximum(1 - along * along, 0)) * tilt
    highlight = surface.shine * cv2.pow(base, surface.exponent) * lit
    diffuse = light.ambient * open_sky + light.strength * facing * lit
    glare = _halved(highlight)
    color = _halved(times(surface.albedo, diffuse)) + (light.strength * glare)[..., None]
    return color * np.array(light.color, np.float32), glare


def _halved(image: Image) -> Image:
    return cast(Image, cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def _shadow_and_openness(height: Image, light: Light, pitch: float) -> tuple[Image, Image]:
    """Share of the lamp's light and of the even light that arrives, both (S, S) in 0..1, from half
    resolution.
    """
    small = _halved(height)
    lx, ly, _ = light.direction()
    length = math.hypot(lx, ly)
    rise_mm = 2 * pitch * SHADOW_STEP_PX * math.tan(light.elevation)
    steps = min(math.ceil(float(small.max()) / rise_mm), MOST_SHADOW_STEPS)
    blocked = np.zeros_like(small)
    for step in range(1, steps + 1):
        shift = step * SHADOW_STEP_PX / length
        move = np.array([[1, 0, -shift * lx], [0, 1, -shift * ly]], np.float32)
        towards = cv2.warpAffine(small, move, small.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        np.maximum(blocked, towards - small - step * rise_mm, out=blocked)
    lit = 1 - 0.85 * np.clip(blocked / 1.2, 0, 1)
    lit = cv2.GaussianBlur(lit.astype(np.float32), (0, 0), 1.3)
    near = np.maximum(cv2.GaussianBlur(small, (0, 0), 3) - small, 0)
    far = np.maximum(cv2.GaussianBlur(small, (0, 0), 11) - small, 0)
    open_sky = 1 / (1 + 0.30 * near + 0.10 * far)
    both = cv2.resize(
        cv2.merge([lit, open_sky.astype(np.float32)]),
        height.shape[::-1],
        interpolation=cv2.INTER_LINEAR,
    )
    return both[..., 0], both[..., 1]
