"""Depth as a stereo camera of the RealSense D400 family delivers it: noise in disparity, holes, two quantisations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from trainer.synthetic.noise import Image

SUBDISPARITY = 32           # D400 resolves disparity to 1/32 pixel
SMOOTHING_PX = 0.8          # the matching window blurs disparity
CORRELATION_PX = 0.9        # and correlates its noise over about two pixels
EDGE_STEP_PX = 0.30         # disparity steps beyond this lose readings
OCCLUSION_REACH_PX = 3
GLARE = 0.62                # specular light beyond this leaves nothing to match


@dataclass(frozen=True)
class StereoCamera:
    """focal_px, baseline_m: of the pair. subpixel: RMS error of a match in pixels. unit: metres per count."""

    focal_px: float = 435.0
    baseline_m: float = 0.018
    subpixel: float = 0.05
    unit: float = 0.0001

    def sigma_m(self, z_m: NDArray[np.floating] | float) -> NDArray[np.floating] | float:
        """RMS noise in metres at distance z: z^2 subpixel / (focal baseline), from dz = z^2 / (f b) dd (librealsense#3904)."""
        return z_m * z_m * (self.subpixel / (self.focal_px * self.baseline_m))

    def read(self, z_m: Image, glare: Image, rng: np.random.Generator) -> NDArray[np.uint16]:
        """What the camera delivers for the true distances.

        Args:
            z_m: (H, W) metres, > 0.
            glare: (H, W) specular light, 1 saturates the sensor: no texture to match.
        Returns: (H, W) uint16 counts, 0 = no reading.
        """
        scale = np.float32(self.focal_px * self.baseline_m)
        true = scale / z_m
        disparity = cv2.GaussianBlur(true, (0, 0), SMOOTHING_PX)
        disparity += np.float32(self.subpixel) * correlated_noise(rng, z_m.shape)
        disparity = np.round(disparity * SUBDISPARITY) / SUBDISPARITY
        counts = np.round(scale / np.maximum(disparity, 0.05) / self.unit)
        counts[self._unread(true, glare, rng) | (counts > 65535)] = 0
        return cast(NDArray[np.uint16], counts.astype(np.uint16))

    def _unread(self, disparity: Image, glare: Image, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Where no match is found: beside steps (ragged), behind the near side of a step, in glare, and in rare speckles."""
        ragged = cv2.GaussianBlur(rng.standard_normal(disparity.shape, np.float32), (0, 0), 1.5) * 5.3   # about unit RMS
        step = cv2.morphologyEx(disparity, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        unread = step > EDGE_STEP_PX * (1.9 + 0.6 * ragged)
        for shift in range(1, OCCLUSION_REACH_PX + 1):   # the far surface left of a near one is hidden from the right imager
            hidden = disparity[:, shift:] - disparity[:, :-shift] > EDGE_STEP_PX * shift
            unread[:, :-shift] |= hidden
        unread |= glare > GLARE + 0.08 * ragged
        unread |= ragged > 3.35
        return cast(NDArray[np.bool_], unread)


def correlated_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Image:
    """(H, W) float32 Gaussian noise of unit RMS per pixel, correlated over about two pixels."""
    blurred = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), CORRELATION_PX)
    kernel = cv2.getGaussianKernel(2 * int(round(CORRELATION_PX * 4)) + 1, CORRELATION_PX)
    return cast(Image, blurred / np.float32((kernel**2).sum()))
