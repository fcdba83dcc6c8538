"""NTSNet's students: one of the teacher's own shape, and a lean one with a head to the teacher's
width at each level, which may see height beside color and then has a second head at each for depth.

A stage of stride 2 averages 2x2 cells before its CoT block (trainer.systems.ntsnet.cot).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from trainer.layers.backbone import BackboneSpec, Trunk
from trainer.layers.typed import Modules
from trainer.systems.common.level_features import DEPTH_BOUND
from trainer.systems.ntsnet.cot import CoT
from trainer.systems.ntsnet.eman import Pair, norms, same_named
from trainer.systems.ntsnet.preset import LeanShape

HEIGHT_BOUND = 4.0  # of heights, in spreads: clipped, beyond this they carry no information
LEAST_SPREAD_M = 1e-4  # what a flat part's heights are divided by


class MirrorStudent(nn.Module):
    """A student of the teacher's own shape, random.

    Args:
        groups: of the CoT blocks that replace the residual blocks' 3x3 convolutions; None leaves
            the plain convolutions, which makes it the symmetric student of table 3.
    """

    def __init__(self, spec: BackboneSpec, groups: int | None) -> None:
        super().__init__()
        trunk = Trunk(spec, None).requires_grad_(True)
        self.taps, self.stem, self.stages = spec.taps, trunk.stem, trunk.stages
        if groups is not None:
            for block in [module for module in self.modules() if isinstance(module, BasicBlock)]:
                block.conv1, block.conv2 = (
                    _as_cot(old, groups) for old in (block.conv1, block.conv2)
                )

    def forward(self, color: Tensor) -> list[Tensor]:
        """Normalized color (N, 3, h, w) -> every level, finest first."""
        x, levels = self.stem(color), []  # (N, C, h / 4, w / 4)
        for number, stage in enumerate(self.stages):
            x = stage(x)  # every stage but the first halves h and w
            if number in self.taps:
                levels.append(x)
        return levels

    def pairs(self, teacher: Trunk) -> list[Pair]:
        """BatchNorms that both networks have."""
        return same_named(self, teacher)

    def start_at(self, level: int, rows: Tensor) -> None:
        """Without heads there is nothing to begin with: the student stays random."""


def _as_cot(old: nn.Conv2d, groups: int) -> CoT:
    """A CoT block that fits where a 3x3 convolution was."""
    return CoT(old.in_channels, old.out_channels, old.stride[0], groups=groups)


class Residual(nn.Module):
    """relu(x + BatchNorm(mixed x)), mixed by CoT or by a plain 3x3 convolution."""

    def __init__(self, channels: int, cot: bool, groups: int) -> None:
        super().__init__()
        plain = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.mix = CoT(channels, channels, groups=groups) if cot else plain
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return torch.relu(x + self.norm(self.mix(x)))


class RelativeHeight(nn.Module):
    """Height as a channel beside color: over the mean height of normal parts, in their spread."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, height: Tensor, foreground: Tensor) -> Tensor:
        """Height in meters over the background and foreground, (N, 1, h, w) each -> (N, 1, h, w),
        clipped at HEIGHT_BOUND, 0 outside the foreground.
        """
        relative = (height - self.mean) * (foreground / self.spread)
        return relative.clamp(-HEIGHT_BOUND, HEIGHT_BOUND)

    @torch.no_grad()
    def measure(self, height: Tensor, foreground: Tensor) -> None:
        """Take mean and spread from normal images, (N, 1, h, w) each."""
        inside = height[foreground > 0].double()
        if len(inside):
            self.mean.copy_(inside.mean())
            self.spread.copy_(inside.std(correction=0).clamp(min=LEAST_SPREAD_M))


class LeanStudent(nn.Module):
    """A light stem, then at every level an entry of stride 2 and residual blocks, and a head to the
    teacher's width.

    Args:
        channels: of the teacher's levels. depth_channels: of its levels of depth, none where it
            judges color alone; with them, height enters at the stem's stride.
    """

    def __init__(
        self,
        shape: LeanShape,
        channels: Sequence[int],
        cot: bool,
        groups: int,
        depth_channels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        widths = (shape.stem, *shape.widths)
        self.stem = nn.Sequential(*_halving(3, shape.stem))
        self.levels = nn.ModuleList(
            nn.Sequential(
                *_halving(before, width), *(Residual(width, cot, groups) for _ in range(blocks))
            )
            for before, width, blocks in zip(widths, shape.widths, shape.blocks, strict=False)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, own, 1, bias=False), nn.BatchNorm2d(own))
            for width, own in zip(shape.widths, channels, strict=True)
        )
        self.relative_height: RelativeHeight | None = None
        if depth_channels:
            self.relative_height = RelativeHeight()
            self.enter_height = nn.Conv2d(1, shape.stem, 3, padding=1, bias=False)
        self.depth_heads = Modules(
            _depth_head(width, own)
            for width, own in zip(shape.widths, depth_channels, strict=False)
        )

    def forward(
        self, color: Tensor, height: Tensor | None = None, foreground: Tensor | None = None
    ) -> list[Tensor]:
        """Every level of color, finest first, then, where it judges depth, every level of depth.

        Args:
            color: (N, 3, h, w), normalized. height, foreground: (N, 1, h / 2, w / 2), meters over
                the background, and 0 or 1; without effect where it judges color alone.
        """
        x = self._entered(color, height, foreground)  # (N, stem, h / 2, w / 2)
        inner = []
        for level in self.levels:
            x = level(x)  # (N, width, h, w) of the level
            inner.append(x)
        colors = [head(own) for head, own in zip(self.heads, inner, strict=True)]  # (N, C, h, w)
        # (N, more, h, w) each; strict would refuse a student that judges color alone
        depths = [head(own) for head, own in zip(self.depth_heads, inner, strict=False)]
        return [*colors, *depths]

    def _entered(self, color: Tensor, height: Tensor | None, foreground: Tensor | None) -> Tensor:
        """The stem, which height enters beside color: (N, stem, h / 2, w / 2)."""
        if self.relative_height is None or height is None or foreground is None:
            return cast(Tensor, self.stem(color))
        convolution, norm, relu = self.stem
        relative = self.relative_height(height, foreground)  # (N, 1, h / 2, w / 2)
        return cast(Tensor, relu(norm(convolution(color) + self.enter_height(relative))))

    @torch.no_grad()
    def start_at(self, level: int, rows: Tensor) -> None:
        """Let the head of a level begin with the teacher's mean and deviation in every channel,
        rows (M, C): small learning rates would take long to get there.
        """
        ((_, norm),) = norms(self.heads[level])
        norm.weight.copy_(rows.std(dim=0, correction=0))
        norm.bias.copy_(rows.mean(dim=0))

    def pairs(self, teacher: Trunk) -> list[Pair]:
        """The heads' BatchNorms, each with the teacher's last one of that level's width."""
        pairs = []
        for head, tap in zip(self.heads, teacher.spec.taps, strict=True):
            ((_, own),) = norms(head)
            same_width = [
                norm
                for _, norm in norms(teacher.stages[tap])
                if norm.num_features == own.num_features
            ]
            pairs.append((own, same_width[-1]))
        return pairs


def _depth_head(width: int, own: int) -> nn.Sequential:
    """Head to depth features, which lie in -1..1; it starts with the deviation of normal parts."""
    norm = nn.BatchNorm2d(own)
    nn.init.constant_(norm.weight, 1 / DEPTH_BOUND)
    return nn.Sequential(nn.Conv2d(width, own, 1, bias=False), norm)


def _halving(channels: int, out: int) -> list[nn.Module]:
    """3x3 convolution with stride 2, BatchNorm, ReLU."""
    return [
        nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]
