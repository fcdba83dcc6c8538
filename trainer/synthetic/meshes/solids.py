"""Solids from outlines: slabs with rounded edges, outlines swept along arcs, ragged tools to cut
with. All in mm, z upwards from the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
from manifold3d import CrossSection, FillRule, Manifold, Mesh, OpType, triangulate
from numpy.typing import NDArray

Points = NDArray[np.float64]
Triangles = NDArray[np.float64]
"""(F, 3, 3): corners of F triangles, counterclockwise from outside."""

SEGMENT_MM = 1.2  # length of a straight piece of a curve
ROUND_STEPS = 4  # bands of a rounded edge
UNDER_MM, OVER_MM = -1.0, 40.0  # tools reach from below the table to above any part


def disc(radius: float, x: float = 0.0, y: float = 0.0) -> CrossSection:
    """A disc of that radius around (x, y)."""
    segments = max(48, round(2 * np.pi * radius / SEGMENT_MM))
    return CrossSection.circle(radius, segments).translate((x, y))


def polygon(points: Points) -> CrossSection:
    """The area within (N, 2) points, whichever way around."""
    return CrossSection([np.asarray(points, np.float64)], fillrule=FillRule.NonZero)


def slot(length: float, width: float, x: float, y: float, degrees: float = 0.0) -> CrossSection:
    """A slot with round ends, its length from end to end, around (x, y)."""
    half = (length - width) / 2
    ends = [disc(width / 2, -half), disc(width / 2, half)]
    return CrossSection.batch_hull(ends).rotate(degrees).translate((x, y))


def rounded(outline: CrossSection, outward: float, inward: float) -> CrossSection:
    """The outline with convex corners rounded by `outward` and hollow ones by `inward` mm."""
    grown = outline.offset(inward).offset(-inward - outward) if inward else outline.offset(-outward)
    return grown.offset(outward)


def swept(path: Points, radii: Points) -> CrossSection:
    """The area that a disc covers on its way along (N, 2) points, its radius (N,) changing."""
    discs = [disc(float(r), float(x), float(y)) for (x, y), r in zip(path, radii, strict=True)]
    pieces = [CrossSection.batch_hull([a, b]) for a, b in pairwise(discs)]
    return CrossSection.batch_boolean(pieces, OpType.Add)


def prism(outline: CrossSection, bottom: float, top: float) -> Manifold:
    """The outline from z = bottom to z = top."""
    return outline.extrude(top - bottom).translate((0, 0, bottom))


def slab(outline: CrossSection, height: float, radius: float, bottom: float = 0.0) -> Manifold:
    """The outline from z = bottom to z = bottom + height, its upper edge rounded.

    Bands between outlines offset inwards make the round; every band has its own triangles, so that
    outlines of any shape, with holes, can be rounded.
    """
    angles = np.linspace(0, np.pi / 2, ROUND_STEPS + 1)
    levels = [(0.0, 0.0)]
    levels += [(radius * (1 - np.cos(t)), height - radius * (1 - np.sin(t))) for t in angles]
    first = outline.simplify(0.01)
    # the foot and the lowest ring are the same outline, so that the wall stands upright
    rings = [first] + [first if not inset else first.offset(-inset) for inset, _ in levels[1:]]
    return _stacked([ring.to_polygons() for ring in rings], [z + bottom for _, z in levels])


def flared(outline: CrossSection, bottom: float, top: float, radius: float) -> Manifold:
    """A tool that leaves a rounded edge at z = top: the outline, wider by `radius` there and above,
    up to OVER_MM.
    """
    angles = np.linspace(0, np.pi / 2, ROUND_STEPS + 1)
    levels = [(0.0, bottom)]
    levels += [(radius * (1 - np.cos(t)), top - radius + radius * np.sin(t)) for t in angles]
    rings = [outline.simplify(0.01)]
    rings += [rings[0] if not grow else rings[0].offset(grow) for grow, _ in levels[1:]]
    rings, levels = [*rings, rings[-1]], [*levels, (radius, OVER_MM)]
    return _stacked([ring.to_polygons() for ring in rings], [z for _, z in levels])


def ragged(
    rng: np.random.Generator,
    radius: float,
    roughness: float,
    stretch: float = 1.5,
    finest: int = 40,
) -> CrossSection:
    """A ragged blob of about that radius around the origin, longer than wide by up to `stretch`.

    roughness: RMS of the radius over the radius; its spectrum falls, as broken edges' does, up to
    `finest` waves around.
    """
    count = max(24, round(2 * np.pi * radius / 0.8))
    turn = np.arange(count) * (2 * np.pi / count)
    orders = np.arange(2, max(5, min(finest, count // 3)))
    phases = rng.uniform(0, 2 * np.pi, orders.size)
    wave = (np.cos(np.outer(turn, orders) + phases) / orders**0.8).sum(axis=1)
    away = radius * np.maximum(1 + roughness * wave / max(float(wave.std()), 1e-9), 0.3)
    long = float(np.sqrt(rng.uniform(1, stretch)))
    points = np.stack([away * np.cos(turn) * long, away * np.sin(turn) / long], 1)
    return polygon(points).rotate(float(rng.uniform(0, 360)))


def triangles(solid: Manifold) -> Triangles:
    """The triangles of a solid."""
    mesh = solid.to_mesh64()
    points = np.asarray(mesh.vert_properties, np.float64)[:, :3]
    return cast(Triangles, points[np.asarray(mesh.tri_verts)])


def _stacked(rings: Sequence[list[Points]], levels: Sequence[float]) -> Manifold:
    """A solid from outlines above each other: the first closed by a floor, the last by a ceiling.

    Neighboring outlines are the same, or one lies within the other.
    """
    starts = np.cumsum([0] + [sum(len(contour) for contour in ring) for ring in rings])
    flat = [np.concatenate(ring) for ring in rings]
    points = np.concatenate(
        [
            np.column_stack([ring, np.full(len(ring), z)])
            for ring, z in zip(flat, levels, strict=True)
        ]
    )
    faces = [triangulate(rings[0])[:, ::-1] + starts[0], triangulate(rings[-1]) + starts[-2]]
    for number, (low, high) in enumerate(pairwise(rings)):
        if np.array_equal(flat[number], flat[number + 1]):
            faces.append(_wall(low, int(starts[number]), int(starts[number + 1])))
        else:
            faces.append(_band(low, high, int(starts[number]), int(starts[number + 1])))
    return Manifold(
        Mesh(
            np.ascontiguousarray(points, np.float32),
            np.ascontiguousarray(np.concatenate(faces), np.uint32),
        )
    )


def _wall(ring: list[Points], low: int, high: int) -> NDArray[np.int64]:
    """Upright faces between an outline and the same outline above it."""
    faces = []
    for contour in ring:
        own = np.arange(len(contour))
        after = np.roll(own, -1)
        faces.append(np.stack([low + own, low + after, high + after], 1))
        faces.append(np.stack([low + own, high + after, high + own], 1))
        low, high = low + len(contour), high + len(contour)
    return np.concatenate(faces)


def _band(low: list[Points], high: list[Points], start: int, above: int) -> NDArray[np.int64]:
    """Faces between an outline and a narrower or a wider one above it."""
    narrower = _area(high) < _area(low)
    outer, inner = (low, high) if narrower else (high, low)
    reversed_inner = [contour[::-1] for contour in inner]
    faces = triangulate([*outer, *reversed_inner])
    count = sum(len(contour) for contour in outer)
    back = _reversed_order(inner)
    number = np.where(
        faces < count,
        faces + (start if narrower else above),
        back[np.maximum(faces - count, 0)] + (above if narrower else start),
    )
    return cast(NDArray[np.int64], number if narrower else number[:, ::-1])


def _area(ring: list[Points]) -> float:
    x_y = [(contour, np.roll(contour, -1, axis=0)) for contour in ring]
    return float(sum((a[:, 0] * b[:, 1] - b[:, 0] * a[:, 1]).sum() / 2 for a, b in x_y))


def _reversed_order(ring: list[Points]) -> NDArray[np.int64]:
    """Where each point of the contours, each turned around, stands in the contours themselves."""
    starts = np.cumsum([0] + [len(contour) for contour in ring])
    return np.concatenate(
        [np.arange(len(c))[::-1] + start for c, start in zip(ring, starts, strict=False)]
    )
