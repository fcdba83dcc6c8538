"""Small geometry in millimeters: smooth steps, rounded boxes, tables over a radius."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import ArrayLike

from trainer.synthetic.noise import Image

TEMPLATE_MM = 340.0  # side of a template: the whole crop
TEMPLATE_PITCH = 0.3  # mm per template pixel


def smooth_step(x: ArrayLike, low: float, high: float) -> Image:
    """0 below `low`, 1 above `high`, a cubic between; `low` may be above `high`."""
    t = np.clip((np.asarray(x, np.float32) - low) / (high - low), 0, 1)
    return cast(Image, (t * t * (3 - 2 * t)).astype(np.float32))


def rounded_box(x: Image, y: Image, half_width: float, half_height: float, radius: float) -> Image:
    """Signed distance to a rectangle with round corners, negative inside."""
    qx = np.abs(x) - (half_width - radius)
    qy = np.abs(y) - (half_height - radius)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    return cast(Image, (outside + np.minimum(np.maximum(qx, qy), 0) - radius).astype(np.float32))


def template_axes() -> tuple[Image, Image]:
    """x and y in mm of every pixel of a template, (T, T) float32."""
    side = round(TEMPLATE_MM / TEMPLATE_PITCH)
    axis = ((np.arange(side) - (side - 1) / 2) * TEMPLATE_PITCH).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def template_window(x_mm: float, y_mm: float, reach_mm: float) -> tuple[slice, slice]:
    """Rows and columns of a template within `reach_mm` of a point, so that a detail costs no pass
    over all of it.
    """
    side = round(TEMPLATE_MM / TEMPLATE_PITCH)
    ends = (y_mm - reach_mm, y_mm + reach_mm, x_mm - reach_mm, x_mm + reach_mm)
    edges = [end / TEMPLATE_PITCH + (side - 1) / 2 for end in ends]
    top, bottom, left, right = (int(np.clip(round(edge), 0, side)) for edge in edges)
    return slice(top, bottom), slice(left, right)


def sample_template(template: Image, x: Image, y: Image, outside: float = 0.0) -> Image:
    """The template at part coordinates x, y (mm), linear between its pixels."""
    center = np.float32((template.shape[0] - 1) / 2)
    u, v = x / np.float32(TEMPLATE_PITCH) + center, y / np.float32(TEMPLATE_PITCH) + center
    return cast(
        Image,
        cv2.remap(
            template, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
        ),
    )
