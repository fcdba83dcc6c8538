"""Structural similarity of two images (Wang et al. 2004), which serves as a loss of autoencoders
since Bergmann et al. (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03
SPAN = 2.0  # of values in -1..1


def ssim_map(first: Tensor, second: Tensor) -> Tensor:
    """Equation 5 at every position, in -1..1: means, variances and covariance of an 11x11 window.

    The window weights its pixels by a Gaussian of sigma 1.5, as in Wang et al.; c_1 = (0.01 L)^2
    and c_2 = (0.03 L)^2 with the images' span L. At the border the image is mirrored.

    Args:
        first, second: (N, C, H, W) in -1..1, H and W at least 6.
    Returns: (N, C, H, W).
    """
    stacked = torch.cat(
        [first, second, first * first, second * second, first * second], dim=1
    )  # (N, 5 C, H, W)
    mean1, mean2, square1, square2, product = _windowed(stacked).chunk(5, dim=1)
    c1, c2 = (K1 * SPAN) ** 2, (K2 * SPAN) ** 2
    both = mean1 * mean2
    squares = mean1 * mean1 + mean2 * mean2
    alike = (2 * both + c1) * (2 * (product - both) + c2)
    return alike / ((squares + c1) * (square1 + square2 - squares + c2))


def _windowed(images: Tensor) -> Tensor:
    """Weighted mean over the window of every channel, in two passes, because the Gaussian is
    separable.
    """
    channels, reach = images.shape[1], WINDOW // 2
    steps = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - reach
    kernel = torch.exp(-0.5 * (steps / SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).repeat(channels, 1)  # (C, WINDOW)
    padded = functional.pad(images, (reach,) * 4, mode="reflect")  # (N, C, H + 10, W + 10)
    rows = functional.conv2d(padded, kernel[:, None, :, None], groups=channels)  # (N, C, H, W + 10)
    return functional.conv2d(rows, kernel[:, None, None, :], groups=channels)
