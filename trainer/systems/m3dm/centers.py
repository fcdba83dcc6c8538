"""Where the groups of a point cloud lie: by farthest point sampling, or by equal steps along a
curve over the grid.

Farthest point sampling (Qi et al., PointNet++, 2017), which Point-MAE and M3DM use, picks one point
after the other: a long chain of tiny steps, which is not exported. On an organized grid equal steps
along a space-filling curve through the foreground spread the centers by construction, in a few
parallel operations, and always the same number of them (docs/systems/m3dm.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# (g + 1/2) n + 1/4 is never a multiple of G: no rounding can turn a rank into the next
BETWEEN = 0.25
NOWHERE = -1.0  # below any squared distance: the background is never the farthest


def farthest_points(points: Tensor, foreground: Tensor, count: int) -> Tensor:
    """Each next point is the one farthest from all before it; the first the one farthest from the
    origin.

    Of equally far points the one with the lowest number is taken. Where there are fewer points than
    `count`, those after the last are repeats.

    Args:
        points: (N, P, 3). foreground: (N, P), 0 or 1.
        count: how many to choose.
    Returns: (N, count) int64 numbers of points, of the foreground where there is any.
    """
    # (N, P), to the nearest chosen point; before the first, to the origin
    nearest = (points * points).sum(dim=2)
    chosen: list[Tensor] = []
    for _ in range(count):
        candidates = torch.where(foreground > 0, nearest, torch.full_like(nearest, NOWHERE))
        index = candidates.argmax(dim=1)  # (N,)
        difference = points - points.gather(1, index[:, None, None].expand(-1, 1, 3))  # (N, P, 3)
        squared = (difference * difference).sum(dim=2)  # (N, P)
        nearest = torch.minimum(nearest, squared) if chosen else squared
        chosen.append(index)
    return torch.stack(chosen, dim=1)


class CurvePoints(nn.Module):
    """Equal steps along a Hilbert curve over the foreground cells of a grid.

    With n foreground cells, center g of G is the cell of rank floor((g + 1/2) n / G) along the
    curve: the G stretches of equal length get one center each, and for n < G cells repeat. An
    empty foreground gives the last cell of the curve, G times.
    """

    order: Tensor
    steps: Tensor
    within: Tensor
    before: Tensor

    def __init__(self, grid: tuple[int, int], count: int) -> None:
        super().__init__()
        cells = grid[0] * grid[1]
        self.row = _row_length(cells)
        rows = cells // self.row
        self.register_buffer("order", hilbert_order(grid), persistent=False)
        self.count = count
        self.register_buffer(
            "steps", torch.arange(count, dtype=torch.float32) + 0.5, persistent=False
        )
        # Prefix sums by two products, because TensorRT runs CumSum as a loop.
        self.register_buffer("within", torch.ones(self.row, self.row).triu(), persistent=False)
        self.register_buffer("before", torch.ones(rows, rows).tril(-1), persistent=False)

    def forward(self, foreground: Tensor) -> Tensor:
        """(N, P) float 0 or 1, row by row -> (N, count) int64 numbers of cells, in the order of the
        curve.
        """
        along = foreground.index_select(1, self.order)  # (N, P), in the order of the curve
        inside = along.reshape(len(along), -1, self.row) @ self.within  # (N, P / row, row)
        before = self.before @ inside[:, :, -1:]  # (N, P / row, 1)
        ranks = (inside + before).flatten(1)  # (N, P), foreground cells up to this one
        passed = ranks[:, None, :] <= self.center_ranks(ranks[:, -1:])[:, :, None]  # (N, G, P)
        place = passed.to(torch.float32).sum(dim=2).clamp(max=ranks.shape[1] - 1)  # (N, G)
        return self.order.index_select(0, place.to(torch.int64).flatten()).reshape(place.shape)

    def center_ranks(self, total: Tensor) -> Tensor:
        """Ranks of the centers along the curve, (N, G), for `total` (N, 1) foreground cells."""
        return (self.steps * total + BETWEEN) / self.count


def _row_length(cells: int) -> int:
    """The divisor of `cells` nearest to its root."""
    return next(length for length in range(int(cells**0.5), 0, -1) if cells % length == 0)


def hilbert_order(grid: tuple[int, int]) -> Tensor:
    """(P,) int64 numbers of a grid's cells, row by row, in the order of Hilbert's curve.

    On a grid that is no square of a power of two: the curve of the smallest such square around it,
    without what lies outside the grid.
    """
    side = 1 << (max(grid) - 1).bit_length()
    step = torch.arange(side * side)
    x, y = torch.zeros_like(step), torch.zeros_like(step)
    scale = 1
    while scale < side:
        right = (step // 2) % 2
        down = (step % 2) ^ right
        flip = (down == 0) & (right == 1)
        x, y = torch.where(flip, scale - 1 - x, x), torch.where(flip, scale - 1 - y, y)
        x, y = torch.where(down == 0, y, x), torch.where(down == 0, x, y)
        x, y = x + scale * right, y + scale * down
        step, scale = step // 4, 2 * scale
    inside = (y < grid[0]) & (x < grid[1])
    return y[inside] * grid[1] + x[inside]
