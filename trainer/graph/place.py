"""Where the foreground lies in the crop, so that a station can tell whether the view holds exactly
one whole part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Place(nn.Module):
    """Centroid and spread of the foreground in pixels, and how much of the view's border it covers.

    size: (H, W) of the crop in pixels. cells: (hd, wd), the cells on which the foreground is
    decided.

    A cell of S pixels stands for pixels spread evenly over it: it lies at their mean, (c + 0.5) S -
    0.5 in 0-based pixel centers, and adds their variance, (S^2 - 1) / 12, to that of the cells, so
    that both estimate what the pixels themselves would give. That holds for a fractional S too.
    Variances are taken about the centroid, never as E[u^2] - E[u]^2, of which float32 keeps too few
    digits.
    """

    u: Tensor  # (wd,) pixels, mean of every column of cells
    v: Tensor  # (hd,) pixels, mean of every row of cells
    ring: Tensor  # (hd, wd) the same weight for every outermost cell, 0 elsewhere, sum 1

    def __init__(self, size: tuple[int, int], cells: tuple[int, int]) -> None:
        super().__init__()
        step_v, step_u = (pixels / count for pixels, count in zip(size, cells, strict=True))
        self.within_u, self.within_v = (step_u**2 - 1) / 12, (step_v**2 - 1) / 12
        ring = torch.ones(cells)
        ring[1:-1, 1:-1] = 0
        self.register_buffer("u", (torch.arange(cells[1]) + 0.5) * step_u - 0.5, persistent=False)
        self.register_buffer("v", (torch.arange(cells[0]) + 0.5) * step_v - 0.5, persistent=False)
        self.register_buffer("ring", ring / ring.sum(), persistent=False)

    def forward(self, covered: Tensor) -> Tensor:
        """Place of a batch.

        The border is the outermost ring of cells, so a part that comes within a cell of the crop's
        edge may count as touching it. Pixels that the region leaves out are no foreground there
        either.

        Args:
            covered: (N, 1, hd, wd) float32, share of every cell's pixels that is foreground, 0..1.
        Returns: (N, 6) float32: centroid u, v (pixels), variance u, v and covariance (square
            pixels), mean of `covered` over the outermost cells. All 0 where nothing is covered.
        """
        total = covered.sum(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1), in cells
        present = (total > 0).to(torch.float32)
        weight = covered / (total + (1.0 - present))  # sum 1, or 0 throughout
        columns, rows = weight.sum(dim=2), weight.sum(dim=3)  # (N, 1, wd), (N, 1, hd)
        center_u, center_v = (
            (part * at).sum(dim=2) for part, at in ((columns, self.u), (rows, self.v))
        )  # (N, 1)
        from_u, from_v = self.u - center_u.unsqueeze(2), self.v - center_v.unsqueeze(2)
        # the smaller a cell is than a pixel, the more is taken off: a single cell would come out
        # below 0
        spread_u = (
            (columns * from_u * from_u).sum(dim=2) + self.within_u * present[:, :, 0, 0]
        ).clamp(min=0.0)
        spread_v = (
            (rows * from_v * from_v).sum(dim=2) + self.within_v * present[:, :, 0, 0]
        ).clamp(min=0.0)
        along_u = (weight * from_u.unsqueeze(2)).sum(dim=3)  # (N, 1, hd)
        both = (along_u * from_v).sum(dim=2)
        border = (covered * self.ring).sum(dim=(2, 3))
        return torch.cat([center_u, center_v, spread_u, spread_v, both, border], dim=1)
