"""Sine position encoding over a feature grid (Vaswani et al. 2017, in two dimensions as AST)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_position_encoding(channels: int, height: int, width: int) -> Tensor:
    """Encode every cell's column in the first half of the channels and its row in the second.

    With m = channels / 2 and f_i = 10000^(-2i / m): channel 2i is sin(x f_i), 2i + 1 is cos(x f_i),
    m + 2i is sin(y f_i) and m + 2i + 1 is cos(y f_i), for cell (x, y) and i = 0 .. m / 2 - 1.

    Args:
        channels: a multiple of 4; AST and MATS use 32.
        height: rows of the grid.
        width: columns of the grid.
    Returns: (1, channels, height, width) float32 in -1..1, the same for every image.
    Raises: ValueError if channels is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"a position encoding needs a multiple of 4 channels, not {channels}")
    half = channels // 2
    frequencies = torch.exp(
        torch.arange(0, half, 2, dtype=torch.float64) * (-math.log(10_000.0) / half)
    )
    steps = torch.arange(max(height, width), dtype=torch.float64)[None, :]
    columns = steps[:, :width] * frequencies[:, None]  # (half / 2, width)
    rows = steps[:, :height] * frequencies[:, None]  # (half / 2, height)
    encoding = torch.empty(1, channels, height, width, dtype=torch.float64)
    encoding[0, 0:half:2] = columns.sin()[:, None, :]
    encoding[0, 1:half:2] = columns.cos()[:, None, :]
    encoding[0, half::2] = rows.sin()[:, :, None]
    encoding[0, half + 1 :: 2] = rows.cos()[:, :, None]
    return encoding.float()
