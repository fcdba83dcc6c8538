"""Defects of height and color on a mesh: what a part looks like from above, the defect on that map
(trainer.synthetic.scene_defects), and the mesh displaced by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from manifold3d import Manifold
from numpy.typing import NDArray

from trainer.synthetic.meshes.finish import Finish, MeshProduct, Place
from trainer.synthetic.meshes.rays import Shape
from trainer.synthetic.meshes.solids import OVER_MM, UNDER_MM, Points, Triangles, triangles
from trainer.synthetic.noise import Image
from trainer.synthetic.scene_defects import SceneDefect, local_defect
from trainer.synthetic.surface import Surface

MAP_MM, MAP_PX = 250.0, 724  # side of a map
PITCH_MM = MAP_MM / MAP_PX
PEEK_MM = 100.0  # height that the map's rays start from
LEAST_RISE_MM = 0.02
MARGIN_MM = 1.5
LEAST_Z_MM = 0.1  # nothing is pushed through the table
# a refined mesh's edges: smooth kinds need no finer ones
EDGE_MM = {"dent": 0.8, "bump": 0.8, "warp": 0.8, "gouge": 0.5}
FINE_EDGE_MM = 0.45
FOLD = 1024


@dataclass(frozen=True)
class Flaw:
    """A part with a defect: its triangles in part coordinates, which of them are fresh breaks (F,)
    bool, and what covers its surface, on a map from above. sigmas: height over the depth noise,
    None where the images tell it.
    """

    corners: Triangles
    fresh: NDArray[np.bool_]
    defect: SceneDefect | None
    sigmas: float | None


def seen_from_above(corners: Triangles, finish: Finish) -> Surface:
    """A part as a map over its own coordinates: x to the right, y upwards, (MAP_PX, MAP_PX)."""
    half = MAP_PX // 2
    axis = ((np.arange(half) + 0.5) / half - 0.5) * MAP_MM
    x, y = np.meshgrid(axis, -axis)
    origins = np.stack([x, y, np.full_like(x, PEEK_MM)], -1).astype(np.float32)
    down = np.broadcast_to(np.array([0, 0, -1], np.float32), origins.shape)
    shape = Shape(corners)
    away, face = shape.first(origins, down)
    inside = (face >= 0).astype(np.float32)
    height = np.where(face >= 0, PEEK_MM - away, 0).astype(np.float32)
    up = shape.normals[face, 2] * inside
    look = finish.look(Place(origins[..., 0], origins[..., 1], height, up))
    full = [_doubled(image) for image in (height, inside, look.albedo, look.shine)]
    return Surface(full[0], full[1], full[2], full[3], look.exponent)


def local_flaw(
    kind: str,
    product: MeshProduct,
    solid: Manifold,
    surface: Surface,
    sigma_mm: float,
    rng: np.random.Generator,
) -> Flaw:
    """A part with a local defect of `kind`; surface: the part seen from above.

    Raises: RuntimeError if the part has no place for it.
    """
    defect, _, sigmas = local_defect(kind, product, surface, sigma_mm, rng)
    if defect.rise is None:
        corners = triangles(solid)
    else:
        corners = _displaced(solid, defect.rise, surface, EDGE_MM.get(kind, FINE_EDGE_MM))
    return Flaw(corners, np.zeros(len(corners), np.bool_), defect, sigmas)


def sampled(image: Image, x: Image, y: Image) -> Image:
    """A map at part coordinates (mm), 0 outside of it."""
    u = (x * (1 / PITCH_MM) + (MAP_PX - 1) / 2).astype(np.float32)
    v = (y * (-1 / PITCH_MM) + (MAP_PX - 1) / 2).astype(np.float32)
    return cast(Image, cv2.remap(image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def around(solid: Manifold, low: Points, high: Points) -> tuple[Manifold, Manifold]:
    """The piece of a solid between two corners (x, y), and the rest."""
    size = (float(high[0] - low[0]), float(high[1] - low[1]), OVER_MM - UNDER_MM)
    box = Manifold.cube(size).translate((float(low[0]), float(low[1]), UNDER_MM))
    return solid ^ box, solid - box


def _displaced(solid: Manifold, rise: Image, surface: Surface, edge_mm: float) -> Triangles:
    """The triangles of a solid, its upper side raised by a map; the piece around it is refined."""
    rows, columns = np.nonzero((np.abs(rise) > LEAST_RISE_MM) & (surface.inside > 0))
    center = (MAP_PX - 1) / 2
    low = np.array([columns.min() - center, center - rows.max()]) * PITCH_MM - MARGIN_MM
    high = np.array([columns.max() - center, center - rows.min()]) * PITCH_MM + MARGIN_MM
    piece, rest = around(solid, low, high)
    corners = triangles(piece.refine_to_length(edge_mm))
    flat = corners.reshape(-1, 3)
    x, y, z = flat.T
    # the lower side stays where it is, and what lies between follows in proportion
    top = cv2.dilate(surface.height, np.ones((5, 5), np.uint8))
    share = np.clip(z / np.maximum(_at_points(top, x, y), 1), 0, 1)
    moved = z + share * _at_points(rise, x, y)
    flat[:, 2] = np.maximum(moved, np.minimum(z, LEAST_Z_MM))
    return cast(Triangles, np.concatenate([triangles(rest), corners]))


def _at_points(image: Image, x: Points, y: Points) -> Points:
    """A map at (N,) part coordinates: (N,). OpenCV takes no image of so many rows, so the points
    are folded into one.
    """
    short = -len(x) % FOLD
    folded = [np.pad(axis, (0, short)).reshape(-1, FOLD).astype(np.float32) for axis in (x, y)]
    return cast(Points, sampled(image, folded[0], folded[1]).ravel()[: len(x)])


def _doubled(image: Image) -> Image:
    return cast(Image, cv2.resize(image, (MAP_PX, MAP_PX), interpolation=cv2.INTER_LINEAR))
