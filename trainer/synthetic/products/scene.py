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
from trainer.synthetic.scene_defects import GROUPS, applied, defects_of, local_defect
from trainer.synthetic.surface import Counted, Grid, Light, Product, Surface, shade
from trainer.synthetic.tables import table_albedo

FULL_SIZE_M = 0.31  # a nearer camera gets smaller parts, so that they lie in the crop


@dataclass(frozen=True)
class Marred:
    """A part with what is wrong with it, on an (R, C) grid. mask: (R, C) bool.

    sigmas: the defect's height over the depth noise.
    """

    surface: Surface
    mask: NDArray[np.bool_]
    sigmas: float


class HeightFieldStation(CameraStation):
    """A product, the table it lies on, and the camera above (trainer.synthetic.scene.Station)."""

    def __init__(self, product: type[Product], seed: int) -> None:
        super().__init__(product.name, seed)
        rng = self.random("station", 0)
        self.product = product(rng)
        self._slope = self.view.slope()
        self._plane = self.view.table_mm(SUPERSAMPLING)
        self._pitch = self.view.distance_m * MM_PER_M / self.intrinsics[0] / SUPERSAMPLING
        self._size = min(1.0, self.view.distance_m / FULL_SIZE_M)
        self._table = table_albedo(self.product.looks, HEIGHT, WIDTH, rng)

    def defects(self) -> list[str]:
        """What can be wrong with the product."""
        return defects_of(self.product)

    def empty(self, rng: np.random.Generator) -> Scene:
        """The table alone."""
        light = self.lamp.light(rng)
        level = light.ambient + light.strength * np.sin(light.elevation)
        color = self._table * (np.float32(level) * np.array(light.color, np.float32))
        z_m = (self.view.distance_m / self._slope).astype(np.float32)
        nothing = np.zeros((HEIGHT, WIDTH), np.float32)
        return Scene(cast(Image, color), nothing, z_m, nothing > 0, None)

    def part(self, rng: np.random.Generator, defect: str = "good") -> Scene:
        """One part on the table, with a defect of that type unless "good"."""
        light = self.lamp.light(rng)
        grid = self._posed_grid(rng)
        before = deepcopy(rng)
        surface = self.product.draw(grid, rng)
        part_px = float(surface.inside.sum()) / SUPERSAMPLING**2
        marred = self._marred(defect, surface, grid, before, rng)
        color, glare = self._color(marred.surface, light, grid.pitch)
        mask = _halved(marred.mask.astype(np.float32)) >= 0.5
        truth = Truth(
            defect,
            GROUPS.get(defect),
            float(mask.sum()) / part_px,
            marred.sigmas,
            part_px / (CROP[2] * CROP[3]),
        )
        return Scene(color, glare, self._distance(marred.surface.height), mask, truth)

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
        sigma = self.sigma_mm(float(np.median(surface.height[surface.inside > 0.5])))
        if GROUPS[defect] == "material":
            changed, mask = material_defect(defect, self.product, surface, grid.pitch, rng)
            change = np.abs(changed.height - surface.height)[mask]
            return Marred(changed, mask, float(np.median(change)) / sigma)
        local, mask, sigmas = local_defect(defect, self.product, surface, sigma, rng)
        return Marred(applied(local, surface), mask, sigmas)

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
        sigma = self.sigma_mm(float(np.median(good.height[good.inside > 0.5])))
        return Marred(surface, mask, float(np.median(change[mask])) / sigma)

    def _posed_grid(self, rng: np.random.Generator) -> Grid:
        """Part coordinates of the supersampled view: shifted, turned and scaled at random."""
        shift_x, shift_y = rng.uniform(-9, 9, 2)
        turn = np.deg2rad(rng.uniform(-self.product.turns, self.product.turns))
        scale = self._size * float(rng.uniform(0.975, 1.025))
        x, y = self._plane[0] - np.float32(shift_x), self._plane[1] - np.float32(shift_y)
        cos, sin = np.float32(np.cos(turn) / scale), np.float32(np.sin(turn) / scale)
        return Grid(cos * x + sin * y, cos * y - sin * x, self._pitch, float(turn))

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


def _halved(image: Image) -> Image:
    scale = 1 / SUPERSAMPLING
    return cast(Image, cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
