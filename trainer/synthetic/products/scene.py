"""One station for a product that is a height field: a part on the table, perhaps with a defect,
under the station's lamp.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.blend import mixed
from trainer.synthetic.lens import Remap
from trainer.synthetic.logical import equipped, rearranged
from trainer.synthetic.material import material_defect
from trainer.synthetic.noise import Image
from trainer.synthetic.scene import (
    CHANGED_MM,
    CROP,
    HEIGHT,
    MM_PER_M,
    SUPERSAMPLING,
    WIDTH,
    CameraStation,
    Scene,
    Truth,
)
from trainer.synthetic.scene_change import UNCHANGED, SceneChange
from trainer.synthetic.scene_defects import GROUPS, applied, defects_of, local_defect
from trainer.synthetic.surface import Counted, Grid, Light, Product, Surface, shade

FULL_SIZE_M = 0.31  # a nearer camera gets smaller parts, so that they lie in the crop


@dataclass(frozen=True)
class Marred:
    """A part with what is wrong with it, on an (R, C) grid. mask: (R, C) bool.

    sigmas: the defect's height over the depth noise of the station's own scene, at the height of
    the part.
    """

    surface: Surface
    mask: NDArray[np.bool_]
    sigmas: float
    height_mm: float = 0.0

    def moved(self, move: Remap) -> Marred:
        """The same in another view of the table."""
        part, tangent = self.surface, self.surface.tangent
        surface = replace(
            part,
            height=move.zeroed(part.height),
            inside=move.zeroed(part.inside),
            albedo=move.mirrored(part.albedo),
            shine=move.mirrored(part.shine),
            tangent=None if tangent is None else move.mirrored(tangent),
        )
        mask = move.zeroed(self.mask.astype(np.float32)) >= 0.5
        return replace(self, surface=surface, mask=mask)


class HeightFieldStation(CameraStation):
    """A product, the table it lies on, and the camera above (trainer.synthetic.scene.Station)."""

    def __init__(self, product: type[Product], seed: int, change: SceneChange = UNCHANGED) -> None:
        super().__init__(product.name, seed, change)
        rng = self.random("station", 0)
        self.product = product(rng)
        self._slope = self.view.slope()
        self._plane = self.home.table_mm(SUPERSAMPLING)
        self._home_pitch, self._pitch = (
            view.distance_m * MM_PER_M / view.intrinsics[0] / SUPERSAMPLING
            for view in (self.home, self.view)
        )
        self._move = (
            None if self.view == self.home else self.view.looking_as(self.home, SUPERSAMPLING)
        )
        self._size = min(1.0, self.home.distance_m / FULL_SIZE_M)
        self._table = self.table(self.product.looks, rng)

    def defects(self) -> list[str]:
        """What can be wrong with the product."""
        return defects_of(self.product)

    def empty(self, rng: np.random.Generator) -> Scene:
        """The table alone."""
        light = self.light(rng)
        level = light.ambient + light.strength * np.sin(light.elevation)
        color = self._table * (np.float32(level) * np.array(light.color, np.float32))
        z_m = (self.view.distance_m / self._slope).astype(np.float32)
        nothing = np.zeros((HEIGHT, WIDTH), np.float32)
        return self.through_lens(Scene(cast(Image, color), nothing, z_m, nothing > 0, None))

    def part(self, rng: np.random.Generator, defect: str = "good") -> Scene:
        """One part on the table, with a defect of that type unless "good"."""
        light = self.light(rng)
        grid = self._posed_grid(rng)
        before = deepcopy(rng)
        surface = self.product.draw(grid, rng)
        marred = self._marred(defect, surface, grid, before, rng)
        part_px = self._part_px(surface)
        if self._move is not None:
            marred = marred.moved(self._move)
        color, glare = self._color(marred.surface, light, self._pitch)
        mask = _halved(marred.mask.astype(np.float32)) >= 0.5
        truth = Truth(
            defect,
            GROUPS.get(defect),
            float(mask.sum()) / part_px,
            self.in_scene_sigmas(marred.sigmas, marred.height_mm),
            part_px / (CROP[2] * CROP[3]),
        )
        z_m = self._distance(marred.surface.height)
        return self.through_lens(Scene(color, glare, z_m, mask, truth))

    def _part_px(self, good: Surface) -> float:
        """Pixels of the view that a part without its defect covers."""
        inside = good.inside if self._move is None else self._move.zeroed(good.inside)
        return float(inside.sum()) / SUPERSAMPLING**2

    def _marred(
        self,
        defect: str,
        surface: Surface,
        grid: Grid,
        before: np.random.Generator,
        rng: np.random.Generator,
    ) -> Marred:
        """The part with its defect; before: the generator as when the good part was drawn."""
        if defect == "good":
            return Marred(surface, np.zeros(surface.height.shape, np.bool_), 0.0)
        if GROUPS[defect] == "logical":
            return self._rearranged(defect, surface, grid, before, rng)
        height = _typical_height(surface)
        sigma = self.sigma_mm(height)
        if GROUPS[defect] == "material":
            changed, mask = material_defect(defect, self.product, surface, grid.pitch, rng)
            change = np.abs(changed.height - surface.height)[mask]
            return Marred(changed, mask, float(np.median(change)) / sigma, height)
        local, mask, sigmas = local_defect(defect, self.product, surface, sigma, rng)
        return Marred(applied(local, surface), mask, sigmas, height)

    def _rearranged(
        self,
        defect: str,
        good: Surface,
        grid: Grid,
        before: np.random.Generator,
        rng: np.random.Generator,
    ) -> Marred:
        """The same part with a logical defect.

        Raises: TypeError if nothing on this product is counted.
        """
        if not isinstance(self.product, Counted):
            raise TypeError(f"{defect}: nothing on a {self.name} is counted")
        layout = rearranged(defect, self.product.layout, equipped(self.product.layout, before), rng)
        surface = self.product.filled(grid, before, layout)
        change = np.abs(surface.height - good.height)
        mask = change > CHANGED_MM
        height = _typical_height(good)
        sigmas = float(np.median(change[mask])) / self.sigma_mm(height)
        return Marred(surface, mask, sigmas, height)

    def _posed_grid(self, rng: np.random.Generator) -> Grid:
        """Part coordinates of the supersampled view: shifted, turned and scaled at random."""
        shift_x, shift_y = rng.uniform(-9, 9, 2)
        turn = np.deg2rad(rng.uniform(-self.product.turns, self.product.turns))
        scale = self._size * float(rng.uniform(0.975, 1.025))
        x, y = self._plane[0] - np.float32(shift_x), self._plane[1] - np.float32(shift_y)
        cos, sin = np.float32(np.cos(turn) / scale), np.float32(np.sin(turn) / scale)
        return Grid(cos * x + sin * y, cos * y - sin * x, self._home_pitch, float(turn))

    def _color(self, surface: Surface, light: Light, pitch: float) -> tuple[Image, Image]:
        """Linear color and glare of the view."""
        table = cv2.resize(self._table, surface.height.shape[::-1], interpolation=cv2.INTER_LINEAR)
        albedo = mixed(table, surface.albedo, surface.inside)
        composed = replace(surface, albedo=albedo, shine=surface.shine * surface.inside)
        return shade(composed, light, pitch)

    def _distance(self, height_mm: Image) -> Image:
        """True distance in meters of every pixel of the view."""
        height_m = _halved(height_mm) / np.float32(MM_PER_M)
        return cast(Image, ((self.view.distance_m - height_m) / self._slope).astype(np.float32))


def _typical_height(surface: Surface) -> float:
    """Median height of a part in mm."""
    return float(np.median(surface.height[surface.inside > 0.5]))


def _halved(image: Image) -> Image:
    scale = 1 / SUPERSAMPLING
    return cast(Image, cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
