"""One anomaly map of the distances at several levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.layers.anomaly_map import AnomalyMap


class LevelMaps(nn.Module):
    """One distance map per level to one anomaly map: smoothed, brought to one size, then added or
    multiplied.
    """

    def __init__(
        self, grids: Sequence[tuple[int, int]], map_size: tuple[int, int], blur: float, fusion: str
    ) -> None:
        super().__init__()
        self.fusion = fusion
        self.to_map = nn.ModuleList(AnomalyMap(grid, map_size, blur) for grid in grids)

    def forward(self, distances: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """Distances (N, 1, h, w) and masks of every level -> (N, 1, H, W)."""
        maps = [
            to_map(one, mask)
            for to_map, one, mask in zip(self.to_map, distances, masks, strict=True)
        ]
        if self.fusion == "sum":
            return torch.stack(maps).sum(dim=0)  # (levels, N, 1, H, W) -> (N, 1, H, W)
        product: Tensor = maps[0]
        for other in maps[1:]:
            product = product * other
        return product
