"""An organized depth image as points, in a frame whose third axis is the height over the background
plane.

Every cell of the prepared height image is one point. M3DM (Wang et al., CVPR 2023) takes the
sensor's organized points after RANSAC has removed their plane; here they follow from the height
over the plane, which is an input of the graph.

The frame is the camera's, rotated until the plane's normal is its third axis. The camera's own (X,
Y) beside the height would need no rotation, but they are sheared where the camera looks at an
angle: lengths would depend on the direction, and a part would change its shape with the tilt of the
camera. The rotation costs two products a point.

Cells along the part's outline are left out. A cell there averages part and background, and a stereo
camera blurs the step as well: its height is anything in between. Such points are rarer than all
others, so that a bank of normal features would find outlines abnormal and little else
(docs/systems/m3dm.md).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

# of a ray along the plane's normal per meter of depth: a ray that never meets it has none
LEAST_ALONG = 1e-3
LEAST_TURN = 1e-3  # of the normal across the camera's x axis: a plane seen edge-on has none
# a share of cells that means every one of them, a hair below one for the rounding of an average
ALL = 0.999
ANY = 1e-4


class OrganizedPoints(nn.Module):
    """Heights over the plane to points in meters.

    size_px: (H, W) of the crop that intrinsics and plane are given for. grid: (hd, wd) of the
    height image; each cell covers H / hd x W / wd pixels, and its point lies on the ray through its
    middle.
    """

    u: Tensor
    v: Tensor

    def __init__(self, size_px: tuple[int, int], grid: tuple[int, int]) -> None:
        super().__init__()
        v, u = (
            (torch.arange(cells) + 0.5) * (px / cells) - 0.5
            for px, cells in zip(size_px, grid, strict=True)
        )
        self.register_buffer("u", u, persistent=False)  # (wd,) pixel centers
        self.register_buffer("v", v[:, None], persistent=False)  # (hd, 1)

    def forward(self, height: Tensor, intrinsics: Tensor, plane: Tensor) -> Tensor:
        """Points of all cells, whatever they show.

        Args:
            height: (N, 1, hd, wd) meters over the plane. intrinsics: (N, 4) fx, fy, cx, cy. plane:
                (N, 4).
        Returns: (N, 3, hd, wd) meters: along the camera's x axis within the plane, across it, and
            the height. The origin is the foot of the camera's center on the plane.
        """
        fx, fy, cx, cy = intrinsics.reshape(-1, 4, 1, 1, 1).unbind(1)
        alpha, beta, gamma, delta = plane.reshape(-1, 4, 1, 1, 1).unbind(1)
        below = delta - height  # (N, 1, hd, wd), n . P
        z = below / (alpha * self.u + beta * self.v + gamma).clamp(min=LEAST_ALONG)
        x, y = (self.u - cx) * z / fx, (self.v - cy) * z / fy
        # The plane's unit normal n, from the definition of alpha, beta and gamma (edge.geometry).
        # The axes within the plane are e1 = (x - n_x n) / s and e2 = n x e1 = (0, n_z, -n_y) / s,
        # with s = |(n_y, n_z)|.
        nx, ny, nz = alpha * fx, beta * fy, gamma + alpha * cx + beta * cy
        inverse = 1 / (ny * ny + nz * nz).sqrt().clamp(min=LEAST_TURN)
        return torch.cat([(x - nx * below) * inverse, (nz * y - ny * z) * inverse, height], dim=1)


class PointCloud(nn.Module):
    """The part's points, fewer and steadier than the height image's cells.

    size_px, grid: as OrganizedPoints. reduce: cells of the height image that make one point, along
    each axis; it is their mean, which divides the sensor's noise. trim: cells left out along the
    part's outline.
    """

    def __init__(
        self, size_px: tuple[int, int], grid: tuple[int, int], reduce: int, trim: int
    ) -> None:
        super().__init__()
        self.organized = OrganizedPoints(size_px, grid)
        self.reduce, self.trim = reduce, trim
        self.grid = (grid[0] // reduce, grid[1] // reduce)

    def forward(
        self, height: Tensor, foreground: Tensor, intrinsics: Tensor, plane: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Points around the middle of the part.

        Args:
            height, foreground: (N, 1, hd, wd). intrinsics, plane: (N, 4).
        Returns: points (N, P, 3) meters, P = hd wd / reduce^2, row by row, the first two
            coordinates relative to their mean over the part; and valid (N, P), 1 for a point of the
            part, 0 for a cell without one, which lies at the origin.
        """
        inner = self.inner(foreground)  # (N, 1, hd, wd)
        share = functional.avg_pool2d(inner, self.reduce)
        organized = cast(Tensor, self.organized(height, intrinsics, plane))
        points = functional.avg_pool2d(organized * inner, self.reduce) / share.clamp(min=ANY)
        points, valid = points.flatten(2), (share > ANY).to(torch.float32).flatten(2)  # (N, 3, P)
        count = valid.sum(dim=2, keepdim=True).clamp(min=1.0)  # (N, 1, 1)
        middle = (points[:, :2] * valid).sum(dim=2, keepdim=True) / count  # (N, 2, 1)
        centered = torch.cat([points[:, :2] - middle, points[:, 2:]], dim=1) * valid
        return centered.transpose(1, 2), valid[:, 0]

    def inner(self, foreground: Tensor) -> Tensor:
        """(N, 1, hd, wd) -> the same without `trim` cells along every outline but the image's
        own.
        """
        outside = 1 - foreground
        if self.trim:
            outside = functional.max_pool2d(outside, 2 * self.trim + 1, stride=1, padding=self.trim)
        return 1 - outside
