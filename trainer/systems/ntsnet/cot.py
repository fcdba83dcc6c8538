"""Improved contextual transformer block (CoT), NTSNet section 3.2, equations 1 and 2.

A 3x3 convolution gives every position the static context K of its neighborhood. K and a query Q
together decide how much each of the nine neighbors counts in a weighted sum of the values V, the
dynamic context G. The block gives K + G.

Settled here, because the paper leaves it open:

- The product of equation 1. The paper calls it a matrix product; at 64x64 positions that is a
  4096x4096 attention for every head and image. The block it improves (CoTNet, Li et al., 2021)
  weighs the 3x3 neighborhood only: G at a position is the sum of its nine neighbors' values with
  softmax weights. So does this one; k is 3, as of K.
- Heads. As in CoTNet, `share` neighboring channels have one set of nine weights; the paper names
  no number.
- Nonlinearities. CoTNet's value is one 1x1 convolution, the paper's two; without a nonlinearity in
  between two would be one. Every convolution has a BatchNorm and, but for the last of the values, a
  ReLU; the logits are bare.
- Border. Values outside the grid are 0 and keep their weight, as in CoTNet: logits come from the
  position alone, not from the neighbor, so that the border behaves as a zero padded convolution's,
  which K is.
- Stride. With stride 2 the input is averaged over 2x2 cells first, in the manner of CoTNet's
  residual blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW = 3
NEIGHBORS = WINDOW**2


class CoT(nn.Module):
    """(N, channels, h, w) -> (N, out, h / stride, w / stride), in place of a 3x3 convolution.

    Args:
        share: channels with the same weights; divides `out`. groups: of the 3x3 convolution.
            reduction: the joined query and key are reduced to out / reduction channels before the
            weights are made of them.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int = 1,
        share: int = 8,
        groups: int = 1,
        reduction: int = 4,
    ) -> None:
        super().__init__()
        self.heads = out // share
        inner = out // reduction
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.key = nn.Sequential(*_convolution(channels, out, WINDOW, groups), nn.ReLU())
        self.query = nn.Sequential(*_convolution(channels, out), nn.ReLU())
        self.value = nn.Sequential(*_convolution(channels, out), nn.ReLU(), *_convolution(out, out))
        self.logits = nn.Sequential(
            *_convolution(2 * out, inner), nn.ReLU(), nn.Conv2d(inner, NEIGHBORS * self.heads, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Equation 2."""
        x = self.pool(x)  # (N, channels, h, w), from here on the size of the result
        key = self.key(x)  # (N, out, h, w)
        logits = self.logits(torch.cat([key, self.query(x)], dim=1))  # (N, 9 heads, h, w)
        logits = logits.reshape(len(x), self.heads, NEIGHBORS, *x.shape[2:])  # (N, heads, 9, h, w)
        context: Tensor = key + local_sum(self.value(x), logits.softmax(dim=2))  # (N, out, h, w)
        return context


def local_sum(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of every position's nine neighbors, those outside the grid being 0 (equation 1).

    Written as nine shifted slices: TensorRT has no unfold.

    Args:
        values: (N, C, h, w). weights: (N, heads, 9, h, w), neighbors row by row; C / heads
            channels share a head.
    Returns: (N, C, h, w).
    """
    count, heads, _, height, width = weights.shape
    padded = functional.pad(values, (1, 1, 1, 1))  # (N, C, h + 2, w + 2)
    padded = padded.reshape(count, heads, -1, height + 2, width + 2)  # (N, heads, C / heads, ...)
    terms = []
    # (N, heads, 1, h, w) each; torch leaves split unannotated
    for number, weight in enumerate(weights.split(1, dim=2)):  # type: ignore[no-untyped-call]
        row, column = divmod(number, WINDOW)
        terms.append(weight * padded[..., row : row + height, column : column + width])
    total: Tensor = sum(terms[1:], terms[0])
    return total.flatten(1, 2)  # (N, C, h, w)


def _convolution(channels: int, out: int, size: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and BatchNorm."""
    return [
        nn.Conv2d(channels, out, size, padding=size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    ]
