"""Light on what the camera sees: a soft lamp with cast shadows, light from all around weakened by
what stands near (ambient occlusion), highlights, and a blurred reflection of the surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.meshes.finish import Look
from trainer.synthetic.meshes.rays import LIFT_MM, Shape
from trainer.synthetic.meshes.view import Vectors
from trainer.synthetic.noise import Image
from trainer.synthetic.surface import Light

PATTERN = 4  # lamp points and directions change from pixel to pixel in squares of this side
AMBIENT_RAYS = 4  # a pixel; a pattern has PATTERN ** 2 times as many
AMBIENT_REACH_MM = 45.0
LAMP_MM, LAMP_RADIUS_MM = 750.0, 32.0  # distance and radius of the lamp


@dataclass(frozen=True)
class SoftLamp:
    """A round lamp. at: its center in world coordinates, mm. strength: light it sends to the
    origin. color: linear RGB. ambient: light from all around. softbox: unit vector to the brightest
    part of the surroundings.
    """

    at: tuple[float, float, float]
    radius_mm: float
    strength: float
    color: tuple[float, float, float]
    ambient: float
    softbox: tuple[float, float, float]

    @classmethod
    def of(cls, light: Light) -> SoftLamp:
        """The lamp of an image, at LAMP_MM from the part; the surroundings are brightest over it,
        nearer to the camera.
        """
        x, y, z = light.direction()
        way = np.array([x, -y, z])  # a light's y points down in the image
        box = way + np.array([0, 0, 1.2])
        box /= np.linalg.norm(box)
        return cls(
            at=(float(LAMP_MM * way[0]), float(LAMP_MM * way[1]), float(LAMP_MM * way[2])),
            radius_mm=LAMP_RADIUS_MM,
            strength=light.strength,
            color=light.color,
            ambient=light.ambient,
            softbox=(float(box[0]), float(box[1]), float(box[2])),
        )

    def towards(self, points: Vectors) -> tuple[Vectors, Image]:
        """Unit vectors to the lamp's center and how much light arrives, by the inverse square of
        the distance.
        """
        way = np.array(self.at, np.float32) - points
        square = np.einsum("...i,...i->...", way, way)
        level = np.float32(self.strength * np.dot(self.at, self.at)) / square
        return cast(Vectors, way / np.sqrt(square)[..., None]), cast(Image, level)


@dataclass(frozen=True)
class Seen:
    """What lies behind each sample of a window. points, normals, to_eye: (H, W, 3); on_part:
    (H, W).
    """

    points: Vectors
    normals: Vectors
    to_eye: Vectors
    on_part: NDArray[np.bool_]

    def thinned(self, step: int) -> Seen:
        """Every `step`th sample along both axes."""
        own = slice(None, None, step)
        return Seen(
            self.points[own, own],
            self.normals[own, own],
            self.to_eye[own, own],
            self.on_part[own, own],
        )


def lit_share(seen: Seen, shape: Shape, lamp: SoftLamp) -> Image:
    """(H, W) in 0..1: how much of the lamp is seen from there; a ray each, blurred over a
    pattern.
    """
    goals = np.array(lamp.at) + lamp.radius_mm * _disc_points(lamp.at)
    goal = _patterned(goals, seen.on_part.shape)[..., 0, :]
    start = seen.points + np.float32(LIFT_MM) * seen.normals
    way = goal - start
    facing = np.einsum("...i,...i->...", way, seen.normals) > 0
    lit = np.zeros(seen.on_part.shape, np.float32)
    rays = np.nonzero(facing)
    blocked = shape.blocked(start[rays], way[rays], np.ones(rays[0].size, np.float32))
    lit[rays] = ~blocked
    return _joined(lit, seen)


def open_share(seen: Seen, shape: Shape) -> Image:
    """(H, W) in 0..1: the share of the sky that nothing within AMBIENT_REACH_MM hides, weighted by
    the cosine.
    """
    sphere = _sphere_points(PATTERN * PATTERN * AMBIENT_RAYS)
    bent = _patterned(sphere * 0.995, seen.on_part.shape)
    start = seen.points + np.float32(LIFT_MM) * seen.normals
    hidden = np.zeros(seen.on_part.shape, np.float32)
    reach = np.full(start[..., 0].size, AMBIENT_REACH_MM, np.float32)
    for number in range(AMBIENT_RAYS):
        way = seen.normals + bent[..., number, :]
        way /= np.linalg.norm(way, axis=-1, keepdims=True)
        below = start[..., 2] < -way[..., 2] * np.float32(AMBIENT_REACH_MM)  # it meets the table
        blocked = shape.blocked(start.reshape(-1, 3), way.reshape(-1, 3), reach)
        hidden += blocked.reshape(below.shape) | below
    return _joined(1 - hidden / np.float32(AMBIENT_RAYS), seen)


def shaded(seen: Seen, look: Look, lamp: SoftLamp, lit: Image, sky: Image) -> tuple[Image, Image]:
    """Linear color (H, W, 3) and glare (H, W): Lambert's cosine law, Blinn's half-vector highlight
    (Models of Light Reflection, SIGGRAPH 1977), and the surroundings mirrored.
    """
    to_lamp, level = lamp.towards(seen.points)
    direct = level * lit * np.maximum(_dot(to_lamp, seen.normals), 0)
    half = to_lamp + seen.to_eye
    half /= np.linalg.norm(half, axis=-1, keepdims=True)
    base = np.maximum(_dot(half, seen.normals), 0)
    glare = look.shine * cv2.pow(base, look.exponent) * lit * level
    across = 2 * _dot(seen.to_eye, seen.normals)[..., None] * seen.normals - seen.to_eye
    bright = np.clip(across @ np.array(lamp.softbox, np.float32), 0, 1)
    around = 0.25 + 1.1 * bright**4
    around[across[..., 2] < 0] = 0.12  # the table
    mirrored = look.mirror * around * sky * np.float32(lamp.ambient * 2)
    diffuse = np.float32(lamp.ambient) * sky + direct
    color = look.albedo * diffuse[..., None] + (glare + mirrored)[..., None]
    return cast(Image, color * np.array(lamp.color, np.float32)), cast(Image, glare)


def _dot(first: Vectors, second: Vectors) -> Image:
    return cast(Image, np.einsum("...i,...i->...", first, second))


def _joined(values: Image, seen: Seen) -> Image:
    """The mean over a pattern around each sample, of samples on the same kind of surface alone."""
    total, weight = np.zeros_like(values), np.zeros_like(values)
    side = (PATTERN, PATTERN)
    facing = np.round(seen.normals[..., 2] * 2).astype(np.int8) + 8 * seen.on_part
    for kind in np.unique(facing):
        own = (facing == kind).astype(np.float32)
        summed = cv2.blur(values * own, side) / np.maximum(cv2.blur(own, side), 1e-6)
        total += summed * own
        weight += own
    return cast(Image, total / np.maximum(weight, 1e-6))


def _patterned(vectors: NDArray[np.float64], size: tuple[int, ...]) -> Vectors:
    """(H, W, K, 3): of N vectors, each pixel of a PATTERN square has K = N / PATTERN ** 2."""
    many = vectors.reshape(-1, PATTERN * PATTERN, 3).swapaxes(0, 1)
    square = many.reshape(PATTERN, PATTERN, -1, 3).astype(np.float32)
    repeats = (size[0] // PATTERN + 1, size[1] // PATTERN + 1, 1, 1)
    return np.ascontiguousarray(np.tile(square, repeats)[: size[0], : size[1]])


def _sphere_points(count: int) -> NDArray[np.float64]:
    """Points spread evenly over the unit sphere, (N, 3), on a spiral of the golden angle."""
    z = 1 - (2 * np.arange(count) + 1) / count
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    around = np.sqrt(1 - z * z)
    return np.stack([around * np.cos(turn), around * np.sin(turn), z], 1)


def _disc_points(axis: tuple[float, float, float]) -> NDArray[np.float64]:
    """PATTERN ** 2 points over the unit disc across an axis, (N, 3)."""
    count = PATTERN * PATTERN
    away = np.sqrt((np.arange(count) + 0.5) / count)
    turn = np.arange(count) * np.pi * (3 - np.sqrt(5))
    along = np.array(axis) / np.linalg.norm(axis)
    first = np.cross(along, [0.0, 0.0, 1.0] if abs(along[2]) < 0.9 else [1.0, 0.0, 0.0])
    first /= np.linalg.norm(first)
    second = np.cross(along, first)
    x, y = (away * np.cos(turn))[:, None], (away * np.sin(turn))[:, None]
    return cast(NDArray[np.float64], x * first + y * second)
