"""Distances on a feature grid to the anomaly map: the last layer of every system that compares
features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class AnomalyMap(nn.Module):
    """Distances on the feature grid to a smooth map: masked bilinear upsampling and a Gaussian.

    Cells outside the foreground have never been trained and would bleed into the part's rim, so
    both steps are averages weighted with the foreground: up(d m) / up(m). Written as two products
    with constant matrices, rows and columns.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: tuple[int, int], map_size: tuple[int, int], blur: float) -> None:
        super().__init__()
        self.register_buffer("rows", _upsample_matrix(grid[0], map_size[0], blur), persistent=False)
        self.register_buffer(
            "columns", _upsample_matrix(grid[1], map_size[1], blur), persistent=False
        )

    def forward(self, distance: Tensor, mask: Tensor) -> Tensor:
        """(N, 1, h, w) distances and mask on the grid -> (N, 1, H, W)."""
        both = torch.cat([distance * mask, mask], dim=1)  # (N, 2, h, w)
        spread = self.rows @ (both @ self.columns.T)  # (N, 2, H, W)
        return spread[:, :1] / spread[:, 1:].clamp(min=1e-3)


def _upsample_matrix(size_in: int, size_out: int, blur: float) -> Tensor:
    """(size_out, size_in).

    Bilinear interpolation (half-pixel centers), then a Gaussian of `blur` output cells; rows sum to
    1.
    """
    unit = torch.eye(size_in, dtype=torch.float64)[None]  # one unit impulse a row
    matrix = functional.interpolate(unit, size=size_out, mode="linear", align_corners=False)[0].T
    if blur > 0:
        steps = torch.arange(size_out, dtype=torch.float64)
        kernel = torch.exp(-0.5 * ((steps[:, None] - steps[None, :]) / blur) ** 2)
        matrix = kernel / kernel.sum(dim=1, keepdim=True) @ matrix
    return matrix.float()
