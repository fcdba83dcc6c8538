"""The depth side of M3DM: Point-MAE's features, and beside them the amplified depth image."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from trainer.graph.prepared import Prepared
from trainer.layers.height import HeightEncoder
from trainer.layers.unshuffle import pixel_unshuffle
from trainer.systems.m3dm.point_features import PointFeatures

# of the amplified depth image, in root mean squares of normal parts: clipped, because beyond this
# distance it carries no information
RELIEF_BOUND = 30.0
EPSILON = 1e-12  # of a mean square: the scale of channels that are 0 everywhere stays finite


class RawDepth(NamedTuple):
    """Unscaled: Point-MAE's features (N, Cp, h, w), and the unshuffled amplified depth image
    (N, Cr, h, w), None where it does not join.
    """

    points: Tensor
    relief: Tensor | None

    def of(self, part: slice, like: Tensor) -> RawDepth:
        """These images, in the type and on the device of another tensor."""
        relief = None if self.relief is None else self.relief[part].to(like)
        return RawDepth(self.points[part].to(like), relief)


class DepthSide(nn.Module):
    """Point-MAE's features on the color features' grid and, if `encoder` is given, the amplified
    depth image (trainer.layers.height) unshuffled to that grid.

    Point-MAE's features are scaled by one number to a mean square of 1. The amplified depth image
    is scaled channel by channel, and clipped at RELIEF_BOUND.

    Args:
        depth_rows: of the prepared height image. grid_rows: of the color features.
    """

    gain: Tensor
    relief_gain: Tensor

    def __init__(
        self,
        features: PointFeatures,
        encoder: HeightEncoder | None,
        depth_rows: int,
        grid_rows: int,
    ) -> None:
        super().__init__()
        self.features, self.encoder = features, encoder
        self.block = depth_rows // grid_rows
        relief = 0 if encoder is None else self.block**2 + (self.block // 2) ** 2
        self.channels = features.spec.channels + relief
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("relief_gain", torch.ones(relief))

    def forward(self, prepared: Prepared) -> Tensor:
        """Prepared batch with depth -> (N, C, h, w)."""
        return self.scaled(self.raw(prepared))

    def raw(self, prepared: Prepared) -> RawDepth:
        """Both parts, unscaled."""
        points = cast(Tensor, self.features(prepared))  # (N, Cp, h, w)
        if self.encoder is None or prepared.height is None:
            return RawDepth(points, None)
        relief, tint = self.encoder(prepared.height, prepared.foreground, prepared.color)
        folded = [
            pixel_unshuffle(relief, self.block),  # (N, block^2, h, w)
            pixel_unshuffle(tint, self.block // 2),  # (N, (block / 2)^2, h, w)
        ]
        return RawDepth(points, torch.cat(folded, dim=1))

    def scaled(self, raw: RawDepth) -> Tensor:
        """Both parts scaled and side by side, (N, C, h, w)."""
        points = raw.points * self.gain
        if raw.relief is None:
            return points
        relief = raw.relief * self.relief_gain.reshape(1, -1, 1, 1)
        return torch.cat([points, relief.clamp(-RELIEF_BOUND, RELIEF_BOUND)], dim=1)

    @torch.no_grad()
    def fit_scales(self, points: Tensor, relief: Tensor | None) -> None:
        """Set the scales to those of unscaled rows (M, Cp) and (M, Cr) of normal positions."""
        self.gain.fill_(float((points.double().square().mean() + EPSILON).rsqrt()))
        if relief is not None:
            self.relief_gain.copy_((relief.double().square().mean(dim=0) + EPSILON).rsqrt())
