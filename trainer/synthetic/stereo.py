"""Depth as a stereo camera of the RealSense D400 family delivers it: noise in disparity, holes, two
quantizations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.noise import Image, Tile

SUBDISPARITY = 32  # D400 resolves disparity to 1/32 pixel
SMOOTHING_PX = 0.8  # the matching window blurs disparity
MATCH_CORRELATION_PX = 0.9  # and correlates its noise over about two pixels
HOLE_CORRELATION_PX = 1.5
EDGE_STEP_PX = 0.35  # disparity steps beyond this lose readings
OCCLUSION_REACH_PX = 3
SPECKLE_SIGMA = 3.35  # rare spots without a reading anywhere: about 0.04 % of the view
GLARE = 0.62  # specular light beyond this leaves nothing to match


@dataclass(frozen=True)
class StereoCamera:
    """focal_px, baseline_m: of the pair. subpixel: RMS error of a match in pixels.

    unit: meters per count.
    """

    focal_px: float = 435.0
    baseline_m: float = 0.018
    subpixel: float = 0.08
    unit: float = 0.0001

    def sigma_m(self, z_m: float) -> float:
        """RMS noise in meters at distance z: z^2 subpixel / (focal baseline)
        (librealsense#3904).
        """
        return z_m * z_m * (self.subpixel / (self.focal_px * self.baseline_m))


class StereoImager:
    """A stereo camera with its noise: drawn once as large tiles, of which every frame gets windows
    of its own.
    """

    def __init__(self, camera: StereoCamera, rng: np.random.Generator, tile_px: int = 1600) -> None:
        self.camera = camera
        self._match_noise = Tile(correlated_noise(rng, (tile_px, tile_px), MATCH_CORRELATION_PX))
        self._ragged = Tile(correlated_noise(rng, (tile_px, tile_px), HOLE_CORRELATION_PX))

    def read(self, z_m: Image, glare: Image, rng: np.random.Generator) -> NDArray[np.uint16]:
        """What the camera delivers for the true distances.

        Args:
            z_m: (H, W) meters, > 0.
            glare: (H, W) specular light of a white lamp; from GLARE on there is no texture left to
                match.
        Returns: (H, W) uint16 counts, 0 = no reading.
        """
        height, width = z_m.shape
        camera = self.camera
        scale = np.float32(camera.focal_px * camera.baseline_m)
        true = scale / z_m
        disparity = cv2.GaussianBlur(true, (0, 0), SMOOTHING_PX)
        disparity += np.float32(camera.subpixel) * self._match_noise.window(rng, height, width)
        disparity = np.round(disparity * SUBDISPARITY) / SUBDISPARITY
        counts = np.round(scale / np.maximum(disparity, 0.05) / camera.unit)
        counts[_unread(true, glare, self._ragged.window(rng, height, width)) | (counts > 65535)] = 0
        return cast(NDArray[np.uint16], counts.astype(np.uint16))


def _unread(disparity: Image, glare: Image, ragged: Image) -> NDArray[np.bool_]:
    """Where no match is found: beside steps, behind the near side of a step, in glare, and in rare
    speckles.

    ragged: (H, W) noise of unit RMS that frays the borders of the holes.
    """
    step = cv2.morphologyEx(disparity, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    unread = step > EDGE_STEP_PX * (1.9 + 0.6 * ragged)
    # what lies left of a near surface is hidden from the right imager
    for shift in range(1, OCCLUSION_REACH_PX + 1):
        hidden = disparity[:, shift:] - disparity[:, :-shift] > EDGE_STEP_PX * shift
        unread[:, :-shift] |= hidden
    unread |= glare > GLARE + 0.08 * ragged
    unread |= ragged > SPECKLE_SIGMA
    return cast(NDArray[np.bool_], unread)


def correlated_noise(
    rng: np.random.Generator, shape: tuple[int, int], correlation_px: float
) -> Image:
    """(H, W) float32 Gaussian noise of unit RMS per pixel, blurred by a Gaussian of
    `correlation_px`.
    """
    blurred = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), correlation_px)
    return cast(Image, blurred / blurred.std())
