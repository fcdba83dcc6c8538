"""A spur gear: involute teeth, a thin web with openings and ribs, a hub with bore and keyway.

Molded of plastic or turned of steel: the station's seed says which. It turns freely.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from manifold3d import CrossSection, Manifold, OpType

from trainer.synthetic.meshes.finish import (
    Color,
    Finish,
    Look,
    Marks,
    Patch,
    Place,
    grain,
    scaled,
    toned,
    varied,
)
from trainer.synthetic.meshes.solids import Points, disc, polygon, rounded, slab, slot
from trainer.synthetic.noise import Image
from trainer.synthetic.shapes import smooth_step

MODULE_MM, TEETH, PRESSURE_ANGLE = 5.0, 36, np.deg2rad(20)
RIM_MM, WEB_MM, HUB_MM, RIB_MM = 14.0, 7.0, 19.0, 11.0  # heights
RIM_INNER_MM, HUB_RADIUS_MM, BORE_MM = 74.0, 27.0, 13.0  # radii
OPENINGS = 5
PLASTICS: tuple[Color, ...] = (
    (0.60, 0.56, 0.46),
    (0.045, 0.047, 0.05),
    (0.06, 0.13, 0.30),
    (0.42, 0.10, 0.05),
    (0.34, 0.35, 0.36),
)
STEEL: Color = (0.20, 0.198, 0.19)


class Gear:
    """See the module."""

    name = "gear"
    turns = 180.0
    flash_mm = 8.0

    def __init__(self, rng: np.random.Generator) -> None:
        self._is_steel = bool(rng.random() < 0.5)
        color = STEEL if self._is_steel else PLASTICS[int(rng.integers(len(PLASTICS)))]
        self._color = varied(rng, color, 0.05)
        self._grain, self._clouds = grain(rng, 1.1), grain(rng, 30, 2)
        self.looks = self._color
        self.fracture: Color = (
            (0.26, 0.26, 0.25) if self._is_steel else varied(rng, self._color, 0.2)
        )
        is_dark = float(np.mean(self._color)) < 0.15
        self.stain: Color = (0.34, 0.30, 0.22) if is_dark else (0.07, 0.045, 0.02)
        self.tint: Color = (2.1, 1.8, 1.4) if is_dark else (0.95, 0.66, 0.36)

    def solid(self, rng: np.random.Generator) -> Manifold:
        """One gear."""
        size, bore = scaled(rng, 1.0, 0.0010), scaled(rng, BORE_MM)
        rim, web, hub = (scaled(rng, height, 0.004) for height in (RIM_MM, WEB_MM, HUB_MM))
        rim_inner, hub_radius = scaled(rng, RIM_INNER_MM), scaled(rng, HUB_RADIUS_MM)
        inner = disc(bore) + CrossSection.square((bore + 3.4, 8.0)).translate((0, -4.0))
        teeth = _toothed().scale((size, size)) - disc(rim_inner)
        windows = _windows()
        solids = [
            slab(teeth, rim, 0.9),
            slab(disc(rim_inner + 1.0) - windows - disc(hub_radius - 3.0), web, 0.8),
            slab(disc(hub_radius) - inner, hub, 1.6),
        ]
        for number in range(OPENINGS):
            rib = slot(rim_inner - hub_radius + 6.0, 5.0, (rim_inner + hub_radius) / 2, 0)
            solids.append(slab(rib.rotate((number + 0.5) * 360 / OPENINGS), RIB_MM, 1.6))
        return Manifold.batch_boolean(solids, OpType.Add)

    def finish(self, rng: np.random.Generator) -> Finish:
        """The surface of one gear."""
        color = varied(rng, self._color, 0.012)
        patches = Patch(self._grain, rng), Patch(self._clouds, rng)
        if self._is_steel:
            return _Turned(color, *patches, Marks(rng, float(rng.uniform(1.3, 1.5))))
        return _Molded(color, *patches)


class _Molded:
    """Plastic with the grain of its mold."""

    def __init__(self, color: Color, fine: Patch, clouds: Patch) -> None:
        self._color, self._fine, self._clouds = color, fine, clouds

    def look(self, place: Place) -> Look:
        fine, clouds = self._fine.at(place.x, place.y), self._clouds.at(place.x, place.y)
        slope_x, slope_y = self._fine.slopes(place.x, place.y)
        albedo = toned(self._color, 1 + 0.02 * fine + 0.022 * clouds)
        shine = 0.20 * (1 + 0.12 * fine)
        mirror = np.full_like(place.x, 0.035)
        depth = np.float32(0.012)
        return Look(albedo, shine, mirror, depth * slope_x, depth * slope_y, 28.0)


class _Turned:
    """Steel: faces turned, teeth milled, the web as forged."""

    def __init__(self, color: Color, fine: Patch, clouds: Patch, marks: Marks) -> None:
        self._color, self._fine, self._clouds, self._marks = color, fine, clouds, marks

    def look(self, place: Place) -> Look:
        radius = np.sqrt(place.x * place.x + place.y * place.y)
        faced = smooth_step(place.z, RIB_MM + 0.4, RIB_MM + 0.9) * (place.up > 0.9)
        fine, clouds = self._fine.at(place.x, place.y), self._clouds.at(place.x, place.y)
        mark, mark_slope = self._marks.at(radius)
        rough_x, rough_y = self._fine.slopes(place.x, place.y)
        along = mark_slope * faced * np.float32(0.006) / np.maximum(radius, 1)
        rough = (0.028 - 0.024 * faced).astype(np.float32)
        tone = (0.62 + 0.38 * faced) * (1 + 0.05 * clouds + (0.09 - 0.07 * faced) * fine)
        albedo = toned(self._color, cast(Image, tone + 0.05 * faced * mark))
        return Look(
            albedo,
            (0.22 + 0.26 * faced).astype(np.float32),
            (0.05 + 0.20 * faced).astype(np.float32),
            rough * rough_x + along * place.x,
            rough * rough_y + along * place.y,
            34.0,
        )


def _toothed() -> CrossSection:
    """The outline of the teeth, fillets at their roots."""
    pitch = MODULE_MM * TEETH / 2
    base = pitch * np.cos(PRESSURE_ANGLE)
    root, tip = pitch - 1.25 * MODULE_MM, pitch + MODULE_MM
    radii = np.linspace(root, tip, 9)
    angle = np.arccos(np.minimum(base / radii, 1.0))
    at_pitch = np.tan(PRESSURE_ANGLE) - PRESSURE_ANGLE
    half = np.pi / (2 * TEETH) + at_pitch - (np.tan(angle) - angle)
    flanks = [_flanks(radii, half, 2 * np.pi * tooth / TEETH) for tooth in range(TEETH)]
    return rounded(polygon(np.concatenate(flanks)), 0.5, 1.4)


def _flanks(radii: Points, half: Points, middle: float) -> Points:
    """The two flanks of one tooth, from root to root."""
    turns = np.concatenate([middle - half, middle + half[::-1]])
    away = np.concatenate([radii, radii[::-1]])
    return np.stack([away * np.cos(turns), away * np.sin(turns)], 1)


def _windows() -> CrossSection:
    """The openings of the web."""
    ring = disc(RIM_INNER_MM - 9.0) - disc(HUB_RADIUS_MM + 9.0)
    spokes = CrossSection()
    for number in range(OPENINGS):
        bar = CrossSection.square((120, 22)).translate((0, -11))
        spokes = spokes + bar.rotate((number + 0.5) * 360 / OPENINGS)
    return rounded(ring - spokes, 6.0, 0.0)
