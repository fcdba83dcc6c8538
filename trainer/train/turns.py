"""Whether parts lie at any angle, as far as color alone tells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.augment import moved

LEAST_PARTS = 4
SIDE = 128  # px, short side of the images that are compared
NEAR = 9  # px, window of the local contrast
CELLS = 32  # side of the images of contrast
ANGLES = (60.0, 120.0, 180.0, 240.0, 300.0)
APART = 1.5
"""Turned about the image's center, a part that always lies alike differs from the others by more
than this multiple of what it differs as it lies, in squares; one that lies at any angle by about as
much.
"""


@torch.no_grad()
def lie_turned(colors: Sequence[Tensor]) -> bool:
    """Tell it from prepared colors (1, 3, h, w) of normal parts; False of fewer than LEAST_PARTS.

    Each part is compared with the mean of the others, as it lies and turned, within the circle that
    a turn leaves in the middle of the image. Where a turned copy is about as like the others as the
    part itself, nothing in the images tells how a part should lie. Local contrast is compared, for
    a lamp that stays where it is shades a turned part alike.
    """
    if len(colors) < LEAST_PARTS:
        return False
    small = torch.cat([_reduced(color) for color in colors])  # (n, 3, SIDE or more, ...)
    lying = _contrast(small)
    others = (lying.sum(dim=0) - lying) / (len(lying) - 1)  # (n, 1, CELLS, CELLS)
    axis = torch.linspace(-1, 1, CELLS)
    circle = (axis[:, None] ** 2 + axis[None, :] ** 2 < 1).to(torch.float32)
    apart = [
        float(((_contrast(_turned(small, angle)) - others) ** 2 * circle).mean())
        for angle in (0.0, *ANGLES)
    ]
    return sum(apart[1:]) / len(ANGLES) < APART * apart[0]


def _reduced(color: Tensor) -> Tensor:
    height, width = color.shape[2:]
    scale = SIDE / min(height, width)
    return functional.adaptive_avg_pool2d(color, (round(scale * height), round(scale * width)))


def _turned(images: Tensor, angle: float) -> Tensor:
    return moved(images, math.radians(angle), 1.0, (0.0, 0.0), "bilinear", "border")


def _contrast(images: Tensor) -> Tensor:
    """Deviation of the gray value from its surroundings, in the square in the middle: (n, 3, h, w),
    neither below SIDE -> (n, 1, CELLS, CELLS).
    """
    top, left = ((side - SIDE) // 2 for side in images.shape[2:])
    gray = images[..., top : top + SIDE, left : left + SIDE].mean(dim=1, keepdim=True)
    padded = functional.pad(gray, [NEAR // 2] * 4, mode="replicate")
    apart = (gray - functional.avg_pool2d(padded, NEAR, stride=1)) ** 2
    return functional.adaptive_avg_pool2d(apart, CELLS).sqrt()
