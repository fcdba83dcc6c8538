"""Synthetic defects of the synthetic products, in the scene before the camera sees it: their groups
and limits, and the ten local ones, what each does to height and color, and where.

relief    in height alone; the color camera sees it by its shading, as the light falls on it
color     in color alone
both      in height and in color
material  absent where the part should be, or extra beside it (trainer.synthetic.material)
logical   every place looks normal by itself: only on products with counted elements; made as a
          part with others of these elements (trainer.synthetic.logical)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.noise import Image, smooth_noise
from trainer.synthetic.shapes import smooth_step
from trainer.synthetic.surface import Counted, Product, Surface

Group = Literal["relief", "color", "both", "material", "logical"]
GROUPS: dict[str, Group] = {
    "dent": "relief",
    "bump": "relief",
    "warp": "relief",
    "gouge": "relief",
    "stain": "color",
    "print": "color",
    "discoloration": "color",
    "crack": "both",
    "hole": "both",
    "contamination": "both",
    "chip": "material",
    "broken": "material",
    "short_shot": "material",
    "burr": "material",
    "bent": "material",
    "absent": "logical",
    "extra": "logical",
    "swapped": "logical",
}
# what a group was called in defects.json and results of before
FORMER_GROUPS = {"depth": "relief"}
LOCAL_SHARES = (0.0005, 0.02)
# the least and the largest share of the part's area
SHARES: dict[str, tuple[float, float]] = {
    **{kind: LOCAL_SHARES for kind, group in GROUPS.items() if group != "material"},
    "chip": (0.0005, 0.01),
    "broken": (0.015, 0.10),
    "short_shot": (0.003, 0.04),
    "burr": (0.001, 0.015),
    "bent": (0.001, 0.04),
}
LEAST_SIGMA, LARGEST_SIGMA = 2.0, 6.0  # of the depth noise there, for relief and both
MASK_LEVEL = 0.3  # the mask is where a defect has this share of its full strength
TRIES = 40


class Soiled(Protocol):
    """What a product of any kind tells about its defects: see Product."""

    name: str
    stain: tuple[float, float, float]
    tint: tuple[float, float, float]


@dataclass(frozen=True)
class Part:
    """What a defect is put on."""

    product: Soiled
    surface: Surface


@dataclass(frozen=True)
class Place:
    """Where and how large: center in pixels, area to reach in pixels, amplitude in mm (positive),
    on an (S, S) grid.
    """

    row: int
    column: int
    area: float
    amplitude: float


@dataclass(frozen=True)
class SceneDefect:
    """A defect on a grid. strength: 0..1, its mask is where this exceeds MASK_LEVEL. rise: mm added
    to the height.

    paint: albedo it takes on, with the share `cover` of it; factor: what multiplies the albedo
    instead, to that share.
    """

    strength: Image
    rise: Image | None = None
    cover: Image | None = None
    paint: tuple[float, float, float] | None = None
    factor: tuple[float, float, float] | None = None


def group_called(name: str) -> str:
    """The group as it is called now, of a name in a file that may be older."""
    return FORMER_GROUPS.get(name, name)


def defects_of(product: Product) -> list[str]:
    """What can be wrong with the product: logical defects, first, where its elements are counted;
    all others anywhere.
    """
    logical = [kind for kind, group in GROUPS.items() if group == "logical"]
    local = [kind for kind in GROUPS if kind not in logical]
    return [*logical, *local] if isinstance(product, Counted) else local


def local_defect(
    kind: str, product: Soiled, surface: Surface, sigma_mm: float, rng: np.random.Generator
) -> tuple[SceneDefect, NDArray[np.bool_], float]:
    """A local defect of `kind` on a part: what it changes, its mask (S, S), and its height in sigma
    (0 for color only).

    Tries places and sizes until the mask lies within the limits of area.
    Raises: RuntimeError if it cannot: the part has no place for it.
    """
    part_area = float(surface.inside.sum())
    sigmas = float(rng.uniform(3.0, 5.9)) if GROUPS[kind] != "color" else 0.0
    least, largest = SHARES[kind]
    for _ in range(TRIES):
        share = float(np.exp(rng.uniform(np.log(_SMALLEST[kind]), np.log(0.017))))
        place = _find_place(kind, surface, share * part_area, sigmas * sigma_mm, rng)
        defect = _DRAW[kind](place, Part(product, surface), rng)
        mask = (defect.strength > MASK_LEVEL) & (surface.inside > 0.5)
        if least * 1.2 <= mask.sum() / part_area <= largest * 0.95:
            return defect, mask, sigmas
    raise RuntimeError(f"no place for a {kind} on a {product.name}")


def applied(defect: SceneDefect, surface: Surface) -> Surface:
    """The surface with the defect; its height, in mm, never below the table."""
    colored = _colored(defect, surface)
    if defect.rise is None:
        return colored
    height = np.maximum(surface.height + defect.rise * surface.inside, 0)
    return replace(colored, height=height.astype(np.float32))


def _colored(defect: SceneDefect, surface: Surface) -> Surface:
    """The surface with the defect's color; its shine fades where paint covers it."""
    if defect.cover is None:
        return surface
    cover = defect.cover[..., None]
    if defect.paint is not None:
        albedo = surface.albedo * (1 - cover) + np.array(defect.paint, np.float32) * cover
        shine = surface.shine * (1 - 0.75 * defect.cover)
    else:
        albedo = surface.albedo * (1 + cover * (np.array(defect.factor, np.float32) - 1))
        shine = surface.shine * (
            1 + defect.cover * (float(np.mean(cast(tuple[float, ...], defect.factor))) - 1)
        )
    return replace(surface, albedo=albedo.astype(np.float32), shine=shine.astype(np.float32))


def _find_place(
    kind: str, surface: Surface, area: float, amplitude: float, rng: np.random.Generator
) -> Place:
    """A random place: near the rim for a warp, elsewhere far enough from it for most of the defect
    to lie on the part.

    A defect in relief is put where the part is high: no camera reads the floor of a cavity.
    """
    inside = surface.inside > 0.5
    from_rim = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    if kind == "warp":
        allowed = (from_rim > 6) & (from_rim < 14)
    else:
        allowed = from_rim > min(0.8 * np.sqrt(area / np.pi) + 6, 0.8 * float(from_rim.max()))
    if GROUPS[kind] == "relief" and kind != "warp":
        allowed &= surface.height > 0.75 * np.median(surface.height[inside])
    rows, columns = np.nonzero(allowed)
    pick = int(rng.integers(rows.size))
    return Place(int(rows[pick]), int(columns[pick]), area, amplitude)


def _ragged_distance(
    place: Place, part: Part, rng: np.random.Generator, ragged: float, longest: float = 1.7
) -> Image:
    """Distance from the place over the radius of a disc of its area, squeezed and bent at random: 1
    at its border.
    """
    size = part.surface.height.shape
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32)
    dy, dx = rows - place.row, columns - place.column
    turn, squeeze = float(rng.uniform(0, np.pi)), float(np.sqrt(rng.uniform(1, longest)))
    a = (dx * np.cos(turn) + dy * np.sin(turn)) / squeeze
    b = (-dx * np.sin(turn) + dy * np.cos(turn)) * squeeze
    radius = np.sqrt(place.area / np.pi)
    distance = np.sqrt(a * a + b * b) / np.float32(radius)
    wobble = smooth_noise(rng, size[0], size[1], max(float(radius) * 0.8, 4.0))
    return cast(Image, (distance * (1 + ragged * wobble)).astype(np.float32))


def _dent(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    strength = np.exp(-(_ragged_distance(place, part, rng, 0.06) ** 4) * 1.2)
    return SceneDefect(strength, rise=-place.amplitude * strength)


def _bump(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    dent = _dent(place, part, rng)
    return SceneDefect(dent.strength, rise=place.amplitude * dent.strength)


def _warp(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    """A piece of the rim bent up or down, most at the rim."""
    distance = _ragged_distance(place, part, rng, 0.03) / 1.5
    strength = np.clip(1.15 - distance, 0, 1) ** 0.8
    return SceneDefect(
        strength.astype(np.float32), rise=place.amplitude * float(rng.choice([-1, 1])) * strength
    )


def _gouge(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    """Scraped off over a patch with a sharp border, to an even depth."""
    strength = smooth_step(_ragged_distance(place, part, rng, 0.12, 2.5), 1.06, 0.94)
    return SceneDefect(strength, rise=-place.amplitude * strength)


def _stain(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    """A dried drop: translucent, darker at its border."""
    distance = _ragged_distance(place, part, rng, 0.16)
    strength = smooth_step(distance, 1.08, 0.92)
    border = smooth_step(np.abs(distance - 0.93), 0.16, 0.02)
    return SceneDefect(
        strength,
        cover=(strength * (0.42 + 0.25 * border)).astype(np.float32),
        paint=part.product.stain,
    )


def _print(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    """A stroke of a marker or a letter stamped where none belongs."""
    ink = ((0.02, 0.03, 0.20), (0.25, 0.02, 0.03), (0.015, 0.015, 0.015), (0.50, 0.50, 0.48))[
        int(rng.integers(4))
    ]
    ground = float(part.surface.albedo[place.row, place.column].mean())
    # a print has another color than its ground
    if abs(np.log((float(np.mean(ink)) + 0.02) / (ground + 0.02))) < 0.9:
        ink = (0.50, 0.50, 0.48) if ground < 0.2 else (0.015, 0.015, 0.015)
    canvas = np.zeros(part.surface.height.shape, np.uint8)
    letter = "ABEHKMNRSX3458"[int(rng.integers(14))]
    size = float(np.sqrt(place.area)) / 17
    width = max(3, round(size * 3.2))
    origin = (round(place.column - 9 * size), round(place.row + 10 * size))
    cv2.putText(canvas, letter, origin, cv2.FONT_HERSHEY_SIMPLEX, size, 255, width, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((place.column, place.row), float(rng.uniform(-60, 60)), 1.0)
    canvas = cv2.warpAffine(canvas, turn, canvas.shape[::-1])
    strength = canvas.astype(np.float32) / 255
    return SceneDefect(strength, cover=0.8 * strength, paint=ink)


def _discoloration(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    distance = _ragged_distance(place, part, rng, 0.12)
    strength = smooth_step(distance, 1.35, 0.75)
    return SceneDefect(strength, cover=strength, factor=part.product.tint)


def _crack(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    """A jagged line that tapers, open and dark."""
    width = float(rng.uniform(5.0, 8.0))
    steps = max(int(place.area * 0.45 / width / 6), 6)
    heading = float(rng.uniform(0, 2 * np.pi)) + np.cumsum(rng.normal(0, 0.2, steps))
    path = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], 1) * 6, axis=0)
    path += np.array([place.column, place.row]) - path.mean(axis=0)
    canvas = np.zeros(part.surface.height.shape, np.uint8)
    # OpenCV takes 1/16 pixels with shift 4
    points = [(round(16 * x), round(16 * y)) for x, y in path.tolist()]
    for index, (start, end) in enumerate(pairwise(points)):
        taper = 0.55 + 0.45 * np.sin(np.pi * (index + 0.5) / len(path))
        cv2.line(canvas, start, end, 255, max(2, round(width * taper)), cv2.LINE_AA, 4)
    strength = cv2.GaussianBlur(canvas.astype(np.float32) / 255, (0, 0), 0.8)
    return SceneDefect(
        strength,
        rise=-place.amplitude * strength,
        cover=0.75 * strength,
        paint=(0.015, 0.012, 0.01),
    )


def _hole(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    distance = _ragged_distance(place, part, rng, 0.10)
    strength = smooth_step(distance, 1.08, 0.90)
    return SceneDefect(
        strength,
        rise=-place.amplitude * strength,
        cover=0.85 * strength,
        paint=(0.02, 0.016, 0.013),
    )


def _contamination(place: Place, part: Part, rng: np.random.Generator) -> SceneDefect:
    """A crumb of something else that lies on the part."""
    distance = _ragged_distance(place, part, rng, 0.13)
    strength = smooth_step(distance, 1.08, 0.92)
    dome = np.sqrt(np.clip(1.1 - distance**2, 0, 1)) * strength
    colors = ((0.30, 0.05, 0.04), (0.05, 0.20, 0.07), (0.55, 0.52, 0.45), (0.42, 0.33, 0.06))
    paint = colors[int(rng.integers(4))]
    return SceneDefect(
        strength,
        rise=(place.amplitude * dome).astype(np.float32),
        cover=0.9 * strength,
        paint=paint,
    )


Draw = Callable[[Place, Part, np.random.Generator], SceneDefect]
_DRAW: dict[str, Draw] = {
    "dent": _dent,
    "bump": _bump,
    "warp": _warp,
    "gouge": _gouge,
    "stain": _stain,
    "print": _print,
    "discoloration": _discoloration,
    "crack": _crack,
    "hole": _hole,
    "contamination": _contamination,
}
_SMALLEST = {
    "dent": 0.006,
    "bump": 0.006,
    "warp": 0.008,
    "gouge": 0.006,
    "stain": 0.002,
    "print": 0.004,
    "discoloration": 0.004,
    "crack": 0.004,
    "hole": 0.0012,
    "contamination": 0.0012,
}
