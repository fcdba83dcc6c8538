"""The station of a product that is a mesh: a part on the table, with what is wrong with it, seen by
ray casting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.meshes.bracket import Bracket
from trainer.synthetic.meshes.finish import Color, Finish, Look, MeshProduct, Place
from trainer.synthetic.meshes.gear import Gear
from trainer.synthetic.meshes.lever import Lever
from trainer.synthetic.meshes.light import Seen, SoftLamp, lit_share, open_share, shaded
from trainer.synthetic.meshes.material import material_flaw
from trainer.synthetic.meshes.rays import Shape
from trainer.synthetic.meshes.relief import Flaw, local_flaw, sampled, seen_from_above
from trainer.synthetic.meshes.solids import Triangles, triangles
from trainer.synthetic.meshes.view import Eye, Vectors, Window
from trainer.synthetic.noise import Image
from trainer.synthetic.scene import (
    CHANGED_MM,
    CROP,
    HEIGHT,
    MM_PER_M,
    WIDTH,
    CameraStation,
    Scene,
    Truth,
    joined,
)
from trainer.synthetic.scene_change import UNCHANGED, SceneChange
from trainer.synthetic.scene_defects import GROUPS, MASK_LEVEL, SHARES, SceneDefect

PRODUCTS: dict[str, type[MeshProduct]] = {"gear": Gear, "lever": Lever, "bracket": Bracket}
SAMPLES = 2  # per pixel and axis
SHIFT_MM = 9.0
MARGIN_PX = 10  # of the window around the part and its shadow
FRACTURE_SHINE = 0.08
TRIES = 60
LEAST_UP = 0.35  # steeper walls keep their own normals: the grain is a map from above


@dataclass(frozen=True)
class Pose:
    """Where a part lies: turned by radians, then moved by mm along the table."""

    turn: float
    shift: tuple[float, float]

    @classmethod
    def drawn(cls, turns: float, rng: np.random.Generator) -> Pose:
        """turns: most degrees to either side."""
        shift = rng.uniform(-SHIFT_MM, SHIFT_MM, 2)
        turn = float(np.deg2rad(rng.uniform(-turns, turns)))
        return cls(turn, (float(shift[0]), float(shift[1])))

    def placed(self, corners: Triangles) -> Triangles:
        """From part coordinates to the world's."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        turned = corners @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        return cast(Triangles, turned + np.array([*self.shift, 0]))

    def own(self, points: Vectors) -> tuple[Image, Image]:
        """x and y of world points in part coordinates."""
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        x = points[..., 0] - np.float32(self.shift[0])
        y = points[..., 1] - np.float32(self.shift[1])
        return cast(Image, cos * x + sin * y), cast(Image, cos * y - sin * x)

    def turned(self, x: Image, y: Image) -> tuple[Image, Image]:
        """Slopes of the part's axes as slopes of the world's."""
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        return cast(Image, cos * x - sin * y), cast(Image, sin * x + cos * y)


@dataclass(frozen=True)
class Posed:
    """A part in its place: its triangles in the world, the pose, the surface, and its flaw."""

    shape: Shape
    pose: Pose
    finish: Finish
    flaw: Flaw | None = None


@dataclass(frozen=True)
class Hits:
    """What the samples of a window meet. depth: (H, W) mm along the camera's axis. face: (H, W),
    number of the triangle, -1 for the table. samples: per pixel and axis.
    """

    samples: int
    rays: Vectors
    depth: Image
    face: NDArray[np.int32]

    def pixel_depth(self) -> Image:
        """Depth of pixels: a stereo camera averages disparity, which is linear over any plane."""
        inverse = cast(Image, 1 / self.depth)
        return cast(Image, 1 / _mean(inverse, self.samples))

    def part_px(self) -> float:
        """Pixels that show the part."""
        return float((self.face >= 0).sum()) / self.samples**2


@dataclass(frozen=True)
class Compared:
    """A part without and with its flaw, as one eye sees them in a window, and where they differ."""

    window: Window
    before: Hits
    after: Hits
    mask: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Of the part's pixels."""
        return float(self.mask.sum()) / max(self.before.part_px(), 1)


class MeshStation(CameraStation):
    """A mesh product, the table it lies on, and the camera above
    (trainer.synthetic.scene.Station).
    """

    def __init__(self, name: str, seed: int, change: SceneChange = UNCHANGED) -> None:
        super().__init__(name, seed, change)
        rng = self.random("station", 0)
        self.product = PRODUCTS[name](rng)
        self.eye, self._home_eye = Eye(self.view), Eye(self.home)
        self._table = self.table(self.product.looks, rng)
        whole = Window(0, HEIGHT, 0, WIDTH)
        rays = self.eye.rays(whole)
        self._table_depth = self.eye.table_depth(rays)
        self._table_points = self.eye.points(rays, self._table_depth)

    def defects(self) -> list[str]:
        """What can be wrong with the product: all but what needs counted elements."""
        return [kind for kind, group in GROUPS.items() if group != "logical"]

    def empty(self, rng: np.random.Generator) -> Scene:
        """The table alone."""
        lamp = SoftLamp.of(self.light(rng))
        nothing = np.zeros((HEIGHT, WIDTH), np.float32)
        z_m = (self._table_depth / np.float32(MM_PER_M)).astype(np.float32)
        return self.through_lens(Scene(self._lit_table(lamp), nothing, z_m, nothing > 0, None))

    def part(self, rng: np.random.Generator, defect: str = "good") -> Scene:
        """One part on the table, with a defect of that type unless "good"."""
        lamp = SoftLamp.of(self.light(rng))
        pose = Pose.drawn(self.product.turns, rng)
        solid, finish = self.product.solid(rng), self.product.finish(rng)
        corners = triangles(solid)
        good = Posed(Shape(pose.placed(corners)), pose, finish)
        if defect == "good":
            window = _window(self.eye, good.shape.corners, lamp)
            hits = _hits(self.eye, good, window, SAMPLES)
            return self._scene(good, hits, window, lamp, None, self._truth(defect, hits))
        surface = seen_from_above(corners, finish)
        height_mm = float(np.median(surface.height[surface.inside > 0.5]))
        sigma = self.sigma_mm(height_mm)
        for _ in range(TRIES):
            if GROUPS[defect] == "material":
                flaw = material_flaw(defect, self.product, solid, surface, rng)
            else:
                flaw = local_flaw(defect, self.product, solid, surface, sigma, rng)
            scene = None if flaw is None else self._flawed(defect, good, flaw, lamp, height_mm)
            if scene is not None:
                return scene
        raise RuntimeError(f"no place for a {defect} on a {self.name}")

    def _flawed(
        self, defect: str, good: Posed, flaw: Flaw, lamp: SoftLamp, height_mm: float
    ) -> Scene | None:
        """The scene with the flaw, None if its mask is beyond the limits; looked at coarsely first,
        and in the seed's own view whatever the scene, so that every scene has the same flaw.
        """
        bad = replace(good, shape=Shape(good.pose.placed(flaw.corners)), flaw=flaw)
        least, largest = SHARES[defect]
        for samples in (1, SAMPLES):
            seen = _compared(self._home_eye, good, bad, lamp, samples)
            if not least * 1.05 <= seen.share <= largest * 0.98:
                return None
        sigmas = flaw.sigmas
        if sigmas is None:
            change = np.abs(seen.before.pixel_depth() - seen.after.pixel_depth())
            sigmas = float(np.median(change[seen.mask])) / self.sigma_mm(height_mm)
        if self.view != self.home:
            seen = _compared(self.eye, good, bad, lamp, SAMPLES)
        sigmas = self.in_scene_sigmas(sigmas, height_mm)
        truth = self._truth(defect, seen.before, seen.share, sigmas)
        return self._scene(bad, seen.after, seen.window, lamp, seen.mask, truth)

    def _truth(self, defect: str, good: Hits, share: float = 0.0, sigmas: float = 0.0) -> Truth:
        part_share = good.part_px() / (CROP[2] * CROP[3])
        return Truth(defect, GROUPS.get(defect), share, sigmas, part_share)

    def _scene(
        self,
        posed: Posed,
        hits: Hits,
        window: Window,
        lamp: SoftLamp,
        mask: NDArray[np.bool_] | None,
        truth: Truth,
    ) -> Scene:
        """The whole view with a part in its window."""
        color, glare = self._lit_table(lamp), np.zeros((HEIGHT, WIDTH), np.float32)
        z_mm = self._table_depth.copy()
        whole_mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        color[window.slices], glare[window.slices] = self._colored(posed, hits, window, lamp)
        z_mm[window.slices] = hits.pixel_depth()
        if mask is not None:
            whole_mask[window.slices] = mask
        z_m = z_mm / np.float32(MM_PER_M)
        return self.through_lens(Scene(color, glare, z_m, whole_mask, truth))

    def _lit_table(self, lamp: SoftLamp) -> Image:
        """The table without a part, (480, 640, 3)."""
        way, level = lamp.towards(self._table_points)
        light = np.float32(lamp.ambient) + level * way[..., 2]
        return cast(Image, self._table * light[..., None] * np.array(lamp.color, np.float32))

    def _colored(
        self, posed: Posed, hits: Hits, window: Window, lamp: SoftLamp
    ) -> tuple[Image, Image]:
        """Linear color (h, w, 3) and glare (h, w) of the window's pixels."""
        points = self.eye.points(hits.rays, hits.depth)
        on_part = hits.face >= 0
        normals = posed.shape.normals[hits.face]
        normals[~on_part] = (0, 0, 1)
        to_eye = -hits.rays / np.linalg.norm(hits.rays, axis=-1, keepdims=True)
        seen = Seen(points, normals, to_eye, on_part)
        look = self._look(posed, hits, seen, window)
        coarse = seen.thinned(hits.samples)
        sky = open_share(coarse, posed.shape)
        sky = np.repeat(np.repeat(sky, hits.samples, axis=0), hits.samples, axis=1)
        lit = lit_share(seen, posed.shape, lamp)
        grained = replace(seen, normals=_grained(seen, look, posed.pose))
        color, glare = shaded(grained, look, lamp, lit, sky)
        return _mean(color, hits.samples), _mean(glare, hits.samples)

    def _look(self, posed: Posed, hits: Hits, seen: Seen, window: Window) -> Look:
        """How part and table look at every sample."""
        x, y = posed.pose.own(seen.points)
        place = Place(x, y, np.ascontiguousarray(seen.points[..., 2]), seen.normals[..., 2])
        look = posed.finish.look(place)
        if posed.flaw is not None:
            look = _fractured(look, posed.flaw.fresh[hits.face], self.product.fracture)
            if posed.flaw.defect is not None:
                look = _covered(look, posed.flaw.defect, x, y)
        size = seen.on_part.shape[::-1]
        table = cv2.resize(self._table[window.slices], size, interpolation=cv2.INTER_LINEAR)
        on_part = seen.on_part
        return Look(
            np.where(on_part[..., None], look.albedo, table),
            look.shine * on_part,
            look.mirror * on_part,
            look.slope_x * on_part,
            look.slope_y * on_part,
            look.exponent,
        )


def _window(eye: Eye, corners: Triangles, lamp: SoftLamp) -> Window:
    """What holds a part and its shadow: those of the box around it."""
    flat = corners.reshape(-1, 3)
    low, high = flat.min(axis=0), flat.max(axis=0)
    points = np.array(list(product(*zip(low, high, strict=True))))
    at = np.array(lamp.at)
    cast_on = at + (points - at) * (at[2] / (at[2] - points[:, 2:]))
    pixels = eye.pixels(np.concatenate([points, cast_on]))
    left, top = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - MARGIN_PX, 0).tolist()
    right, bottom = (np.ceil(pixels.max(axis=0)).astype(int) + MARGIN_PX).tolist()
    return Window(top, min(bottom, HEIGHT), left, min(right, WIDTH))


def _hits(eye: Eye, posed: Posed, window: Window, samples: int) -> Hits:
    rays = eye.rays(window, samples)
    depth, face = posed.shape.first(eye.center.astype(np.float32), rays)
    table = eye.table_depth(rays)
    face = np.where(depth < table, face, -1).astype(np.int32)
    return Hits(samples, rays, np.minimum(depth, table), face)


def _compared(eye: Eye, good: Posed, bad: Posed, lamp: SoftLamp, samples: int) -> Compared:
    """The part without and with its flaw, in a window that holds both."""
    window = _window(eye, np.concatenate([good.shape.corners, bad.shape.corners]), lamp)
    before, after = (_hits(eye, posed, window, samples) for posed in (good, bad))
    return Compared(window, before, after, _mask(eye, before, after, bad))


def _mask(eye: Eye, before: Hits, after: Hits, bad: Posed) -> NDArray[np.bool_]:
    """Where the distance differs, or where color was changed: of the window's pixels."""
    old, new = before.pixel_depth(), after.pixel_depth()
    mask = np.abs(old - new) > CHANGED_MM
    defect = None if bad.flaw is None else bad.flaw.defect
    if defect is None:
        return joined(cast(NDArray[np.bool_], mask))
    if defect.cover is not None:
        x, y = bad.pose.own(eye.points(before.rays, before.depth))
        covered = sampled(defect.strength, x, y) > MASK_LEVEL
        covered &= before.face >= 0
        mask |= _mean(covered.astype(np.float32), before.samples) >= 0.5
    return cast(NDArray[np.bool_], mask)


def _fractured(look: Look, fresh: NDArray[np.bool_], fracture: Color) -> Look:
    """The look with the color of fresh breaks."""
    color = np.array(fracture, np.float32)
    return replace(
        look,
        albedo=np.where(fresh[..., None], color, look.albedo),
        shine=np.where(fresh, np.float32(FRACTURE_SHINE), look.shine),
        mirror=np.where(fresh, np.float32(0.02), look.mirror),
    )


def _covered(look: Look, defect: SceneDefect, x: Image, y: Image) -> Look:
    """The look with a defect's color; what covers it dulls it."""
    if defect.cover is None:
        return look
    cover = sampled(defect.cover, x, y)
    if defect.paint is not None:
        goal = np.array(defect.paint, np.float32)
        albedo = look.albedo + cover[..., None] * (goal - look.albedo)
        dull = 1 - 0.75 * cover
    else:
        factor = np.array(defect.factor, np.float32)
        albedo = look.albedo * (1 + cover[..., None] * (factor - 1))
        dull = 1 + cover * (min(float(factor.mean()), 1.0) - 1)
    return replace(look, albedo=albedo, shine=look.shine * dull, mirror=look.mirror * dull)


def _grained(seen: Seen, look: Look, pose: Pose) -> Vectors:
    """Normals bent by the grain where the surface faces up."""
    weight = np.where(seen.normals[..., 2] > LEAST_UP, seen.normals[..., 2], 0)
    slope_x, slope_y = pose.turned(look.slope_x * weight, look.slope_y * weight)
    bent = seen.normals.copy()
    bent[..., 0] -= slope_x
    bent[..., 1] -= slope_y
    return cast(Vectors, bent / np.linalg.norm(bent, axis=-1, keepdims=True))


def _mean(image: Image, samples: int) -> Image:
    """Of the samples of each pixel."""
    scale = 1 / samples
    return cast(Image, cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
