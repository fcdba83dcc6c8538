"""Features by which a patch of one normal image is compared with those of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from trainer.graph.prepared import Prepared

CELLS = 4  # depth cells along a patch: the height image has half the color image's sides
# standard deviations of the averages that describe heights, in depth cells
SCALES = (1.0, 2.0, 4.0, 8.0)


def color_features(levels: Sequence[Tensor]) -> Tensor:
    """Features of the frozen backbone at 1/8 and 1/16 of the image -> (N, C, h, w) at 1/8, averaged
    over 3x3.
    """
    fine, coarse = levels
    fine = functional.avg_pool2d(fine, 3, stride=1, padding=1, count_include_pad=False)
    size = (fine.shape[2], fine.shape[3])
    return torch.cat(
        [fine, functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)],
        dim=1,
    )


def height_features(prepared: Prepared) -> Tensor:
    """The height's shape around each patch, the same however the part is turned: (N, 10, h, w).

    Differences between averages of rising scale, the average height, slopes, and how much
    foreground is near.
    """
    assert prepared.height is not None  # only asked for with depth
    foreground = prepared.foreground
    near = [_average(foreground, scale) for scale in SCALES]
    levels = [
        _average(prepared.height, scale) / share.clamp(min=0.05)
        for scale, share in zip(SCALES, near, strict=True)
    ]
    bands = [finer - coarser for finer, coarser in pairwise(levels)]
    slopes = [_slope(level) for level in levels[:3]]
    shape = torch.cat([*bands, levels[1], *slopes, *near[1:]], dim=1) * foreground
    share = functional.avg_pool2d(foreground, CELLS).clamp(min=0.05)
    return functional.avg_pool2d(shape, CELLS) / share


def _average(image: Tensor, scale: float) -> Tensor:
    """(N, 1, h, w) averaged with Gaussian weights of standard deviation `scale`, zeros outside."""
    reach = math.ceil(2.5 * scale)
    weights = torch.exp(
        -(torch.arange(-reach, reach + 1, dtype=torch.float32) ** 2) / (2 * scale * scale)
    )
    weights = weights / weights.sum()
    across = functional.conv2d(image, weights.view(1, 1, 1, -1), padding=(0, reach))
    return functional.conv2d(across, weights.view(1, 1, -1, 1), padding=(reach, 0))


def _slope(image: Tensor) -> Tensor:
    """(N, 1, h, w) length of the gradient, 0 at the rim."""
    across = functional.pad(image[..., 2:] - image[..., :-2], (1, 1, 0, 0))
    down = functional.pad(image[:, :, 2:] - image[:, :, :-2], (0, 0, 1, 1))
    return (across * across + down * down).sqrt()
