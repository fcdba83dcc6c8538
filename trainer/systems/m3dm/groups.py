"""Neighborhoods on an organized grid: distances between cells, and the k nearest of every center.

Point-MAE and M3DM take the k nearest points in space. On an organized grid the k nearest in the
image are the same where the surface is smooth, and they are the same in every runtime: many cells
of a grid lie almost equally far from a center, and in space the last bit of a noisy height decides
between them, in float16 and float32 differently.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# of the grid's longer side in the unit of distances: the largest square is finite in float16
SIDE = 64.0
FAR = 20_000.0  # added to the squared distance of cells that are no point: beyond all others
MOST_SORTED = 1 << 24  # distances for one TopK: TensorRT works in three times their memory
# Distances are measured from a hair beside the cell's middle, so that no two of a cell's neighbors
# are equally far and every runtime finds the same ones. Not multiples of each other: (a, b) and (c,
# d) differ in 11 a + 17 b.
ASIDE = (0.011, 0.017)


class GridDistance(nn.Module):
    """Squared distances in the image between cells of a grid (rows, columns), its longer side being
    SIDE.
    """

    rows: Tensor
    columns: Tensor
    row_of: Tensor
    column_of: Tensor

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        unit = SIDE / max(grid)
        rows, columns = torch.arange(grid[0]) * unit, torch.arange(grid[1]) * unit
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer(
            "row_of", rows.repeat_interleave(grid[1]) + ASIDE[0] * unit, persistent=False
        )
        self.register_buffer(
            "column_of", columns.repeat(grid[0]) + ASIDE[1] * unit, persistent=False
        )

    def forward(self, cells: Tensor) -> Tensor:
        """(N, G) int64 numbers of cells, row by row -> (N, G, P) from each of them to every
        cell.
        """
        chosen, each = cells.flatten(), (*cells.shape, 1)
        down = self.row_of.index_select(0, chosen).reshape(each) - self.rows  # (N, G, rows)
        across = self.column_of.index_select(0, chosen).reshape(each) - self.columns
        squared = (down * down)[:, :, :, None] + (across * across)[:, :, None, :]
        return squared.flatten(2)  # (N, G, rows, columns) -> (N, G, P)


def nearest_points(distances: Tensor, valid: Tensor, count: int) -> Tensor:
    """Numbers of the `count` nearest valid points.

    distances: (N, G, P) squared, below FAR. valid: (N, P), 0 or 1. Returns: (N, G, count) int64;
    where there are fewer valid points than `count`, others follow.
    """
    pushed = distances + FAR * (1 - valid)[:, None, :]  # (N, G, P)
    at_once = max(1, MOST_SORTED // pushed.shape[2])
    parts = [
        part.topk(count, dim=2, largest=False).indices
        for part in torch.split(pushed, at_once, dim=1)
    ]
    return torch.cat(parts, dim=1)


def relative_groups(points: Tensor, valid: Tensor, centers: Tensor, members: Tensor) -> Tensor:
    """Members of every group relative to its center.

    points: (N, P, 3). valid: (N, P). centers: (N, G, 3). members: (N, G, K) numbers of points.
    Returns: (N, G, K, 3); a member that is no valid point becomes the center itself, which changes
    no maximum.
    """
    known = torch.cat([points, valid[:, :, None]], dim=2)  # (N, P, 4)
    taken = gather_points(known, members.flatten(1)).reshape(*members.shape, 4)  # (N, G, K, 4)
    return (taken[..., :3] - centers[:, :, None, :]) * taken[..., 3:]


def gather_points(points: Tensor, numbers: Tensor) -> Tensor:
    """Rows (N, M, C) of points (N, P, C) by their numbers (N, M)."""
    return points.gather(1, numbers[:, :, None].expand(-1, -1, points.shape[2]))
