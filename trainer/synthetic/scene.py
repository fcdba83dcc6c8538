"""What every synthetic station has, however its parts are made: a camera that looks down on a table
from somewhere, a lamp, and the two imagers.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.lens import Remap, distorting
from trainer.synthetic.noise import Image, Tile
from trainer.synthetic.scene_change import UNCHANGED, SceneChange
from trainer.synthetic.scene_defects import Group
from trainer.synthetic.stereo import StereoCamera, StereoImager
from trainer.synthetic.surface import Lamp, Light
from trainer.synthetic.tables import another_table, table_albedo

WIDTH, HEIGHT = 640, 480
CENTER = ((WIDTH - 1) / 2 + 1.3, (HEIGHT - 1) / 2 - 0.8)  # where the optical axis passes, pixels
CROP = (80, 0, 480, 480)  # x, y, width, height: where parts lie
MM_PER_M = 1000.0
NEAREST_M, FARTHEST_M = 0.27, 0.34  # of the camera from the table
LEAST_TILT, LARGEST_TILT = 0.6, 4.0  # degrees between the camera's axis and the table's normal
COLOR_NOISE = 1.2  # RMS in gray levels, equal in the three channels as after demosaicing
WHITE = 1.25  # linear light to full scale
SUPERSAMPLING = 2  # of products that are drawn from above
CHANGED_MM = 0.5  # more of a difference in height is where a part differs
# Where material was displaced, the difference falls into many pieces: those so near to each other
# are one region, as anyone would draw it, and smaller regions are none. AUPRO counts by regions.
JOINED_PX, LEAST_REGION_PX = 9, 25


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


@dataclass(frozen=True)
class View:
    """Where the camera stands. distance_m: of the table's plane. normal: of that plane, pointing
    away from the camera, a unit vector in the camera's coordinates (x right, y down, z forward).
    """

    distance_m: float
    normal: tuple[float, float, float]
    intrinsics: tuple[float, float, float, float]

    @classmethod
    def drawn(cls, intrinsics: tuple[float, float, float, float], rng: np.random.Generator) -> View:
        """A distance and a tilt towards any side."""
        distance_m = float(rng.uniform(NEAREST_M, FARTHEST_M))
        tilt = np.deg2rad(rng.uniform(LEAST_TILT, LARGEST_TILT))
        towards = rng.uniform(0, 2 * np.pi)
        normal = (
            float(np.sin(tilt) * np.cos(towards)),
            float(np.sin(tilt) * np.sin(towards)),
            float(np.cos(tilt)),
        )
        return cls(distance_m, normal, intrinsics)

    def slope(self) -> Image:
        """(480, 640): a point of height h over the table, in meters, seen at a pixel, is
        (distance_m - h) over this away along z.
        """
        rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
        return cast(Image, self._slope_at(columns, rows).astype(np.float32))

    def table_mm(self, per_pixel: int) -> tuple[Image, Image]:
        """Where on the table every pixel of the view looks, `per_pixel` samples a pixel and axis:
        x and y in mm, (480 per_pixel, 640 per_pixel) each, from the middle of the crop.
        """
        u = (np.arange(WIDTH * per_pixel) + 0.5) / per_pixel - 0.5
        v = (np.arange(HEIGHT * per_pixel) + 0.5) / per_pixel - 0.5
        x, y = self._on_table(u[None, :], v[:, None])
        middle_x, middle_y = self._middle()
        return (x - middle_x).astype(np.float32), (y - middle_y).astype(np.float32)

    def looking_as(self, other: View, per_pixel: int) -> Remap:
        """Where `other` shows the points of the table that this view shows, for images of
        `per_pixel` samples a pixel and axis.
        """
        x_mm, y_mm = self.table_mm(per_pixel)
        middle_x, middle_y = other._middle()
        nx, ny, nz = other.normal
        length = float(np.hypot(nx, nz))
        first = (nz / length, 0.0, -nx / length)
        second = (-nx * ny / length, length, -ny * nz / length)
        x, y, z = (
            (x_mm + middle_x) * a + (y_mm + middle_y) * b + other.distance_m * MM_PER_M * n
            for a, b, n in zip(first, second, other.normal, strict=True)
        )
        fx, fy, cx, cy = other.intrinsics
        u, v = fx * x / z + cx, fy * y / z + cy
        return Remap(
            ((u + 0.5) * per_pixel - 0.5).astype(np.float32),
            ((v + 0.5) * per_pixel - 0.5).astype(np.float32),
        )

    def _middle(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the middle of the crop looks, on the axes of _on_table."""
        u, v = CROP[0] + (CROP[2] - 1) / 2, CROP[1] + (CROP[3] - 1) / 2
        return self._on_table(np.array(u), np.array(v))

    def _slope_at(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        fx, fy, cx, cy = self.intrinsics
        nx, ny, nz = self.normal
        return nx * (u - cx) / fx + ny * (v - cy) / fy + nz

    def _on_table(
        self, u: NDArray[np.float64], v: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Coordinates in mm along two perpendicular axes of the table: the first has no part of
        the camera's y.
        """
        fx, fy, cx, cy = self.intrinsics
        nx, ny, nz = self.normal
        z_mm = self.distance_m * MM_PER_M / self._slope_at(u, v)
        point = ((u - cx) / fx * z_mm, (v - cy) / fy * z_mm, z_mm)
        length = float(np.hypot(nx, nz))
        first = (nz / length, 0.0, -nx / length)
        second = (-nx * ny / length, length, -ny * nz / length)
        x, y = (sum(a * p for a, p in zip(axis, point, strict=True)) for axis in (first, second))
        return cast(NDArray[np.float64], x), cast(NDArray[np.float64], y)


class Station(Protocol):
    """A product, the table it lies on, the lamp and the camera above.

    Everything that stays the same between parts is drawn from the seed when it is made.
    """

    name: str
    change: SceneChange
    camera: StereoCamera
    intrinsics: tuple[float, float, float, float]  # fx, fy, cx, cy in pixels

    def random(self, purpose: str, index: int) -> np.random.Generator:
        """The generator of one image: independent of how many others are drawn."""
        ...

    def defects(self) -> list[str]:
        """What can be wrong with a part here."""
        ...

    def empty(self, rng: np.random.Generator) -> Scene:
        """The table alone."""
        ...

    def part(self, rng: np.random.Generator, defect: str = "good") -> Scene:
        """One part on the table, with a defect of that type unless "good"."""
        ...

    def capture(
        self, scene: Scene, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """What the camera delivers: color (480, 640, 3) uint8 RGB and depth (480, 640) uint16
        counts.
        """
        ...


class CameraStation:
    """What stations of any product share: the view, the lamp and the noise of the two imagers.

    home: the view that the seed draws, in which every part is drawn with its defect, whatever the
    scene. view: that of the scene.
    """

    def __init__(self, name: str, seed: int, change: SceneChange = UNCHANGED) -> None:
        self.name = name
        self.seed = seed
        self.change = change
        self._number = zlib.crc32(name.encode())
        rng = self.random("camera", 0)
        self._home_camera = StereoCamera()
        focal = self._home_camera.focal_px
        self.home = View.drawn((focal, focal, *CENTER), rng)
        self.lamp = Lamp.drawn(rng)
        focal *= change.focal
        self.camera = replace(
            self._home_camera,
            focal_px=focal,
            subpixel=self._home_camera.subpixel * change.depth_noise,
        )
        self.intrinsics = (focal, focal, *CENTER)
        self.view = View(self.home.distance_m * change.distance, self.home.normal, self.intrinsics)
        self._lens = distorting(self.intrinsics, (HEIGHT, WIDTH), change.distortion)
        self._imager = StereoImager(self.camera, rng)
        self._color_noise = Tile(rng.standard_normal((1600, 1600), np.float32))

    def random(self, purpose: str, index: int) -> np.random.Generator:
        """The generator of one image: independent of how many others are drawn."""
        return np.random.default_rng([self.seed, self._number, zlib.crc32(purpose.encode()), index])

    def light(self, rng: np.random.Generator) -> Light:
        """The light of one image."""
        return self.change.lit(self.lamp.light(rng))

    def table(self, looks: tuple[float, float, float], rng: np.random.Generator) -> Image:
        """(480, 640, 3) the table's albedo as the view shows it: the seed's, or another.

        looks: of the parts, which it differs from. rng: draws the seed's.
        """
        albedo = table_albedo(looks, HEIGHT, WIDTH, rng)
        if self.change.table:
            number = self.change.table
            albedo = another_table(albedo, looks, self.random("another table", number))
        if self.view == self.home:
            return albedo
        return self.view.looking_as(self.home, 1).mirrored(albedo)

    def through_lens(self, scene: Scene) -> Scene:
        """The scene as the lens images it."""
        if self._lens is None:
            return scene
        return replace(
            scene,
            color=self._lens.sharp(scene.color),
            glare=self._lens.mirrored(scene.glare),
            z_m=(1 / self._lens.mirrored((1 / scene.z_m).astype(np.float32))).astype(np.float32),
            mask=self._lens.mirrored(scene.mask.astype(np.float32)) >= 0.5,
        )

    def capture(
        self, scene: Scene, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """What the camera delivers: color (480, 640, 3) uint8 RGB and depth (480, 640) uint16
        counts.
        """
        factors = self.change.channel_factors()
        level = scene.color * (np.array(factors, np.float32) * np.float32(WHITE))
        encoded = np.power(np.clip(level, 0, 1), np.float32(1 / 2.2)) * 255
        rms = np.float32(COLOR_NOISE * self.change.color_noise())
        noise = rms * self._color_noise.window(rng, HEIGHT, WIDTH)
        color = np.clip(np.round(encoded + noise[..., None]), 0, 255).astype(np.uint8)
        # both imagers expose as the color image does
        glare = scene.glare * np.float32(self.change.exposure * self.change.gain)
        return color, self._imager.read(scene.z_m, glare, rng)

    def sigma_mm(self, height_mm: float) -> float:
        """RMS depth noise at this height over the table, of the camera and distance that the seed
        draws: defects are as high in every scene.
        """
        z_m = self.home.distance_m - height_mm / MM_PER_M
        return self._home_camera.sigma_m(z_m) * MM_PER_M

    def in_scene_sigmas(self, sigmas: float, height_mm: float) -> float:
        """A height in sigma_mm over the depth noise of the scene; unchanged where that is none."""
        here_mm = self.camera.sigma_m(self.view.distance_m - height_mm / MM_PER_M) * MM_PER_M
        return sigmas * (self.sigma_mm(height_mm) / here_mm) if here_mm > 0 else sigmas


def joined(mask: NDArray[np.bool_], scale: int = 1) -> NDArray[np.bool_]:
    """(H, W) mask of absent, extra and displaced material without gaps and specks; never empty
    unless the mask is. scale: pixels of the mask in one of the image, along a side.
    """
    wide = 2 * (JOINED_PX * scale // 2) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide))
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), *(wide,) * 4, cv2.BORDER_CONSTANT)
    closed = cv2.morphologyEx(framed, cv2.MORPH_CLOSE, disc)[wide:-wide, wide:-wide]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    least = min(LEAST_REGION_PX * scale**2, int(sizes[1:].max(initial=0)))
    kept = (sizes >= least) & (np.arange(count) > 0)
    return cast(NDArray[np.bool_], kept[labels])
