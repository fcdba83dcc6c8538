"""Material that is absent where the part should be, or extra beside it, on a mesh: cut with ragged
tools, added along the outline, or displaced (kinds: trainer.synthetic.material).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from manifold3d import CrossSection, Manifold
from numpy.typing import NDArray

from trainer.synthetic.meshes.finish import MeshProduct
from trainer.synthetic.meshes.relief import Flaw, around, sampled
from trainer.synthetic.meshes.solids import (
    UNDER_MM,
    Points,
    Triangles,
    flared,
    polygon,
    prism,
    ragged,
    triangles,
)
from trainer.synthetic.scene_defects import SHARES
from trainer.synthetic.surface import Surface

STEP_MM = 0.7  # between points of an outline
REACH_MM, FARTHEST_MM, BISECTIONS = 300.0, 130.0, 8
TOOL_EDGE_MM, GRAIN_MM = 1.6, 0.35  # of a fresh break
SLANT_ROOM_MM = 12.0  # a slanted tool still reaches beyond the outline


@dataclass(frozen=True)
class Rim:
    """A place of the outline: (2,) mm each, the place and the unit vector away from the part; and
    the points of its contour (N, 2), starting there.
    """

    at: Points
    away: Points
    contour: Points


@dataclass(frozen=True)
class Blank:
    """A part that loses or gains material. surface: the part seen from above."""

    product: MeshProduct
    solid: Manifold
    outline: CrossSection
    surface: Surface

    @classmethod
    def of(cls, product: MeshProduct, solid: Manifold, surface: Surface) -> Blank:
        """A part with its silhouette."""
        return cls(product, solid, solid.project(), surface)

    def rim(self, rng: np.random.Generator) -> Rim:
        """A place of the outline, drawn evenly along all of it, openings of the inside too."""
        contours = [_resampled(np.asarray(c)) for c in self.outline.to_polygons()]
        lengths = np.array([len(contour) for contour in contours], np.float64)
        contour = contours[int(rng.choice(len(contours), p=lengths / lengths.sum()))]
        contour = np.roll(contour, -int(rng.integers(len(contour))), axis=0)
        return Rim(contour[0], _away(contour)[0], contour)

    def share(self, tool: CrossSection) -> float:
        """Share of the part's area that a tool takes."""
        return float((self.outline ^ tool).area() / self.outline.area())

    def height(self, at: Points) -> float:
        """Height of the part at a place, mm."""
        x, y = (np.array([[c]], np.float32) for c in at.tolist())
        return float(sampled(self.surface.height, x, y)[0, 0])


def material_flaw(
    kind: str, product: MeshProduct, solid: Manifold, surface: Surface, rng: np.random.Generator
) -> Flaw | None:
    """A part with a defect of its material, None if the place that was drawn has no room for it.

    surface: the part seen from above. How much of the image it changes is for the caller to see.
    """
    least, largest = SHARES[kind]
    blank = Blank.of(product, solid, surface)
    share = float(np.exp(rng.uniform(np.log(least * 1.3), np.log(largest * 0.85))))
    return _MAKE[kind](blank, share, rng)


def _chip(blank: Blank, share: float, rng: np.random.Generator) -> Flaw | None:
    rim = blank.rim(rng)
    radius = float(np.sqrt(2 * share * blank.outline.area() / np.pi))
    center = rim.at + rim.away * radius * float(rng.uniform(0, 0.5))
    blob = ragged(rng, radius, 0.16).translate((float(center[0]), float(center[1])))
    if not 0.5 * share < blank.share(blob) < 1.6 * share:
        return None
    return _cut(blank, _fractured(blob, rim.away, rng))


def _broken(blank: Blank, share: float, rng: np.random.Generator) -> Flaw | None:
    """All beyond a ragged line, which is moved until it takes the share."""
    turn = float(rng.uniform(0, 360))
    along = np.arange(-REACH_MM / 2, REACH_MM / 2, 1.0)
    waves = 2 * np.pi / np.exp(rng.uniform(np.log(3), np.log(60), 12))
    wander = np.sin(np.outer(along, waves) + rng.uniform(0, 6, 12)) / waves**1.2
    wander = wander.sum(axis=1) * (float(rng.uniform(1.2, 2.6)) / wander.sum(axis=1).std())
    edge = np.stack([wander, along], 1)
    far = np.array([[REACH_MM, along[-1]], [REACH_MM, along[0]]])
    beyond = polygon(np.concatenate([edge, far]))
    nearest, farthest = 0.0, FARTHEST_MM
    for _ in range(BISECTIONS):
        away = (nearest + farthest) / 2
        if blank.share(beyond.translate((away, 0)).rotate(turn)) > share:
            nearest = away
        else:
            farthest = away
    # no larger than it has to be: its faces are refined
    near = blank.outline.offset(SLANT_ROOM_MM)
    tool = beyond.translate((farthest, 0)).rotate(turn) ^ near
    way = np.array([np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))])
    return _cut(blank, _fractured(tool, way, rng))


def _short_shot(blank: Blank, share: float, rng: np.random.Generator) -> Flaw | None:
    """Half of them an opening inside; round edges, as the melt froze."""
    radius = float(np.sqrt(share * blank.outline.area() / np.pi))
    if rng.random() < 0.5:
        inner = blank.outline.offset(-0.8 * radius - 2.5).to_polygons()
        if not inner:
            return None
        contour = np.asarray(inner[int(rng.integers(len(inner)))])
        center = contour[int(rng.integers(len(contour)))]
    else:
        rim = blank.rim(rng)
        center = rim.at + rim.away * radius * float(rng.uniform(-0.2, 0.5))
    blob = ragged(rng, radius, 0.10, 1.8, finest=6).offset(-1.0).offset(1.0)
    blob = blob.translate((float(center[0]), float(center[1])))
    if not 0.5 * share < blank.share(blob) < 1.5 * share:
        return None
    top = max(blank.height(np.asarray(center)), 4.0)
    tool = flared(blob, UNDER_MM, top, min(float(rng.uniform(1.5, 3.0)), top - 1.0))
    flaw = _cut(blank, tool)
    return None if flaw is None else Flaw(flaw.corners, np.zeros_like(flaw.fresh), None, None)


def _burr(blank: Blank, share: float, rng: np.random.Generator) -> Flaw | None:
    """A ragged strip along the outline."""
    rim = blank.rim(rng)
    out = float(rng.uniform(2.0, 6.0))
    count = max(round(share * blank.outline.area() / (0.8 * out) / STEP_MM), 5)
    if count > len(rim.contour) // 2:
        return None
    line, away = rim.contour[:count], _away(rim.contour)[:count]
    share_along = np.linspace(-1, 1, count)
    fringe = np.convolve(rng.standard_normal(count + 6), np.hanning(7) / 2, "valid")
    width = out * np.clip(1 + 0.35 * fringe, 0.35, 1.6) * (1 - share_along**4)
    strip = np.concatenate([line + away * width[:, None], (line - 0.6 * away)[::-1]])
    added = polygon(strip) - blank.outline.offset(-0.5)
    top = blank.product.flash_mm * float(rng.uniform(0.85, 1.15))
    flash = prism(added, 0.0, top).refine_to_length(TOOL_EDGE_MM)
    corners = _shaken(triangles(flash), 0.2, rng)
    whole = np.concatenate([triangles(blank.solid), corners])
    return Flaw(whole, np.zeros(len(whole), np.bool_), None, None)


def _bent(blank: Blank, share: float, rng: np.random.Generator) -> Flaw | None:
    """A piece of the rim pushed sideways, most in its middle."""
    rim = blank.rim(rng)
    push = float(rng.uniform(3.0, 7.0))
    changed = share * blank.outline.area() / push
    reach = float(np.clip(changed * 0.8, 2.6 * push, 60.0))
    turn = float(rng.uniform(-1.0, 1.0)) + (np.pi if rng.random() < 0.5 else 0.0)
    cos, sin = np.cos(turn), np.sin(turn)
    way = push * np.array([[cos, -sin], [sin, cos]]) @ rim.away
    piece, rest = around(blank.solid, rim.at - reach, rim.at + reach)
    corners = triangles(piece.refine_to_length(1.2))
    flat = corners.reshape(-1, 3)
    squared = ((flat[:, :2] - rim.at) ** 2).sum(axis=1, keepdims=True) / reach**2
    flat[:, :2] += np.maximum(1 - squared, 0) ** 2 * way
    whole = np.concatenate([triangles(rest), corners])
    return Flaw(whole, np.zeros(len(whole), np.bool_), None, None)


def _cut(blank: Blank, tool: Manifold) -> Flaw | None:
    """What a tool leaves: the largest piece, for what comes off is not on the table."""
    marked = tool.as_original()
    pieces = (blank.solid - marked).decompose()
    if not pieces:
        return None
    left = max(pieces, key=Manifold.volume)
    return Flaw(triangles(left), _made_by(left, marked.original_id()), None, None)


def _made_by(solid: Manifold, origin: int) -> NDArray[np.bool_]:
    """Which triangles of a solid come from another one, (F,) bool."""
    mesh = solid.to_mesh64()
    ends = np.asarray(mesh.run_index) // 3
    made = np.zeros(len(mesh.tri_verts), np.bool_)
    for number, run in enumerate(np.asarray(mesh.run_original_id)):
        made[ends[number] : ends[number + 1]] = run == origin
    return made


def _fractured(tool: CrossSection, way: Points, rng: np.random.Generator) -> Manifold:
    """A tool with rough walls, slanted so that the break is seen from above."""
    slant = float(rng.uniform(-0.1, 0.35))
    body = prism(tool, UNDER_MM, 26.0).refine_to_length(TOOL_EDGE_MM)

    def warped(points: Points) -> Points:
        moved = points.copy()
        moved[:, :2] -= slant * points[:, 2:] * way
        return cast(Points, moved + GRAIN_MM * _waves(points, phases))

    phases = rng.uniform(0, 2 * np.pi, (3, 4))
    return cast(Manifold, body.warp_batch(warped))


def _shaken(corners: Triangles, amplitude_mm: float, rng: np.random.Generator) -> Triangles:
    """Triangles with their points moved by a smooth field, those on the table along it."""
    flat = corners.reshape(-1, 3)
    moved = amplitude_mm * _waves(flat, rng.uniform(0, 2 * np.pi, (3, 4)))
    moved[:, 2] *= 2.5 * np.minimum(flat[:, 2], 1)
    return cast(Triangles, (flat + moved).reshape(corners.shape))


def _waves(points: Points, phases: Points) -> Points:
    """A smooth field of about unit size over space, waves of 3 to 9 mm."""
    numbers = 2 * np.pi / np.array([9.0, 6.1, 4.3, 3.1])
    skew = points @ np.array([[1.0, 0.31, -0.23], [-0.37, 1.0, 0.41], [0.53, -0.29, 1.0]])
    return cast(Points, np.sin(skew[:, :, None] * numbers + phases).sum(axis=2) / 2)


def _resampled(contour: Points) -> Points:
    """A closed line as points about STEP_MM apart."""
    closed = np.concatenate([contour, contour[:1]])
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    steps = np.linspace(0, along[-1], max(round(float(along[-1]) / STEP_MM), 8), endpoint=False)
    return cast(Points, np.stack([np.interp(steps, along, closed[:, axis]) for axis in (0, 1)], 1))


def _away(contour: Points) -> Points:
    """Unit vectors away from the part, whose outline runs counterclockwise and holes clockwise."""
    along = np.roll(contour, -2, axis=0) - np.roll(contour, 2, axis=0)
    away = np.stack([along[:, 1], -along[:, 0]], 1)
    return cast(Points, away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9))


Make = Callable[[Blank, float, np.random.Generator], Flaw | None]
_MAKE: dict[str, Make] = {
    "chip": _chip,
    "broken": _broken,
    "short_shot": _short_shot,
    "burr": _burr,
    "bent": _bent,
}
