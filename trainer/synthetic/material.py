"""Material that is absent where the part should be, or extra beside it: what each kind does to a
part's surface.

chip        a ragged bite out of the outline, with the slanted face of the break
broken      a larger piece off, along a ragged line, with a steep rough face
short_shot  never molded: an end, or an opening inside, absent with round edges as the melt froze
burr        extra material along the outline: a ragged flash, or a tongue
bent        a piece of the rim displaced sideways in the plane

The mask is where height or coverage changed: where material should be and is not, or is and should
not be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.blend import mixed, times
from trainer.synthetic.noise import Image, fractal_noise, smooth_noise
from trainer.synthetic.scene import CHANGED_MM, SUPERSAMPLING, joined
from trainer.synthetic.scene_defects import SHARES
from trainer.synthetic.shapes import smooth_step
from trainer.synthetic.surface import Product, Surface

Mask = NDArray[np.bool_]

TRIES = 60
LEAST_REST = 0.985  # of what is left lies in one piece: what comes off is not on the table
BORDER_PX = 12  # around the outline a product's coverage and height fade to 0
JOINT_MM = 3.5  # a burr reaches this far over a sloping edge of the part
RIM_REACH_PX = 12  # the way outwards is told from the part within this reach
RIM_PX = 3  # the color of a burr is that of the part this far inside the outline


@dataclass(frozen=True)
class Blank:
    """A part that loses or gains material. pitch: mm per pixel of its (R, C) grid.

    inside: (R, C) bool. from_rim, beyond: (R, C) distance in pixels from the outline, inside and
    outside of the part, 0 on the other side.
    """

    product: Product
    surface: Surface
    pitch: float
    inside: Mask
    from_rim: Image
    beyond: Image

    @classmethod
    def of(cls, product: Product, surface: Surface, pitch: float) -> Blank:
        """Measure the outline of a part."""
        inside = surface.inside > 0.5
        return cls(product, surface, pitch, inside, _distance(inside), _distance(~inside))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return int(self.inside.shape[0]), int(self.inside.shape[1])

    def rim(self, rng: np.random.Generator) -> Rim:
        """A random place of the outline."""
        rows, columns = np.nonzero(self.inside & (self.from_rim < 1.5))
        pick = int(rng.integers(rows.size))
        row, column = int(rows[pick]), int(columns[pick])
        top, left = max(row - RIM_REACH_PX, 0), max(column - RIM_REACH_PX, 0)
        window = self.inside[top : row + RIM_REACH_PX + 1, left : column + RIM_REACH_PX + 1]
        # the material near a place of the outline lies on its inner side
        dy, dx = np.nonzero(window)
        away = np.array([row - top - dy.mean(), column - left - dx.mean()])
        length = max(float(np.hypot(*away)), 1e-3)
        return Rim(row, column, float(away[0]) / length, float(away[1]) / length)


@dataclass(frozen=True)
class Rim:
    """A place of the outline in pixels, and the unit vector that leads away from the part."""

    row: int
    column: int
    away_row: float
    away_column: float

    def moved(self, away_px: float) -> tuple[float, float]:
        """Row and column this far outside of the part, or inside if negative."""
        return self.row + away_px * self.away_row, self.column + away_px * self.away_column


def material_defect(
    kind: str, product: Product, surface: Surface, pitch: float, rng: np.random.Generator
) -> tuple[Surface, Mask]:
    """A part with a defect of its outline or with an opening, and where it differs: (R, C) bool.

    Tries places and sizes until the mask lies within the limits of area and what is left is one
    piece.
    Raises: RuntimeError if it cannot: the part has no place for it.
    """
    blank = Blank.of(product, surface, pitch)
    area = float(surface.inside.sum())
    least, largest = SHARES[kind]
    for _ in range(TRIES):
        share = float(np.exp(rng.uniform(np.log(least * 1.2), np.log(largest * 0.85))))
        changed = _MAKE[kind](blank, share * area, rng)
        if changed is None:
            continue
        mask = _difference(surface, changed)
        if least * 1.1 <= mask.sum() / area <= largest * 0.88 and _is_one_piece(changed):
            return changed, mask
    raise RuntimeError(f"no place for a {kind} on a {product.name}")


def _chip(blank: Blank, area: float, rng: np.random.Generator) -> Surface | None:
    rim, radius = blank.rim(rng), float(np.sqrt(2 * area / np.pi))
    center = rim.moved(radius * float(rng.uniform(0.0, 0.7)))
    level = _rough_distance(blank, center, 0.20 * radius, max(radius, 6.0), rng)
    removed = _nearest(blank, level, area)
    face_mm = float(rng.uniform(0.8, 2.2))
    return _broken_off(blank, removed, face_mm, rng)


def _broken(blank: Blank, area: float, rng: np.random.Generator) -> Surface | None:
    rim, radius = blank.rim(rng), float(np.sqrt(2 * area / np.pi))
    center = rim.moved(radius * float(rng.uniform(0.3, 3.0)))
    level = _rough_distance(blank, center, 0.10 * radius, 0.7 * radius, rng)
    removed = _nearest(blank, level, area)
    return _broken_off(blank, removed, float(rng.uniform(0.4, 1.2)), rng)


def _short_shot(blank: Blank, area: float, rng: np.random.Generator) -> Surface | None:
    """Half of them an opening inside, if the part is wide enough."""
    radius = float(np.sqrt(area / np.pi))
    rows, columns = np.nonzero(blank.from_rim > 1.35 * radius + 3.0 / blank.pitch)
    if rng.uniform() < 0.5 and rows.size:
        pick = int(rng.integers(rows.size))
        center: tuple[float, float] = (float(rows[pick]), float(columns[pick]))
    else:
        center = blank.rim(rng).moved(radius * float(rng.uniform(-0.2, 0.5)))
    level = _rough_distance(blank, center, 0.08 * radius, 1.6 * radius, rng, octaves=1)
    removed = _nearest(blank, level, area)
    depth_mm = _away_from(removed) * np.float32(blank.pitch)
    t = np.clip(1 - depth_mm / float(rng.uniform(2.0, 3.5)), 0, 1)
    return _without(blank.surface, removed, np.sqrt(1 - 0.9 * t * t))


def _burr(blank: Blank, area: float, rng: np.random.Generator) -> Surface | None:
    """Along the outline from a place of it, until the area is reached."""
    rim = blank.rim(rng)
    rows, columns = np.mgrid[: blank.inside.shape[0], : blank.inside.shape[1]].astype(np.float32)
    along = np.hypot(rows - rim.row, columns - rim.column)
    tongue = bool(rng.uniform() < 0.4)
    out_mm = float(rng.uniform(4.0, 9.0) if tongue else rng.uniform(1.6, 4.0))
    out = out_mm / blank.pitch
    noise = smooth_noise(rng, *blank.size, (6.0 if tongue else 2.5) / blank.pitch)
    fringe = out * np.clip(1 + (0.10 if tongue else 0.30) * noise, 0.3, 1.35)
    half = 0.62 * area / out
    if tongue and half < 0.4 * out:
        return None
    end = np.clip(1 - (along / half) ** 2, 0, 1) ** (0.5 if tongue else 0.25)
    added = _piece_at(~blank.inside & (blank.beyond <= fringe * end), rim)
    return None if added is None else _with_burr(blank, added, rng)


def _bent(blank: Blank, area: float, rng: np.random.Generator) -> Surface | None:
    """A smooth displacement of all that lies near a place of the rim."""
    rim = blank.rim(rng)
    moved_px = float(rng.uniform(3.5, 8.0)) / blank.pitch
    reach = max(area / moved_px / 1.8, 2.2 * moved_px)
    turn = float(rng.uniform(-1.0, 1.0)) + (np.pi if rng.uniform() < 0.5 else 0.0)
    heading = np.arctan2(rim.away_row, rim.away_column) + turn
    rows, columns = np.mgrid[: blank.inside.shape[0], : blank.inside.shape[1]].astype(np.float32)
    squared = (rows - rim.row) ** 2 + (columns - rim.column) ** 2
    push = np.float32(moved_px) * np.exp(-squared / np.float32(reach * reach))
    from_column = columns - push * np.float32(np.cos(heading))
    from_row = rows - push * np.float32(np.sin(heading))

    def displaced(image: Image) -> Image:
        return cast(Image, cv2.remap(image, from_column, from_row, cv2.INTER_LINEAR))

    old = blank.surface
    return replace(
        old,
        height=displaced(old.height),
        inside=displaced(old.inside),
        albedo=displaced(old.albedo),
        shine=displaced(old.shine),
        tangent=None if old.tangent is None else displaced(old.tangent),
    )


def _rough_distance(
    blank: Blank,
    center: tuple[float, float],
    rough_px: float,
    cell_px: float,
    rng: np.random.Generator,
    octaves: int = 4,
) -> Image:
    """Distance in pixels from a point, squeezed along a random axis, its level lines frayed."""
    shape = blank.inside.shape
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    dy, dx = rows - np.float32(center[0]), columns - np.float32(center[1])
    turn, squeeze = float(rng.uniform(0, np.pi)), float(np.sqrt(rng.uniform(1, 1.8)))
    a = (dx * np.cos(turn) + dy * np.sin(turn)) / squeeze
    b = (dy * np.cos(turn) - dx * np.sin(turn)) * squeeze
    noise = fractal_noise(rng, *blank.size, max(cell_px, 4.0), octaves, 0.62)
    return cast(Image, (np.sqrt(a * a + b * b) + np.float32(rough_px) * noise).astype(np.float32))


def _nearest(blank: Blank, level: Image, area: float) -> Mask:
    """The `area` pixels of the part of the lowest level that lie in one piece, and the soft border
    of the outline beside them.
    """
    own = level[blank.inside]
    count = min(max(round(area), 1), own.size - 1)
    below = blank.inside & (level <= np.partition(own, count)[count])
    _, labels, stats, _ = cv2.connectedComponentsWithStats(below.astype(np.uint8), connectivity=4)
    piece = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    rows, columns = _nearest_place(blank.inside)
    return cast(Mask, piece[rows, columns] & (blank.beyond < BORDER_PX))


def _broken_off(blank: Blank, removed: Mask, face_mm: float, rng: np.random.Generator) -> Surface:
    """The part without a piece, its broken face slanted over `face_mm` and rough."""
    shape = removed.shape
    grain = smooth_noise(rng, *blank.size, 3.0)
    depth_mm = _away_from(removed) * np.float32(blank.pitch)
    slant = smooth_step(depth_mm * (1 + 0.25 * grain), -0.3 * face_mm, face_mm)
    fresh = smooth_step(depth_mm, face_mm + 0.4, face_mm - 0.2)
    color = np.full((*shape, 3), blank.product.fracture, np.float32)
    old = blank.surface
    bare = replace(
        old,
        albedo=mixed(old.albedo, times(color, 1 + 0.12 * grain), fresh),
        shine=cast(Image, old.shine * (1 - 0.8 * fresh)),
    )
    return _without(bare, removed, slant)


def _without(surface: Surface, removed: Mask, profile: Image) -> Surface:
    """The surface with nothing where `removed`, and its height beside it times the profile."""
    kept = 1 - cv2.GaussianBlur(removed.astype(np.float32), (0, 0), 0.7)
    return replace(
        surface,
        height=(surface.height * profile * kept).astype(np.float32),
        inside=(surface.inside * kept).astype(np.float32),
    )


def _with_burr(blank: Blank, added: Mask, rng: np.random.Generator) -> Surface:
    """The part with extra material: as high as a share of the rim, in the color of the rim, and
    joined to it where the part's own edge slopes.
    """
    old = blank.surface
    joint = cv2.dilate(added.astype(np.uint8), _disc(JOINT_MM / blank.pitch)) > 0
    cover = cv2.GaussianBlur((added | (joint & blank.inside)).astype(np.float32), (0, 0), 0.7)
    rows, columns = _nearest_place(blank.from_rim > RIM_PX)
    tallest = cv2.dilate(old.height, _disc(JOINT_MM / blank.pitch))[rows, columns]
    level = float(rng.uniform(0.62, 0.95))
    ripple = 1 + 0.05 * smooth_noise(rng, *blank.size, 2.0 / blank.pitch)
    height = tallest * level * np.clip(ripple, 0.85, 1.15) * cover
    new = cover > old.inside
    return replace(
        old,
        height=np.maximum(old.height, height).astype(np.float32),
        inside=np.maximum(old.inside, cover),
        albedo=np.where(new[..., None], old.albedo[rows, columns], old.albedo),
        shine=np.where(new, old.shine[rows, columns], old.shine),
    )


def _piece_at(candidates: Mask, rim: Rim) -> Mask | None:
    """The connected piece of the candidates that touches the rim at its place, None if none."""
    _, labels = cv2.connectedComponents(candidates.astype(np.uint8), connectivity=8)
    near = labels[max(rim.row - 4, 0) : rim.row + 5, max(rim.column - 4, 0) : rim.column + 5]
    found = np.bincount(near[near > 0].ravel()) if (near > 0).any() else None
    return None if found is None else cast(Mask, labels == int(found.argmax()))


def _nearest_place(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the nearest pixel of the mask, for every pixel."""
    _, labels = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    rows, columns = np.nonzero(mask)
    of_label = np.zeros((2, int(labels.max()) + 1), np.int64)
    of_label[:, labels[rows, columns]] = rows, columns
    return of_label[0][labels], of_label[1][labels]


def _disc(radius_px: float) -> NDArray[np.uint8]:
    side = 2 * round(radius_px) + 1
    return cast(NDArray[np.uint8], cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def _distance(mask: Mask) -> Image:
    return cast(Image, cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5))


def _away_from(mask: Mask) -> Image:
    """Signed distance in pixels from the border of the mask, negative inside."""
    return cast(Image, _distance(~mask) - _distance(mask))


def _difference(before: Surface, after: Surface) -> Mask:
    """Where height or coverage changed, in regions as one would draw them."""
    changed = np.abs(after.height - before.height) > CHANGED_MM
    changed |= np.abs(after.inside - before.inside) > 0.5
    tidy = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return joined(tidy > 0, SUPERSAMPLING)


def _is_one_piece(surface: Surface) -> bool:
    inside = (surface.inside > 0.5).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return bool(areas.size) and float(areas.max()) >= LEAST_REST * float(areas.sum())


Make = Callable[[Blank, float, np.random.Generator], Surface | None]
_MAKE: dict[str, Make] = {
    "chip": _chip,
    "broken": _broken,
    "short_shot": _short_shot,
    "burr": _burr,
    "bent": _bent,
}
