"""The point features of M3DM (Wang et al., CVPR 2023): a depth image to Point-MAE features on the
grid of the color features.

Points of the part, centers among them, the nearest points of each as a group, Point-MAE's encoder,
and PFA back to a grid. Three decisions (docs/systems/m3dm.md):

- Scale. Point-MAE scales each object into the unit sphere. One length for a product, measured on
  its training parts, lets a part that is too large look too large. Heights are relative to the
  product's mean height, not to the part's own.
- Relief (compact). Within a group of a flat part points differ by centimeters along the plane and
  by tenths of a millimeter in height. Unscaled, the tokenizer sees the grid, and Chamfer's distance
  hardly a dent. So heights are scaled until, inside the groups of normal parts, they deviate as
  much as the points do along the plane.
- Averaging (compact). A defect may be only a few sigma of the depth noise high. So a point is the
  mean of several cells of the depth image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import ConfigError
from trainer.graph.prepared import Prepared
from trainer.systems.m3dm.centers import CurvePoints, farthest_points
from trainer.systems.m3dm.groups import GridDistance, gather_points, nearest_points, relative_groups
from trainer.systems.m3dm.pfa import PointFeatureAlignment
from trainer.systems.m3dm.pointmae import PointTransformer
from trainer.systems.m3dm.points import PointCloud

Centers = Literal["curve", "farthest"]
# heights that deviate less are not stretched further: float32 depth is good to 1e-7 m
LEAST_DEVIATION_M = 2e-4
MOST_DISTANCES = 1 << 25  # at once while measuring and grouping: 128 MiB


@dataclass(frozen=True)
class PointSpec:
    """Sizes of the point side.

    depth_side: long side of the depth image, cells; depth_multiple: both its sides are multiples of
    that. reduce, trim: see PointCloud. groups, group_size: how many groups of how many points.
    tokenizer: widths of the mini-PointNet.
    width, depth, heads: of the transformer. taps: blocks whose outputs are features, 0 for the
    tokens themselves.
    relief: scale heights to the deviation along the plane. centers: see
    trainer.systems.m3dm.centers; only the curve runs on the device.
    """

    depth_side: int
    depth_multiple: int
    reduce: int
    trim: int
    groups: int
    group_size: int
    tokenizer: tuple[int, int, int]
    width: int
    depth: int
    heads: int
    taps: tuple[int, ...]
    relief: bool
    centers: Centers

    @property
    def channels(self) -> int:
        """Of the features."""
        return len(self.taps) * self.width


# M3DM's: 1024 groups of 128 of the 224 x 224 points, and the published Point-MAE; but with centers
# that the device can find.
PAPER_POINTS = PointSpec(
    224, 28, 1, 1, 1024, 128, (128, 256, 512), 384, 12, 6, (4, 8, 12), False, "curve"
)
COMPACT_POINTS = PointSpec(128, 16, 4, 3, 128, 16, (32, 64, 128), 96, 4, 3, (2, 4), True, "curve")


class DepthImages(NamedTuple):
    """What point features are computed from, of N images.

    height, foreground: (N, 1, hd, wd). intrinsics, plane: (N, 4).
    """

    height: Tensor
    foreground: Tensor
    intrinsics: Tensor
    plane: Tensor

    @classmethod
    def of(
        cls,
        height: Tensor | None,
        foreground: Tensor,
        intrinsics: Tensor | None,
        plane: Tensor | None,
    ) -> DepthImages:
        """Of images that may have no depth. Raises: ConfigError if they have none."""
        if height is None or intrinsics is None or plane is None:
            raise ConfigError(
                "point features need depth: train with --depth on a product that has it"
            )
        return cls(height, foreground, intrinsics, plane)


class Groups(NamedTuple):
    """Groups of N parts: members (N, G, K, 3) relative to centers (N, G, 3), and the centers' cells
    (N, G) int64.
    """

    members: Tensor
    centers: Tensor
    cells: Tensor


class PointFeatures(nn.Module):
    """Prepared images to point features on the color grid.

    size_px: (H, W) of the crop. depth_grid: (hd, wd) of the prepared height image. grid: (h, w) of
    the features.
    Raises: ConfigError if the three do not divide into each other.
    """

    length: Tensor
    level: Tensor
    relief: Tensor

    def __init__(
        self,
        spec: PointSpec,
        size_px: tuple[int, int],
        depth_grid: tuple[int, int],
        grid: tuple[int, int],
    ) -> None:
        super().__init__()
        if any(
            fine % (spec.reduce * coarse) for fine, coarse in zip(depth_grid, grid, strict=True)
        ):
            raise ConfigError(
                f"a depth image of {depth_grid[1]}x{depth_grid[0]} cells, {spec.reduce} to a point,"
                f" does not divide into a feature grid of {grid[1]}x{grid[0]}: choose sizes that do"
            )
        self.spec = spec
        self.cloud = PointCloud(size_px, depth_grid, spec.reduce, spec.trim)
        self.curve = CurvePoints(self.cloud.grid, spec.groups)
        self.distance = GridDistance(self.cloud.grid)
        self.transformer = PointTransformer(
            spec.tokenizer, spec.width, spec.depth, spec.heads, spec.taps
        )
        self.align = PointFeatureAlignment(self.cloud.grid, grid)
        self.register_buffer("length", torch.ones(()))
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("relief", torch.ones(()))

    def forward(self, prepared: Prepared) -> Tensor:
        """Prepared images with depth -> (N, channels, h, w), 0 outside the foreground."""
        images = depth_of(prepared)
        groups = self.grouped(*images)
        features = self.transformer(groups.members, groups.centers)  # (N, G, channels)
        weight = functional.avg_pool2d(images.foreground, self.spec.reduce)  # (N, 1, rows, cols)
        return cast(Tensor, self.align(features, self.distance(groups.cells), weight))

    def grouped(
        self, height: Tensor, foreground: Tensor, intrinsics: Tensor, plane: Tensor
    ) -> Groups:
        """Groups in the product's own scale, in which a normal part has radius 1.

        Arguments as DepthImages.
        """
        points, valid = self.cloud(height, foreground, intrinsics, plane)  # (N, P, 3), (N, P)
        scaled = (points - self.level * _upwards(points)) / self.length * valid[:, :, None]
        return self._divided(scaled, valid, self.relief)

    def _divided(self, points: Tensor, valid: Tensor, relief: Tensor) -> Groups:
        """Points (N, P, 3) and valid (N, P) to groups, with heights times relief."""
        cells = (
            self.curve(valid)
            if self.spec.centers == "curve"
            else farthest_points(points, valid, self.spec.groups)
        )  # (N, G)
        points = points * (1 + (relief - 1) * _upwards(points))
        members = nearest_points(self.distance(cells), valid, self.spec.group_size)  # (N, G, K)
        centers = gather_points(points, cells)  # (N, G, 3)
        return Groups(relative_groups(points, valid, centers, members), centers, cells)

    @torch.no_grad()
    def fit_scales(self, images: DepthImages) -> None:
        """Set length, level and relief to those of a product's normal parts, given on any
        device.
        """
        clouds = [self.cloud(*part) for part in self.split(images)]
        points, valid = (torch.cat(column) for column in zip(*clouds, strict=True))
        along = points[:, :, :2]  # (N, P, 2)
        self.length.copy_((along * along).sum(dim=2).amax(dim=1).sqrt().mean().clamp(min=1e-6))
        self.level.copy_((points[:, :, 2] * valid).sum() / valid.sum().clamp(min=1))
        if self.spec.relief:
            plain = torch.ones_like(self.relief)
            members = torch.cat(
                [self._divided(points, valid, plain).members for points, valid in clouds]
            )
            self.relief.copy_(
                members[..., :2].std() / members[..., 2].std().clamp(min=LEAST_DEVIATION_M)
            )

    @torch.no_grad()
    def all_groups(self, images: DepthImages) -> Groups:
        """As `grouped`, of more images than fit into memory at once, on any device."""
        parts = [self.grouped(*part) for part in self.split(images)]
        return Groups(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def split(self, images: DepthImages) -> Iterator[DepthImages]:
        """The images, a few at a time, on this module's device."""
        distances = self.cloud.grid[0] * self.cloud.grid[1] * self.spec.groups  # of one image
        at_once = max(1, MOST_DISTANCES // distances)
        for part in zip(*(torch.split(tensor, at_once) for tensor in images), strict=True):
            yield DepthImages(*(tensor.to(self.length.device) for tensor in part))


def depth_of(prepared: Prepared) -> DepthImages:
    """What point features are computed from. Raises: ConfigError for color-only images."""
    return DepthImages.of(prepared.height, prepared.foreground, prepared.intrinsics, prepared.plane)


def _upwards(points: Tensor) -> Tensor:
    """(0, 0, 1), to change heights alone."""
    return torch.tensor([0.0, 0.0, 1.0], dtype=points.dtype, device=points.device)
