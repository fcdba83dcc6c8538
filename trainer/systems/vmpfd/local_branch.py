"""The local branch of VMPFD-AD (section 2.2): how improbable the descriptors of a patch are, given
its token.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.layers.typed import required
from trainer.systems.common.whitening import PrincipalAxes
from trainer.systems.vmpfd.gmdn import MixtureDensityNetwork, greatest_density, log_likelihood
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.preset import Variant, VmpfdPreset


class LocalBranch(nn.Module):
    """Axes of the descriptors, adapter, and a mixture for every token.

    Equations 11 to 13 use one feature as condition and as value. Here the value y is a descriptor;
    the condition x is the token of the patch it lies on: ViM's beside the adapter's, which sees the
    descriptors' mean over the patch and its neighbors (docs/systems/vmpfd.md).

    Args:
        cells: descriptors along a side of a token's patch. relief: channels that describe depth, 0:
            none.
    """

    def __init__(self, preset: VmpfdPreset, cells: int, variant: Variant, relief: int) -> None:
        super().__init__()
        self.cells, self.variant, dims = cells, variant, preset.dims + relief
        self.axes = PrincipalAxes(PatchDescriptors(preset.descriptors).channels, preset.dims)
        # axes of its own: on common ones the shrinkage would compare sigma of height with channels
        # of a backbone
        self.relief_axes = PrincipalAxes(relief) if relief else None
        condition = preset.width * variant.use_vim
        if variant.use_pdn:
            self.adapter = nn.Conv2d(dims, preset.adapter, 3, padding=1)
            condition += preset.adapter
        self.mixture = MixtureDensityNetwork(
            condition, dims, preset.components, preset.hidden, preset.floor
        )

    def described(self, descriptors: Tensor, relief: Tensor | None) -> Tensor:
        """y (N, D, h, w) of descriptors (N, C, h, w) and what describes depth there, None without
        it.
        """
        y = cast(Tensor, self.axes(descriptors))
        if self.relief_axes is None:
            return y
        return torch.cat([y, self.relief_axes(required(relief))], dim=1)

    def log_density(self, y: Tensor, tokens: Tensor) -> Tensor:
        """log p(y | x) / D (N, 1, h, w) of y (N, D, h, w), x the tokens (N, E, h', w'); equations 9
        to 13.
        """
        condition = self._condition(y, tokens).flatten(2).transpose(1, 2)  # (N, T, X)
        densities = log_likelihood(self._by_patch(y), self.mixture(condition))  # (N, T, S)
        count, _, rows, columns = y.shape
        cells, down, across = self.cells, rows // self.cells, columns // self.cells
        grouped = densities.reshape(count, down, across, cells, cells).transpose(2, 3)
        return grouped.reshape(count, 1, rows, columns) / y.shape[1]  # (N, 1, h, w)

    def _condition(self, y: Tensor, tokens: Tensor) -> Tensor:
        """x of every token, (N, X, h', w')."""
        parts = [tokens] if self.variant.use_vim else []
        if self.variant.use_pdn:
            pooled = functional.avg_pool2d(y, self.cells)  # (N, D, h', w')
            parts.append(torch.relu(self.adapter(pooled)))
        return torch.cat(parts, dim=1)

    def _by_patch(self, y: Tensor) -> Tensor:
        """(N, D, h, w) -> (N, T, S, D): the S descriptors that lie on each of T patches."""
        count, dims, rows, columns = y.shape
        cells, down, across = self.cells, rows // self.cells, columns // self.cells
        blocks = y.reshape(count, dims, down, cells, across, cells)
        grouped = blocks.permute(0, 2, 4, 3, 5, 1)  # (N, h', w', cells, cells, D)
        return grouped.reshape(count, down * across, cells * cells, dims)  # (N, T, S, D)

    def surprise(self, y: Tensor, tokens: Tensor) -> Tensor:
        """How far log p(y | x) / D lies below its bound, (N, 1, h, w) >= 0."""
        most = greatest_density(y.shape[1], self.mixture.floor) / y.shape[1]
        return (most - self.log_density(y, tokens)).clamp(min=0)
