"""Multi-dilated local attention (MDLA), MATS section 2.3.1, equations 4 to 8.

Settled here, because the paper leaves it open:

- Border: the paper pads with zeros. A zero key scores q k = 0 and would take weight from the real
  neighbors at the border, so padded positions are masked out of the softmax; with that they need
  not exist at all.
- Width: 368, 304 and 176 channels do not divide by three heads: q, k and v are projected to 3
  ceil(c / 3) channels, the last linear layer returns to c.

The grid has 256 cells (576 at the paper's size): one masked matrix product over all pairs of cells
takes fewer, larger operations than 9 shifted copies of k and v per dilation, and gives the same sum
to float32's precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

FURTHEST = 28.0
"""Scores are clipped to this on either side: a softmax over nine cells has long decided there."""
MASKED = -55.0
"""The score of a pair outside the window: all of them together weigh less than float32 resolves
beside the lowest score inside, and yet no exponential is a denormal number, which a CPU computes
ten times as slowly.
"""


def window_mask(height: int, width: int, dilation: int) -> Tensor:
    """Tell which cells each cell attends to (equation 5, window 3).

    Returns: (H W, H W) bool, row major; True where the column's cell is in the row's cell's window:
        itself and its eight neighbors at distance `dilation`, those outside the grid left out.
    """
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.stack([rows.flatten(), columns.flatten()], dim=1)  # (H W, 2)
    offset = cells[:, None] - cells[None, :]
    return ((offset == 0) | (offset.abs() == dilation)).all(dim=2)


class MDLA(nn.Module):
    """Local attention over 3x3 windows, one group of heads per dilation (equations 4 to 8).

    Args:
        channels: c, of input and output.
        size: (H, W) of the feature grid; the graph is static.
        dilations: stride of each group's window; 1, 2, 3 see 3x3, 5x5 and 7x7 cells.
        heads: heads in each group.
    """

    allowed: Tensor
    masked: Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        dilations: Sequence[int] = (1, 2, 3),
        heads: int = 1,
    ) -> None:
        super().__init__()
        self.heads = heads * len(dilations)
        inner = self.heads * math.ceil(channels / self.heads)
        # W_Q, W_K and W_V, one above the other.
        self.project = nn.Conv2d(channels, 3 * inner, kernel_size=1)
        self.merge = nn.Conv2d(inner, channels, kernel_size=1)
        windows = [window_mask(*size, dilation) for dilation in dilations for _ in range(heads)]
        allowed = torch.stack(windows)[None].to(torch.float32)  # (1, heads, H W, H W)
        self.register_buffer("allowed", allowed, persistent=False)
        self.register_buffer("masked", MASKED * (1 - allowed), persistent=False)

    def start_at_zero(self) -> None:
        """Set the last layer to zero: whatever the attention finds, the result is 0."""
        for parameter in self.merge.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, c, H, W)."""
        count, _, height, width = features.shape
        projected = self.project(features)  # (N, 3 heads d, H, W), equation 4
        projected = projected.reshape(count, 3 * self.heads, -1, height * width)  # (..., d, H W)
        query, key, value = projected.chunk(3, dim=1)  # each (N, heads, d, H W)
        scaled = (query * (1 / math.sqrt(query.shape[2]))).transpose(2, 3)  # (N, heads, H W, d)
        scores = (scaled @ key).clamp(-FURTHEST, FURTHEST)  # (N, heads, H W, H W), equation 6
        weights = torch.softmax(scores * self.allowed + self.masked, dim=3)
        attended = value @ weights.transpose(2, 3)  # (N, heads, d, H W), equation 7
        merged: Tensor = self.merge(attended.reshape(count, -1, height, width))  # equation 8
        return merged
