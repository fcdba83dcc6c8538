"""The color side of M3DM: a frozen backbone's features on the grid of its finest level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.layers.backbone import BackboneSpec, build_any_trunk
from trainer.systems.seam import BuildRequest


class ColorFeatures(nn.Module):
    """Features of every level, averaged over a window as in PatchCore (Roth et al., CVPR 2022) and
    scaled by one number to a mean square of 1.

    The zeros around the image count in the average: features at the border fade, and what the view
    cuts off there counts less (docs/systems/m3dm.md).

    Args:
        pool: side of the window, in cells of each level; 1 for none.
    """

    gain: Tensor

    def __init__(self, spec: BackboneSpec, pool: int, request: BuildRequest) -> None:
        super().__init__()
        self.trunk = build_any_trunk(
            spec, request.weights, request.sizes.color, random=request.random_backbone
        )
        self.pool, self.channels = pool, sum(spec.channels)
        finest = min(spec.strides)
        self.grid = (request.sizes.color[0] // finest, request.sizes.color[1] // finest)
        self.register_buffer("gain", torch.ones(()))

    def forward(self, color: Tensor) -> Tensor:
        """color (N, 3, H, W), 0..255 -> (N, C, h, w)."""
        return self.scaled(self.trunk(color))

    def scaled(self, levels: Sequence[Tensor]) -> Tensor:
        """Raw levels of the backbone -> (N, C, h, w)."""
        return self.joined(levels) * self.gain

    def joined(self, levels: Sequence[Tensor]) -> Tensor:
        """As `scaled`, unscaled."""
        pooled = [functional.avg_pool2d(level, self.pool, 1, self.pool // 2) for level in levels]
        return torch.cat([self._on_grid(level) for level in pooled], dim=1)  # (N, C, h, w)

    def _on_grid(self, level: Tensor) -> Tensor:
        if level.shape[2:] == self.grid:
            return level
        return functional.interpolate(level, self.grid, mode="bilinear")  # (N, Ci, h, w)
