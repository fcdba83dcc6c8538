"""The teacher of the patch descriptors: two levels of a frozen backbone (EfficientAD, Batzner et
al., WACV 2024, section 3.1).

The levels are brought to the descriptors' grid and joined, every channel normalized to mean 0 and
deviation 1 over the images, and projected onto their principal axes, of which the most variable
stay. What differs from EfficientAD, and why: docs/systems/vmpfd.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.layers.backbone import LITE0, WIDE_RESNET50, BackboneSpec, build_trunk


@dataclass(frozen=True)
class PdnRecipe:
    """How one kind of network is distilled.

    kind: of PatchDescriptors. backbone: with two taps. enlarge: factor by which the teacher's image
    is larger than the student's, so that its features are of patches as small as the student's.
    """

    kind: str
    backbone: BackboneSpec
    enlarge: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    rate: float


WIDE_TAPS = replace(WIDE_RESNET50, taps=(1, 2), channels=(512, 1024), strides=(8, 16))
RECIPES: dict[str, PdnRecipe] = {
    # EfficientAD: WideResNet-101, 60,000 steps of batch 16, rate 1e-4, weight decay 1e-5.
    "paper": PdnRecipe("paper", WIDE_TAPS, 2, 600, 100, 16, 1e-4),
    "compact": PdnRecipe("compact", LITE0, 1, 40, 50, 8, 3e-3),
}


class Teacher(nn.Module):
    """Frozen features of an image on the grid of a network's descriptors, normalized and cut to its
    channels.

    Args:
        weights: the user's backbone file or None. stride: of the descriptors, px. channels: of a
            descriptor.
    """

    mean: Tensor
    gain: Tensor
    axes: Tensor

    def __init__(self, recipe: PdnRecipe, weights: Path | None, stride: int, channels: int) -> None:
        super().__init__()
        self.enlarge, self.stride = recipe.enlarge, stride
        self.trunk = build_trunk(recipe.backbone, weights)
        width = sum(recipe.backbone.channels)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("gain", torch.ones(width))
        self.register_buffer("axes", torch.eye(width)[:channels])

    def forward(self, color: Tensor) -> Tensor:
        """Color (N, 3, H, W) 0..255 -> (N, C, H / stride, W / stride)."""
        normalized = (self.raw(color) - self.mean[:, None, None]) * self.gain[:, None, None]
        return functional.conv2d(normalized, self.axes[:, :, None, None])  # (N, C, h, w)

    def raw(self, color: Tensor) -> Tensor:
        """Both levels of the backbone on the descriptors' grid, (N, Cb, h, w)."""
        grid = color.shape[2] // self.stride, color.shape[3] // self.stride
        if self.enlarge > 1:
            color = functional.interpolate(
                color, scale_factor=self.enlarge, mode="bilinear", align_corners=False
            )
        return torch.cat([_on_grid(level, grid) for level in self.trunk(color)], dim=1)

    @torch.no_grad()
    def fit_scales(self, images: Sequence[Tensor]) -> None:
        """Set mean and deviation of every channel, and the principal axes, to those of batches (B,
        3, H, W) of color images.
        """
        features = (self.raw(batch).permute(0, 2, 3, 1) for batch in images)  # (B, h, w, Cb)
        rows = torch.cat([one.flatten(0, 2).cpu() for one in features]).double()  # (M, Cb)
        mean, variance = rows.mean(dim=0), rows.var(dim=0, correction=0)  # (Cb,)
        # a channel that hardly varies must not become noise as loud as the others
        gain = (variance + 1e-6 * variance.mean() + 1e-12).rsqrt()
        normalized = (rows - mean) * gain
        _, axes = torch.linalg.eigh(normalized.T @ normalized / len(rows))  # variances rise
        self.mean.copy_(mean)
        self.gain.copy_(gain)
        self.axes.copy_(axes[:, -len(self.axes) :].T)


def _on_grid(level: Tensor, grid: tuple[int, int]) -> Tensor:
    """A level of the backbone (N, Ci, h', w') on the grid: enlarged, or averaged."""
    if level.shape[2] < grid[0]:
        return functional.interpolate(level, size=grid, mode="bilinear", align_corners=False)
    return functional.adaptive_avg_pool2d(level, grid)  # (N, Ci, h, w)
