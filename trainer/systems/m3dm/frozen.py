"""The features that M3DM's banks are made of: those of every training view, computed once.

They depend on the depth encoder and on Point-MAE, which are trained first. `FrozenFeatures.compute`
is called once that is done; what comes after reads its result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.systems.common.foreground import rows_of
from trainer.systems.common.views import AT_ONCE, Views
from trainer.systems.m3dm.depth_side import DepthSide, RawDepth
from trainer.systems.m3dm.detector import M3dmDetector
from trainer.systems.m3dm.point_features import DepthImages

BANKED = 2  # views of an image that the banks are made of: as it is, and once augmented


def split_views(count: int, copies: int) -> tuple[Tensor, Tensor]:
    """Numbers of the views that the banks are made of, and of the others, which no bank has seen.

    count: of all views; each image is followed by its `copies` augmented ones.
    """
    numbers = torch.arange(count)
    banked = numbers % (1 + copies) < BANKED
    return numbers[banked], numbers[~banked]


def depth_images(normal: Views) -> DepthImages:
    """What point features are computed from, of all normal views.

    Raises: ConfigError for color-only views.
    """
    return DepthImages.of(normal.height, normal.foreground.float(), normal.intrinsics, normal.plane)


@dataclass(frozen=True)
class ViewFeatures:
    """A detector's features of n views, on the CPU, and the positions that count.

    features: (n, C, h, w) float16. mask: (n, 1, h, w), 0 or 1.
    """

    detector: M3dmDetector
    features: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.features)

    def of(self, numbers: Tensor, device: str) -> Tensor:
        """Features of these views, (B, C, h, w) float32."""
        return self.features[numbers].to(device, torch.float32)

    @torch.no_grad()
    def rows(self, bank: str, numbers: Tensor, device: str) -> Tensor:
        """What `bank` compares at every position that counts of these views: (M, Cb) float16, on
        the CPU.
        """
        rows = []
        for part in torch.split(numbers, AT_ONCE):
            compared = self.detector.parts(self.of(part, device))[bank]  # (B, Cb, h, w)
            rows.append(rows_of(compared.half().cpu(), self.mask[part]))  # (Mi, Cb)
        return torch.cat(rows)


class FrozenFeatures:
    """Features of the normal views and of those with synthetic anomalies.

    banked, unseen: see split_views. normal_mask: positions that count, of the normal views.
    """

    def __init__(
        self, detector: M3dmDetector, normal: Views, synthetic: Views, copies: int, device: str
    ) -> None:
        self.detector, self.device = detector, device
        self.views = {"normal": normal, "synthetic": synthetic}
        self.banked, self.unseen = split_views(len(normal), copies)
        self.masks = {name: self._mask(views) for name, views in self.views.items()}
        self.computed: dict[str, ViewFeatures] = {}

    @property
    def normal(self) -> ViewFeatures:
        """Of the normal views, once computed."""
        return self.computed["normal"]

    @property
    def synthetic(self) -> ViewFeatures:
        """Of the views with synthetic anomalies, once computed."""
        return self.computed["synthetic"]

    def positions(self) -> int:
        """How many the banks may choose from."""
        return int(self.masks["normal"][self.banked].sum())

    @torch.no_grad()
    def compute(self) -> None:
        """Fit the scales to the banked views, then compute the features of all, once.

        To be called when the depth encoder and Point-MAE have been trained.
        """
        if self.computed:
            return
        self._fit_color_scale()
        side = self.detector.points
        raw: dict[str, RawDepth] = {}
        if side is not None:
            side.features.fit_scales(depth_images(self.views["normal"]))
            raw = {name: self._raw_depth(side, views) for name, views in self.views.items()}
            self._fit_depth_scales(side, raw["normal"])
        for name, views in self.views.items():
            features = self._joined(views, raw.get(name))
            self.computed[name] = ViewFeatures(self.detector, features, self.masks[name])

    def _mask(self, views: Views) -> Tensor:
        masks = [
            self.detector.grid_mask(views.foreground[part].float()) for part in views.batches()
        ]
        return torch.cat(masks)  # (n, 1, h, w)

    def _fit_color_scale(self) -> None:
        """The scale of the color features, over the foreground of the banked views."""
        color, normal = self.detector.color, self.views["normal"]
        total, count = 0.0, 0
        for part in torch.split(self.banked, AT_ONCE):
            joined = color.joined(normal.colors(part, "cpu"))  # (B, C, h, w)
            rows = rows_of(joined, self.masks["normal"][part]).double()  # (M, C)
            total, count = total + float(rows.square().sum()), count + rows.numel()
        color.gain.fill_((count / max(total, 1e-12)) ** 0.5)

    def _raw_depth(self, side: DepthSide, views: Views) -> RawDepth:
        """Unscaled, of all views, float16 on the CPU."""
        raw = [side.raw(views.prepared(part, self.device)) for part in views.batches()]
        relief = [one.relief.half().cpu() for one in raw if one.relief is not None]
        points = torch.cat([one.points.half().cpu() for one in raw])  # (n, Cp, h, w)
        return RawDepth(points, torch.cat(relief) if relief else None)

    def _fit_depth_scales(self, side: DepthSide, raw: RawDepth) -> None:
        """The scales of the depth side, over the foreground of the banked views."""
        mask = self.masks["normal"][self.banked]
        points = rows_of(raw.points[self.banked], mask)  # (M, Cp)
        relief = None if raw.relief is None else rows_of(raw.relief[self.banked], mask)  # (M, Cr)
        side.fit_scales(points, relief)

    def _joined(self, views: Views, raw: RawDepth | None) -> Tensor:
        """The detector's features of all views, (n, C, h, w) float16, on the CPU."""
        side, parts = self.detector.points, []
        for part in views.batches():
            joined = self.detector.color.scaled(views.colors(part, self.device))  # (B, Cc, h, w)
            if side is not None and raw is not None:
                joined = torch.cat([joined, side.scaled(raw.of(part, joined))], dim=1)
            parts.append(joined.half().cpu())  # (B, C, h, w)
        return torch.cat(parts)
