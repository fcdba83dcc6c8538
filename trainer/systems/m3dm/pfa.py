"""Point feature alignment (PFA) of M3DM, section 3.2: features of groups to the grid of the color
features.

Every point of the part takes the features of its three nearest centers, weighted by the inverse
squared distance, as in M3DM's published code; the points are projected to the image, and pooled
over the cells of the color features. Here points are organized: a point's cell is its projection,
so nothing is left to project, and distances are measured in the image (trainer.systems.m3dm.groups
says why). Interpolation and pooling are both linear: they become one matrix (cells of the color
grid x groups), and no feature is ever computed for a single point.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.systems.m3dm.groups import MOST_SORTED

NEAREST = 3
SOFTEN = 1e-3  # added to squared distances: no division by 0 at a center
TIE = 1 + 1e-5  # rounding must not exclude the third center
LEAST_SHARE = 1e-4  # of a cell covered by the part


class PointFeatureAlignment(nn.Module):
    """Features of groups to a coarser grid.

    grid: (rows, columns) of the points. size: (h, w) of the color features, a divisor of the grid.
    """

    def __init__(self, grid: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.grid, self.window = grid, (grid[0] // size[0], grid[1] // size[1])

    def forward(self, features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
        """Align.

        Args:
            features: (N, G, C) of every group. distances: (N, G, P) squared, from its center to
                every point.
            weight: (N, 1, rows, columns) share of each point's cell that belongs to the part.
        Returns: (N, C, h, w), the weighted mean over each cell, 0 where there is no part.
        """
        count, groups, _ = distances.shape
        weights = interpolation(distances).reshape(count, groups, *self.grid)  # (N, G, rows, cols)
        shares = self.pooled(weights * weight)  # (N, G, h, w)
        shares = shares / self.pooled(weight).clamp(min=LEAST_SHARE)
        aligned = features.transpose(1, 2) @ shares.flatten(2)  # (N, C, h w)
        return aligned.reshape(count, -1, *shares.shape[2:])  # (N, C, h, w)

    def pooled(self, image: Tensor) -> Tensor:
        """(N, C, rows, columns) -> (N, C, h, w)."""
        return functional.avg_pool2d(image, self.window)


def interpolation(distances: Tensor) -> Tensor:
    """(N, G, P) squared distances -> (N, G, P) weights that sum to one over the groups, 0 but for
    the NEAREST.
    """
    at_once = max(1, MOST_SORTED // distances.shape[1])
    nearest = [
        part.topk(NEAREST, dim=1, largest=False).values
        for part in torch.split(distances, at_once, dim=2)
    ]
    furthest = torch.cat(nearest, dim=2)[:, NEAREST - 1 :]  # (N, 1, P)
    near = (distances <= furthest * TIE).to(distances.dtype) / (distances + SOFTEN)  # (N, G, P)
    weights: Tensor = near / near.sum(dim=1, keepdim=True)
    return weights
