"""Arithmetic on color images through OpenCV: NumPy's broadcasting over a last axis of three is
several times slower.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from trainer.synthetic.noise import Image


def times(color: Image, factor: Image) -> Image:
    """(S, S, 3) times (S, S)."""
    return cast(Image, cv2.multiply(color, cv2.merge([factor, factor, factor])))


def tinted(gray: Image, tint: tuple[float, float, float]) -> Image:
    """(S, S) as a color image of one hue: (S, S, 3)."""
    return cast(Image, cv2.merge([gray * np.float32(channel) for channel in tint]))


def mixed(first: Image, second: Image, share: Image) -> Image:
    """(S, S, 3): `first` where the share (S, S) is 0, `second` where it is 1."""
    return cast(Image, first + times(second - first, share))


def between(
    first: tuple[float, float, float], second: tuple[float, float, float], share: Image
) -> Image:
    """(S, S, 3): from one color at share 0 to the other at share 1."""
    channels = [
        np.float32(b - a) * share + np.float32(a) for a, b in zip(first, second, strict=True)
    ]
    return cast(Image, cv2.merge(channels))
