"""Reverse distillation's one-class bottleneck and student decoder (Deng and Li, CVPR 2022, which
AAND builds on).

The student never sees the image: only what three levels of the teacher leave in a small map, from
which it has to reconstruct the levels. What never occurred in training does not pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """A residual block of a ResNet with bottleneck: 1x1, 3x3 and 1x1 convolutions, each with
    BatchNorm.
    """

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels, inner, 1),
            *_convolution(inner, inner, 3),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return torch.relu(x + self.body(x))


class Bottleneck(nn.Module):
    """One-class bottleneck embedding: all levels at the coarsest one's size, joined, then halved
    once more.

    Args:
        channels: of the levels, finest first; each level has half the side of the one before.
        widths: of the decoder at the levels; the joined map has the last one's. out: channels of
            the embedding.
    """

    def __init__(
        self, channels: Sequence[int], widths: Sequence[int], out: int, blocks: int
    ) -> None:
        super().__init__()
        last = len(channels) - 1
        self.reduce = nn.ModuleList(
            (
                nn.Sequential(*_halvings([own, *widths[level + 1 :]]))
                if level < last
                else nn.Identity()
            )
            for level, own in enumerate(channels)
        )
        joined = widths[-1] * last + channels[-1]
        self.embed = nn.Sequential(
            *_convolution(joined, widths[-1], 1),
            *_convolution(widths[-1], out, 3, stride=2),
            *(Block(out, out // 2) for _ in range(blocks)),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels, finest first -> (N, out, h / 2, w / 2) of the coarsest."""
        reduced = [reduce(level) for reduce, level in zip(self.reduce, levels, strict=True)]
        joined = torch.cat(reduced, dim=1)  # (N, joined, h, w) of the coarsest level
        embedded: Tensor = self.embed(joined)  # (N, out, h / 2, w / 2)
        return embedded


class Decoder(nn.Module):
    """From the embedding back to every level, coarsest first inside, finest first in what it
    returns.

    Args:
        channels: of the levels. widths: of the decoder at each. out: channels of the embedding.
        blocks: residual blocks per level.
    """

    def __init__(
        self, channels: Sequence[int], widths: Sequence[int], out: int, blocks: int
    ) -> None:
        super().__init__()
        before = [*widths[1:], out]
        self.rise = nn.ModuleList(
            # A transposed 2x2 convolution with stride 2, written as one product and a shuffle.
            nn.Conv2d(coarse, 4 * width, 1, bias=False)
            for coarse, width in zip(before, widths, strict=True)
        )
        self.refine = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width), nn.ReLU(), *(Block(width, width // 2) for _ in range(blocks))
            )
            for width in widths
        )
        self.leave = nn.ModuleList(
            nn.Conv2d(width, own, 1) for width, own in zip(widths, channels, strict=True)
        )

    def forward(self, embedded: Tensor) -> list[Tensor]:
        """(N, out, h, w) -> (N, C, 2^k h, 2^k w) of every level."""
        levels = []
        x = embedded
        for level in reversed(range(len(self.rise))):
            x = functional.pixel_shuffle(self.rise[level](x), 2)  # (N, width, 2 h, 2 w)
            x = self.refine[level](x)
            levels.append(self.leave[level](x))  # (N, C, 2 h, 2 w)
        return levels[::-1]


def _halvings(channels: Sequence[int]) -> list[nn.Module]:
    """3x3 convolutions with stride 2 through these channel counts."""
    layers: list[nn.Module] = []
    for first, second in pairwise(channels):
        layers += _convolution(first, second, 3, stride=2)
    return layers


def _convolution(channels: int, out: int, size: int, stride: int = 1) -> list[nn.Module]:
    """Convolution, BatchNorm, ReLU."""
    convolution = nn.Conv2d(channels, out, size, stride=stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out), nn.ReLU()]
