"""One station: a fixed camera over a slightly tilted table, a part on it, light, and what the two
imagers deliver.
"""

from __future__ import annotations

import zlib
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.blend import mixed
from trainer.synthetic.logical import equipped, rearranged
from trainer.synthetic.noise import Image, Tile, fractal_noise, smooth_noise
from trainer.synthetic.products import PRODUCTS
from trainer.synthetic.scene_defects import (
    GROUPS,
    Group,
    SceneDefect,
    apply_color,
    local_defect,
    raised,
)
from trainer.synthetic.stereo import StereoCamera, StereoImager
from trainer.synthetic.surface import Counted, Grid, Light, Surface, shade

WIDTH, HEIGHT = 640, 480
CROP = (80, 0, 480, 480)  # x, y, width, height: where parts lie
SUPERSAMPLING = 2
DISTANCE_M = 0.30
MM_PER_M = 1000.0
COLOR_NOISE = 1.2  # RMS in gray levels, equal in the three channels as after demosaicing
WHITE = 1.25  # linear light to full scale
CHANGED_MM = 0.5  # more of a difference in height is where elements differ

_NOTHING = np.zeros((HEIGHT, WIDTH), np.float32)


@dataclass(frozen=True)
class Truth:
    """What was done to a part. area_share: of the part's area.

    height_sigma: amplitude over the depth noise there.
    """

    defect: str
    group: Group | None
    area_share: float
    height_sigma: float
    part_share: float


@dataclass(frozen=True)
class Marred:
    """A part with what is wrong with it, on an (S, S) grid.

    shaded: as the color camera sees it. height: mm, as the depth camera sees it. mask: (S, S) bool.
    sigmas: the defect's height over the depth noise.
    """

    shaded: Surface
    height: Image
    mask: NDArray[np.bool_]
    sigmas: float


@dataclass(frozen=True)
class Scene:
    """What lies before the camera, without the camera's noise.

    color: (480, 640, 3) linear reflectance times light. glare: (480, 640). z_m: true distance.
    mask: (480, 640) bool.
    """

    color: Image
    glare: Image
    z_m: Image
    mask: NDArray[np.bool_]
    truth: Truth | None


class Station:
    """A product, the table it lies on, and the camera above.

    Everything that stays the same between parts is drawn here from the seed.
    """

    def __init__(self, product: str, seed: int) -> None:
        self.seed = seed
        self.name = product
        self._number = zlib.crc32(product.encode())
        rng = self.random("station", 0)
        self.camera = StereoCamera()
        focal = self.camera.focal_px
        self.intrinsics = (focal, focal, (WIDTH - 1) / 2 + 1.3, (HEIGHT - 1) / 2 - 0.8)
        self.product = PRODUCTS[product](rng)
        self._slope = self._tilted_plane(rng)
        self._table = _table_albedo(self.product.table, rng)
        self._imager = StereoImager(self.camera, rng)
        self._color_noise = Tile(rng.standard_normal((1600, 1600), np.float32))

    def random(self, purpose: str, index: int) -> np.random.Generator:
        """The generator of one image: independent of how many others are drawn."""
        return np.random.default_rng([self.seed, self._number, zlib.crc32(purpose.encode()), index])

    def empty(self, rng: np.random.Generator) -> Scene:
        """The table alone."""
        light = Light.drawn(rng)
        color = self._lit_table(light)
        z_m = (DISTANCE_M / self._slope).astype(np.float32)
        return Scene(color, _NOTHING, z_m, np.zeros((HEIGHT, WIDTH), np.bool_), None)

    def part(self, rng: np.random.Generator, defect: str = "good") -> Scene:
        """One part on the table, with a defect of that type unless "good"."""
        light = Light.drawn(rng)
        grid = self._posed_grid(rng)
        before = deepcopy(rng)
        surface = self.product.draw(grid, rng)
        part_px = float(surface.inside.sum()) / SUPERSAMPLING**2
        if defect == "good":
            marred = Marred(surface, surface.height, np.zeros(surface.height.shape, np.bool_), 0.0)
        elif GROUPS[defect] == "logical":
            marred = self._rearranged(defect, surface, grid, before, rng)
        else:
            marred = self._damaged(defect, surface, rng)
        color, glare = self._color(marred.shaded, light, grid.pitch)
        small_mask = _pasted(_halved(marred.mask.astype(np.float32)), _NOTHING) >= 0.5
        share = float(small_mask.sum()) / part_px
        truth = Truth(
            defect, GROUPS.get(defect), share, marred.sigmas, part_px / (CROP[2] * CROP[3])
        )
        return Scene(
            color, _pasted(glare, _NOTHING), self._distance(marred.height), small_mask, truth
        )

    def _damaged(self, defect: str, surface: Surface, rng: np.random.Generator) -> Marred:
        """The part with a local defect."""
        local, mask, sigmas = local_defect(
            defect, self.product, surface, self._sigma_mm(surface), rng
        )
        return Marred(
            _colored(local, surface, GROUPS[defect]), raised(local, surface), mask, sigmas
        )

    def _rearranged(
        self,
        defect: str,
        good: Surface,
        grid: Grid,
        before: np.random.Generator,
        rng: np.random.Generator,
    ) -> Marred:
        """The same part with a logical defect; before: the generator as it was when the good part
        was drawn.

        Raises: TypeError if nothing on this product is counted.
        """
        if not isinstance(self.product, Counted):
            raise TypeError(f"{defect}: nothing on a {self.name} is counted")
        layout = rearranged(defect, self.product.layout, equipped(self.product.layout, before), rng)
        surface = self.product.filled(grid, before, layout)
        change = np.abs(surface.height - good.height)
        mask = change > CHANGED_MM
        return Marred(
            surface, surface.height, mask, float(np.median(change[mask])) / self._sigma_mm(good)
        )

    def _sigma_mm(self, surface: Surface) -> float:
        """Depth noise at the height of the part."""
        top_m = DISTANCE_M - float(np.median(surface.height[surface.inside > 0.5])) / MM_PER_M
        return self.camera.sigma_m(top_m) * MM_PER_M

    def capture(
        self, scene: Scene, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """What the camera delivers: color (480, 640, 3) uint8 RGB and depth (480, 640) uint16
        counts.
        """
        encoded = np.power(np.clip(scene.color * WHITE, 0, 1), np.float32(1 / 2.2)) * 255
        noise = np.float32(COLOR_NOISE) * self._color_noise.window(rng, HEIGHT, WIDTH)
        color = np.clip(np.round(encoded + noise[..., None]), 0, 255).astype(np.uint8)
        return color, self._imager.read(scene.z_m, scene.glare, rng)

    def _tilted_plane(self, rng: np.random.Generator) -> Image:
        """alpha u + beta v + gamma of the table: a pixel of height h is (DISTANCE_M - h) over this
        away.
        """
        fx, fy, cx, cy = self.intrinsics
        nx, ny = np.tan(np.deg2rad(rng.uniform(0.6, 2.0, 2) * rng.choice([-1, 1], 2)))
        normal = np.array([nx, ny, 1.0]) / np.sqrt(nx * nx + ny * ny + 1)
        v, u = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
        slope = normal[0] * (u - cx) / fx + normal[1] * (v - cy) / fy + normal[2]
        return cast(Image, slope.astype(np.float32))

    def _posed_grid(self, rng: np.random.Generator) -> Grid:
        """Part coordinates of the supersampled crop: shifted, turned and scaled at random."""
        side = CROP[2] * SUPERSAMPLING
        pitch = DISTANCE_M * MM_PER_M / self.intrinsics[0] / SUPERSAMPLING
        axis = ((np.arange(side) - (side - 1) / 2) * pitch).astype(np.float32)
        shift_x, shift_y = rng.uniform(-9, 9, 2)
        turn = np.deg2rad(rng.uniform(-self.product.turns, self.product.turns))
        scale = float(rng.uniform(0.975, 1.025))
        x, y = axis[None, :] - np.float32(shift_x), axis[:, None] - np.float32(shift_y)
        cos, sin = np.float32(np.cos(turn) / scale), np.float32(np.sin(turn) / scale)
        return Grid(cos * x + sin * y, cos * y - sin * x, pitch, float(turn))

    def _color(self, surface: Surface, light: Light, pitch: float) -> tuple[Image, Image]:
        """Linear color of the whole view and glare of the crop."""
        x, y, width, height = CROP
        window = self._table[y : y + height, x : x + width]
        table = cv2.resize(window, surface.height.shape[::-1], interpolation=cv2.INTER_LINEAR)
        albedo = mixed(table, surface.albedo, surface.inside)
        composed = replace(surface, albedo=albedo, shine=surface.shine * surface.inside)
        color, glare = shade(composed, light, pitch)
        return _pasted(color, self._lit_table(light)), glare

    def _lit_table(self, light: Light) -> Image:
        level = light.ambient + light.strength * np.sin(light.elevation)
        return cast(Image, self._table * (np.float32(level) * np.array(light.color, np.float32)))

    def _distance(self, height_mm: Image) -> Image:
        """True distance in meters of every pixel of the view."""
        height_m = _pasted(_halved(height_mm), _NOTHING) / np.float32(MM_PER_M)
        return cast(Image, ((DISTANCE_M - height_m) / self._slope).astype(np.float32))


def _colored(defect: SceneDefect, surface: Surface, group: Group) -> Surface:
    """The surface as the color camera sees it: without what only the depth camera sees."""
    if group == "depth":
        return surface
    colored = apply_color(defect, surface)
    return replace(colored, height=raised(defect, surface)) if group == "both" else colored


def _halved(image: Image) -> Image:
    scale = 1 / SUPERSAMPLING
    return cast(Image, cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _pasted(window: Image, view: Image) -> Image:
    x, y, width, height = CROP
    view = view.copy()
    view[y : y + height, x : x + width] = window
    return view


def _table_albedo(tint: tuple[float, float, float], rng: np.random.Generator) -> Image:
    """(480, 640, 3): a coated board with fine speckles and a few long faint scratches."""
    speckle = smooth_noise(rng, HEIGHT, WIDTH, 2.0)
    clouds = fractal_noise(rng, HEIGHT, WIDTH, 120, 3)
    scratches = np.zeros((HEIGHT, WIDTH), np.uint8)
    for _ in range(14):
        start = rng.uniform(0, 1, 2) * (WIDTH, HEIGHT)
        end = start + rng.normal(0, 130, 2)
        cv2.line(
            scratches,
            (round(start[0]), round(start[1])),
            (round(end[0]), round(end[1])),
            255,
            1,
            cv2.LINE_AA,
        )
    factor = 1 + 0.06 * speckle + 0.035 * clouds + 0.10 * scratches.astype(np.float32) / 255
    return cast(Image, (factor[..., None] * np.array(tint, np.float32)).astype(np.float32))
