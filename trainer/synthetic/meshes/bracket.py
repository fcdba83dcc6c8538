"""A bracket stamped of sheet metal: an irregular plate with holes, slots and a tab, a flange bent
up along one side, a bead and a collar drawn out of the sheet. A fixture holds it within 7 degrees.
"""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection, Manifold, OpType

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
from trainer.synthetic.meshes.solids import disc, polygon, rounded, slab, slot

SHEET_MM, FLANGE_MM, BEND_MM = 5.0, 21.0, 6.0
FLANGE_Y_MM, FLANGE_X_MM = -52.0, (-72.0, 44.0)  # outer face, ends
OUTLINE = np.array(
    [
        (-98, -52), (70, -52), (96, -30), (96, 14), (74, 22), (74, 58), (30, 58), (22, 44),
        (-18, 44), (-26, 66), (-60, 66), (-66, 50), (-98, 38), (-98, 8), (-88, 2), (-88, -14),
        (-98, -20),
    ],
    np.float64,
)  # fmt: skip
COATINGS: tuple[Color, ...] = ((0.30, 0.305, 0.31), (0.23, 0.22, 0.20), (0.31, 0.26, 0.15))


class Bracket:
    """See the module."""

    name = "bracket"
    turns = 7.0
    flash_mm = 7.0

    def __init__(self, rng: np.random.Generator) -> None:
        self._color = varied(rng, COATINGS[int(rng.integers(len(COATINGS)))], 0.05)
        self._brush, self._clouds = streaks(rng, 34), grain(rng, 22, 3)
        self._fine = grain(rng, 1.2)
        self.looks = self._color
        self.fracture: Color = (0.34, 0.34, 0.33)
        self.stain: Color = (0.07, 0.04, 0.02)
        self.tint: Color = (0.95, 0.62, 0.34)

    def solid(self, rng: np.random.Generator) -> Manifold:
        """One bracket."""
        size, sheet = scaled(rng, 1.0, 0.0008), scaled(rng, SHEET_MM, 0.006)
        outline = rounded(polygon(OUTLINE), 5.0, 3.0).scale((size, size))
        flange_high = scaled(rng, FLANGE_MM, 0.006)
        collar = scaled(rng, 11.0)
        bead = slot(scaled(rng, 76.0), 13.0, -34.0, -22.0)
        solids = [
            slab(outline - _holes(rng) - disc(collar, 52.0, -8.0), sheet, 0.7),
            slab(disc(collar + 4.2, 52.0, -8.0) - disc(collar, 52.0, -8.0), sheet + 5.0, 1.5),
            slab(bead, sheet + scaled(rng, 3.2, 0.01), 3.0),
            _flange(flange_high, sheet),
        ]
        return Manifold.batch_boolean(solids, OpType.Add)

    def finish(self, rng: np.random.Generator) -> Finish:
        """The surface of one bracket."""
        patches = (Patch(texture, rng) for texture in (self._brush, self._clouds, self._fine))
        return _Rolled(varied(rng, self._color, 0.012), *patches)


class _Rolled:
    """Rolled and coated sheet, its grain along x."""

    def __init__(self, color: Color, brush: Patch, clouds: Patch, fine: Patch) -> None:
        self._color, self._brush, self._clouds, self._fine = color, brush, clouds, fine

    def look(self, place: Place) -> Look:
        brush, clouds = self._brush.at(place.x, place.y), self._clouds.at(place.x, place.y)
        fine = self._fine.at(place.x, place.y)
        _, slope_y = self._brush.slopes(place.x, place.y)
        tone = 1 + 0.035 * brush + 0.04 * clouds + 0.02 * fine
        shine = 0.34 * (1 + 0.08 * brush)
        depth = np.float32(0.009)
        mirror = np.full_like(place.x, 0.13)
        return Look(toned(self._color, tone), shine, mirror, 0 * slope_y, depth * slope_y, 26.0)


def _holes(rng: np.random.Generator) -> CrossSection:
    """Holes and slots punched through the plate."""
    shift = rng.normal(0, 0.06, (4, 2))
    return (
        disc(scaled(rng, 7.0), -80 + shift[0, 0], 22 + shift[0, 1])
        + disc(scaled(rng, 5.0), -43 + shift[1, 0], 54 + shift[1, 1])
        + disc(scaled(rng, 4.2), 84 + shift[2, 0], -20 + shift[2, 1])
        + slot(34.0, scaled(rng, 11.0), 52 + shift[3, 0], 38 + shift[3, 1], 0)
        + rounded(CrossSection.square((44, 20)).translate((-46, 6)), 4.0, 0.0)
        + slot(22.0, 9.0, 16, 14, 58)
    )


def _flange(high: float, sheet: float) -> Manifold:
    """The upright side: the sheet bent up around BEND_MM, its free corners round."""
    start, end = FLANGE_X_MM
    bend = polygon(np.array([(0, 0), (BEND_MM + sheet, 0), (BEND_MM + sheet, sheet), (0, sheet)]))
    upright = CrossSection.square((sheet, high))
    web = bend + upright
    corner = CrossSection.square((BEND_MM, BEND_MM)).translate((sheet, sheet))
    inner = corner - disc(BEND_MM, sheet + BEND_MM, sheet + BEND_MM)
    corner = CrossSection.square((BEND_MM, BEND_MM)) - disc(BEND_MM, BEND_MM, BEND_MM)
    profile = web + inner - corner
    # the profile stands in y and z: extruded along x
    body = profile.extrude(end - start).rotate((90, 0, 90)).translate((start, FLANGE_Y_MM, 0))
    face = CrossSection.square((end - start, 2 * high)).translate((start, -high))
    keep = (
        rounded(face, 7.0, 0.0).extrude(40).rotate((90, 0, 0)).translate((0, FLANGE_Y_MM + 30, 0))
    )
    return body ^ keep
