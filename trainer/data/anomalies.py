"""Anomalies drawn on normal images to train with, on the prepared image: AAND section III-B, after DRAEM (ICCV 2021).

Where: Perlin noise within the foreground. What: a foreign texture, or the image's own pixels moved, darkened, lightened
or smeared, for a scratch or a stain is made of what the part is made of. With depth, an anomaly changes color, height
or both.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.graph.preprocess import Prepared
from trainer.synthetic.perlin import anomaly_mask
from trainer.synthetic.textures import Textures

OWN_PIXELS = 0.4  # share of the anomalies that are made of the image's own pixels
MISSING = 0.2  # share of the anomalies that show the background, as if a piece had broken off
OPACITY = (0.2, 1.0)  # of the texture; DRAEM
HEIGHT_SIGMAS = (2.0, 12.0)
OBJECT_SHARE = (0.05, 0.95)  # of the image: outside of it, a threshold has found no object


def corrupted(
    image: Prepared, textures: Textures, depth_sigma: float | None, seed: int, number: int
) -> tuple[Prepared, Tensor]:
    """Anomaly `number` on a normal image (batch 1); the same for the same seed and number.

    Args:
        depth_sigma: noise of the height image in metres; None leaves height as it is.
    Returns: the image with the anomaly, and its mask (1, 1, h, w) float32, 0 or 1, at the color image's size.
    """
    generator = np.random.default_rng([seed, number])
    color = image.color[0].permute(1, 2, 0).numpy().astype(np.float32)
    part = _foreground(image, color)
    mask = anomaly_mask(part, generator)
    kind = "color"
    if image.height is not None and depth_sigma is not None:
        kind = ("color", "depth", "both")[int(generator.integers(3))]
    drawn, height = image.color, image.height
    if kind != "depth":
        painted = _painted(color, part, mask, textures, generator)
        drawn = torch.from_numpy(np.ascontiguousarray(painted.transpose(2, 0, 1)))[None]
    if kind != "color":
        assert height is not None  # only color is drawn without
        assert depth_sigma is not None
        height = _raised(height, mask, image.foreground, depth_sigma, generator)
    mark = torch.from_numpy(mask.astype(np.float32))[None, None]
    return image._replace(color=drawn, height=height), mark


def _foreground(image: Prepared, color: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(h, w): the part. Without depth by Otsu's threshold (section IV-B), the class that keeps off the image's rim."""
    height, width = color.shape[:2]
    known = image.foreground[0, 0].numpy()
    inside = np.asarray(cv2.resize(known, (width, height), interpolation=cv2.INTER_NEAREST) > 0)
    if image.height is not None:
        return inside
    grey = cv2.GaussianBlur(color.mean(axis=2).clip(0, 255).astype(np.uint8), (5, 5), 0)
    _, bright = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    rim = np.concatenate([bright[0], bright[-1], bright[:, 0], bright[:, -1]])
    part = np.asarray((bright > 0) != (rim.mean() > 0.5))
    share = float(part.mean())
    return part & inside if OBJECT_SHARE[0] < share < OBJECT_SHARE[1] else inside


def _painted(
    color: NDArray[np.float32],
    part: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    textures: Textures,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """Color with the anomaly blended in."""
    opacity = generator.uniform(*OPACITY)
    if generator.random() < MISSING and not part.all():
        other, opacity = _background(color, part, generator), 1.0
    elif generator.random() < OWN_PIXELS:
        other = _own(color, generator)
    else:
        other = textures.draw(color.shape[0], color.shape[1], generator)
    share = (opacity * mask)[..., None]
    return np.asarray(np.clip(color * (1 - share) + other * share, 0, 255), np.float32)


def _background(
    color: NDArray[np.float32], part: NDArray[np.bool_], generator: np.random.Generator
) -> NDArray[np.float32]:
    """What is seen where a piece of the part is missing: the background's pixels, in any order."""
    pixels = color[~part]
    return pixels[generator.integers(len(pixels), size=part.shape)]


def _own(color: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    """The image itself, changed in one of four ways."""
    way = int(generator.integers(4))
    if way == 0:    # moved elsewhere
        shift = [int(generator.integers(size // 8, size - size // 8)) for size in color.shape[:2]]
        return np.roll(color, shift, axis=(0, 1))
    if way == 1:    # smeared
        return np.asarray(cv2.GaussianBlur(color, (0, 0), generator.uniform(3, 12)))
    if way == 2:    # lit or tinted otherwise
        return np.asarray(color * generator.uniform(0.4, 1.6) + generator.uniform(-30, 30, 3), np.float32)
    return np.asarray(255 - color)


def _raised(
    height: Tensor, mask: NDArray[np.bool_], foreground: Tensor, depth_sigma: float, generator: np.random.Generator
) -> Tensor:
    """Height with a dent or a bump where the mask is, soft at its rim."""
    rows, columns = height.shape[2:]
    small = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(small, (0, 0), generator.uniform(0.3, 1.0))
    soft = soft / max(float(soft.max()), 1e-6)
    metres = generator.choice([-1.0, 1.0]) * generator.uniform(*HEIGHT_SIGMAS) * depth_sigma
    return height + float(metres) * torch.from_numpy(soft)[None, None] * foreground
