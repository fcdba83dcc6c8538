"""A cast lever: two bosses of different size with machined faces and bores, a curved arm with a
rib between them, a lug on one side. It turns freely, and is nowhere symmetric.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from manifold3d import Manifold, OpType

from trainer.synthetic.meshes.finish import (
    Color,
    Finish,
    Look,
    Patch,
    Place,
    grain,
    scaled,
    streaks,
    toned,
    varied,
)
from trainer.synthetic.meshes.solids import Points, disc, slab, slot, swept
from trainer.synthetic.shapes import smooth_step

LARGE_MM, SMALL_MM = (-76.0, -18.0), (78.0, -22.0)  # axes of the bosses
SAG_MM = 44.0  # how far the arm bows out
ARM_MM, RIB_MM, LARGE_HIGH_MM, SMALL_HIGH_MM, LUG_MM = 10.0, 15.0, 20.0, 17.0, 12.0
ALLOYS: tuple[Color, ...] = ((0.34, 0.34, 0.335), (0.16, 0.155, 0.15), (0.25, 0.235, 0.20))


class Lever:
    """See the module."""

    name = "lever"
    turns = 180.0
    flash_mm = 7.0

    def __init__(self, rng: np.random.Generator) -> None:
        self._color = varied(rng, ALLOYS[int(rng.integers(len(ALLOYS)))], 0.05)
        self._grain, self._clouds = grain(rng, 2.0, 4), grain(rng, 26, 3)
        self._brush = streaks(rng, 26)
        self.looks = self._color
        self.fracture: Color = (0.42, 0.42, 0.41)
        is_dark = float(np.mean(self._color)) < 0.2
        self.stain: Color = (0.36, 0.30, 0.20) if is_dark else (0.08, 0.05, 0.02)
        self.tint: Color = (1.9, 1.35, 0.8) if is_dark else (0.95, 0.62, 0.34)

    def solid(self, rng: np.random.Generator) -> Manifold:
        """One lever."""
        sag, width = scaled(rng, SAG_MM, 0.004), scaled(rng, 1.0, 0.004)
        arm, rib, large, small, lug = (
            scaled(rng, height, 0.005)
            for height in (ARM_MM, RIB_MM, LARGE_HIGH_MM, SMALL_HIGH_MM, LUG_MM)
        )
        bores = disc(scaled(rng, 16.0), *LARGE_MM) + disc(scaled(rng, 8.5), *SMALL_MM)
        path = _arc(sag)
        radii = np.linspace(24.0, 16.0, len(path)) * width
        lug_at = path[len(path) * 5 // 9] + np.array([4.0, 31.0])
        lug_arm = swept(np.stack([path[len(path) // 2], lug_at]), np.array([12.0, 11.0]))
        lug_hole = disc(scaled(rng, 4.5), float(lug_at[0]), float(lug_at[1]))
        holes = bores + lug_hole
        shell = swept(path, radii) + disc(37, *LARGE_MM) + disc(26, *SMALL_MM)
        ridge = swept(path[3:-3], np.linspace(5.0, 3.8, len(path) - 6) * width)
        solids = [
            slab(shell - holes, arm, 2.6),
            slab(lug_arm - holes, arm - 1.0, 2.4),
            slab(disc(11.5, float(lug_at[0]), float(lug_at[1])) - lug_hole, lug, 1.2),
            slab(ridge - bores, rib, 2.8),
            slab(disc(31.5, *LARGE_MM) - bores, large, 1.4),
            slab(disc(20.5, *SMALL_MM) - bores, small, 1.2),
            slab(slot(30, 9, -30, 30, 27) - holes, arm + 1.6, 1.2),
        ]
        return Manifold.batch_boolean(solids, OpType.Add)

    def finish(self, rng: np.random.Generator) -> Finish:
        """The surface of one lever."""
        patches = (Patch(texture, rng) for texture in (self._grain, self._clouds, self._brush))
        return _Cast(varied(rng, self._color, 0.015), *patches)


class _Cast:
    """Sand-cast, the faces of the bosses milled."""

    def __init__(self, color: Color, fine: Patch, clouds: Patch, brush: Patch) -> None:
        self._color, self._fine, self._clouds, self._brush = color, fine, clouds, brush

    def look(self, place: Place) -> Look:
        milled = smooth_step(place.z, RIB_MM + 0.8, RIB_MM + 1.2) * (place.up > 0.97)
        fine, clouds = self._fine.at(place.x, place.y), self._clouds.at(place.x, place.y)
        brush, rough = self._brush.at(place.x, place.y), np.float32(1) - milled
        cast_x, cast_y = self._fine.slopes(place.x, place.y)
        _, brush_y = self._brush.slopes(place.x, place.y)
        tone = (1 + 0.06 * clouds) * (1 + 0.07 * fine * rough + 0.03 * brush * milled)
        return Look(
            toned(self._color, tone * (1 - 0.30 * milled)),
            (0.13 + 0.12 * milled).astype(np.float32),
            (0.03 + 0.11 * milled).astype(np.float32),
            np.float32(0.085) * cast_x * rough,
            np.float32(0.085) * cast_y * rough + np.float32(0.006) * brush_y * milled,
            22.0,
        )


def _arc(sag: float) -> Points:
    """The middle of the arm, from boss to boss, bowed out by `sag`."""
    share = np.linspace(0, 1, 37)[:, None]
    straight = np.array(LARGE_MM) * (1 - share) + np.array(SMALL_MM) * share
    bow = sag * np.sin(np.pi * share**1.15)
    return cast(Points, straight + bow * np.array([[0.0, 1.0]]))
