"""What both distillation systems compare: levels of a frozen backbone, with the depth's beside
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from trainer.graph.prepared import Prepared
from trainer.layers.backbone import BackboneSpec, build_trunk
from trainer.layers.height import HeightEncoder
from trainer.layers.unshuffle import pixel_unshuffle
from trainer.systems.common.foreground import cell_mask, rows_of
from trainer.systems.common.views import Views
from trainer.systems.seam import BuildRequest

DEPTH_SHARE = 0.05  # energy of a normal part's depth features beside its color features'
# Of depth features, in root mean squares of normal parts: clipped, beyond this they carry no
# information.
DEPTH_BOUND = 8.0


class LevelFeatures(nn.Module):
    """Frozen features at three levels, each scaled to a mean square of 1 over the training
    foreground.

    With depth, the amplified depth image (trainer.layers.height) is unshuffled to every level's
    grid and joins its channels with DEPTH_SHARE of their energy. The cosine between two such
    features weighs both modalities.

    Args:
        spec: of the backbone. request: sizes and weights. depth: whether depth joins.
    """

    def __init__(self, spec: BackboneSpec, request: BuildRequest, depth: bool) -> None:
        super().__init__()
        height, width = request.sizes.color
        self.trunk = build_trunk(spec, request.weights, random=request.random_backbone)
        self.grids = [(height // stride, width // stride) for stride in spec.strides]
        self.encoder: HeightEncoder | None = None
        self.folds: list[int] = []
        if depth and request.sizes.depth is not None:
            self.encoder = HeightEncoder(finer=height // request.sizes.depth[0])
            self.folds = [request.sizes.depth[0] // rows for rows, _ in self.grids]
        extra = [fold**2 + (fold // 2) ** 2 for fold in self.folds] or [0] * len(self.grids)
        self.channels = [own + more for own, more in zip(spec.channels, extra, strict=True)]
        self.raw_channels = [*spec.channels, *(more for more in extra if more)]
        for level, (own, more) in enumerate(zip(spec.channels, extra, strict=True)):
            self.register_buffer(f"mean_{level}", torch.zeros(own))
            self.register_buffer(f"gain_{level}", torch.ones(own))
            self.register_buffer(f"depth_gain_{level}", torch.ones(more))

    def forward(self, prepared: Prepared) -> list[Tensor]:
        """Prepared batch -> (N, C, h, w) of every level, finest first."""
        return self.scaled(self.raw(prepared))

    def raw(self, prepared: Prepared) -> list[Tensor]:
        """Prepared batch -> the raw levels (N, C, h, w) of color, finest first, then, where depth
        joins, those of depth; raw_channels has the C of each.
        """
        return self.side_by_side(self.trunk(prepared.color), self.depth_maps(prepared))

    def raw_masks(self, masks: Sequence[Tensor]) -> list[Tensor]:
        """Masks of every level -> one for each of the raw levels."""
        return [*masks, *masks][: len(self.raw_channels)]

    def depth_maps(self, prepared: Prepared) -> tuple[Tensor, Tensor] | None:
        """The amplified depth image (N, 1, hd, wd) and its tint at half its size; None where depth
        does not join.
        """
        if self.encoder is None or prepared.height is None:
            return None
        return cast(
            tuple[Tensor, Tensor],
            self.encoder(prepared.height, prepared.foreground, prepared.color),
        )

    @torch.no_grad()
    def depth_maps_of(self, views: Views, device: str) -> tuple[Tensor, Tensor]:
        """The amplified depth images of all views and their tints, on the CPU."""
        maps = [self.depth_maps(views.prepared(batch, device)) for batch in views.batches()]
        relief, tint = zip(*(pair for pair in maps if pair is not None), strict=True)
        return torch.cat(relief).cpu(), torch.cat(tint).cpu()

    def joined(self, colors: Sequence[Tensor], depth: tuple[Tensor, Tensor] | None) -> list[Tensor]:
        """Scaled levels of raw color levels and, where depth joins, the amplified depth image."""
        return self.scaled(self.side_by_side(colors, depth))

    def side_by_side(
        self, colors: Sequence[Tensor], depth: tuple[Tensor, Tensor] | None
    ) -> list[Tensor]:
        """Raw levels of color, then, where depth joins, those of the amplified depth image."""
        if depth is None:
            return list(colors)
        return [*colors, *(self.folded(level, depth) for level in range(len(colors)))]

    def scaled(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Raw levels, as `raw` gives them, scaled, with the depth of each level beside its
        color.
        """
        count, apart = len(self.grids), self.apart(raw)
        if len(raw) == count:
            return apart
        pairs = zip(apart[:count], apart[count:], strict=True)
        return [
            torch.cat([color, depth * self._depth_weight(level, color)], dim=1)
            for level, (color, depth) in enumerate(pairs)  # (N, own, h, w) and (N, more, h, w)
        ]

    def apart(self, raw: Sequence[Tensor]) -> list[Tensor]:
        """Raw levels, as `raw` gives them: those of color scaled, those of depth clipped, -1 to 1
        being DEPTH_BOUND root mean squares of normal parts.
        """
        count = len(self.grids)
        scales = [self._scales(level) for level in range(count)]
        colors = [
            (color - mean.view(1, -1, 1, 1)) * gain.view(1, -1, 1, 1)  # (N, own, h, w)
            for color, (mean, gain, _) in zip(raw[:count], scales, strict=True)
        ]
        depths = [
            (depth / (DEPTH_BOUND * gain.view(1, -1, 1, 1)).clamp(min=1e-12)).clamp(-1, 1)
            for depth, (_, _, gain) in zip(raw[count:], scales, strict=False)  # (N, more, h, w)
        ]
        return [*colors, *depths]

    def folded(self, level: int, depth: tuple[Tensor, Tensor]) -> Tensor:
        """Relief and tint, unshuffled to the grid of a level: (N, more, h, w)."""
        (relief, tint), fold = depth, self.folds[level]
        if fold > 2:  # the tint has half the relief's size: at 2 it has the grid's
            tint = pixel_unshuffle(tint, fold // 2)  # (N, (fold / 2)^2, h, w)
        return torch.cat([pixel_unshuffle(relief, fold), tint], dim=1)

    def _depth_weight(self, level: int, color: Tensor) -> float:
        """What a depth feature at its bound counts: all together have DEPTH_SHARE of color's energy
        at 1 / bound.
        """
        more = self.channels[level] - color.shape[1]
        return DEPTH_BOUND * math.sqrt(DEPTH_SHARE * color.shape[1] / more)

    def _scales(self, level: int) -> tuple[Tensor, Tensor, Tensor]:
        return cast(
            tuple[Tensor, Tensor, Tensor],
            tuple(getattr(self, f"{name}_{level}") for name in ("mean", "gain", "depth_gain")),
        )

    @torch.no_grad()
    def fit_scales(
        self,
        level: int,
        color: Tensor,
        depth: tuple[Tensor, Tensor] | None,
        mask: Tensor,
        *,
        standardized: bool,
    ) -> None:
        """Take the scales of one level from normal images.

        Args:
            color: (N, C, h, w) raw. depth: as depth_maps gives it. mask: (N, 1, h, w) foreground.
            standardized: each channel to mean 0 and deviation 1; else one factor for all of them.
        """
        mean, gain, _ = self._scales(level)
        rows = rows_of(color, mask).double()
        if standardized:
            mean.copy_(rows.mean(dim=0))
            gain.copy_((rows.var(dim=0, correction=0) + 1e-12).rsqrt())
        else:
            gain.fill_(float((rows.square().mean() + 1e-12).rsqrt()))
        if depth is not None:
            self.fit_depth_scale(level, depth, mask)

    @torch.no_grad()
    def fit_depth_scale(self, level: int, depth: tuple[Tensor, Tensor], mask: Tensor) -> None:
        """Take the scale of one level's depth features; arguments as of fit_scales."""
        _, _, depth_gain = self._scales(level)
        rows = rows_of(self.folded(level, depth), mask).double()
        depth_gain.copy_((rows.square().mean(dim=0) + 1e-12).sqrt())

    def masks(self, foreground: Tensor) -> list[Tensor]:
        """Cells of every level with any foreground, (N, 1, h, w), 0 or 1."""
        return [cell_mask(foreground, rows) for rows, _ in self.grids]
