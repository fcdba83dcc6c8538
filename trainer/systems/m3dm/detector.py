"""The detector of M3DM's deployed graph: features, banks, and their fused distances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from edge.errors import ConfigError
from edge.schema import TensorSpec
from trainer.graph.deploy import Answer
from trainer.graph.prepared import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers.adaptation import Adaptation
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.backbone import named_backbone
from trainer.layers.height import HeightEncoder
from trainer.systems.common.foreground import cell_mask
from trainer.systems.common.frame import chosen_switches
from trainer.systems.m3dm.color_features import ColorFeatures
from trainer.systems.m3dm.depth_side import DepthSide
from trainer.systems.m3dm.memory_bank import MemoryBank
from trainer.systems.m3dm.point_features import Centers, PointFeatures
from trainer.systems.m3dm.preset import SWITCHES, M3dmPreset
from trainer.systems.m3dm.reweighting import Reweighted
from trainer.systems.m3dm.uff import FeatureFusion
from trainer.systems.seam import BuildRequest

SPARE = 64  # rows that a station may add
EPSILON = 1e-6  # added to a squared distance: the root's slope at 0 stays finite


class M3dmDetector(nn.Module):
    """Prepared images and site inputs to an Answer.

    `points` and `fusion` are None where no bank needs them. `pretrained`: Point-MAE came from a
    file and is not trained again.

    Raises: ConfigError if the switches leave no bank.
    """

    map_weights: Tensor
    score_weights: Tensor
    has_features = has_moments = True

    def __init__(self, preset: M3dmPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset, self.pretrained = preset, False
        self.switches = chosen_switches(SWITCHES, request)
        spec = named_backbone(request.backbone) if request.backbone else preset.backbone
        self.color = ColorFeatures(spec, preset.pool, request)
        self.has_score = preset.own_score
        self.points = _depth_side(preset, self.switches, request.sizes, self.color.grid)
        self.fusion: FeatureFusion | None = None
        if self.points is not None and self.switches["fused"]:
            self.fusion = FeatureFusion(self.color.channels, self.points.channels, preset.fused)
        self.channels = self.color.channels + (0 if self.points is None else self.points.channels)
        self.adaptation = Adaptation([self.channels])
        judging = self._judging(request.sizes.depth is not None)
        self.banks = nn.ModuleDict({name: MemoryBank(size) for name, size in judging.items()})
        self.register_buffer("map_weights", torch.ones(len(self.banks)))
        self.register_buffer("score_weights", torch.ones(len(self.banks)))
        self.reweighted = Reweighted()
        self.map_size = (preset.map_side, preset.map_side)
        self.to_map = AnomalyMap(self.color.grid, self.map_size, preset.blur)

    def _judging(self, with_depth: bool) -> dict[str, int]:
        """Channels of every bank that judges."""
        channels = {"rgb": self.color.channels}
        if self.points is not None:
            channels["points"] = self.points.channels
        if self.fusion is not None:
            channels["fused"] = self.fusion.channels
        judging = {name: size for name, size in channels.items() if self.switches[name]}
        if not judging:
            possible = "rgb, points, fused" if with_depth else "rgb"
            raise ConfigError(
                f"m3dm: no bank is left of {possible}: switch at least one of them on"
            )
        return judging

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Shift and scale, and the station's own rows, all neutral."""
        return (
            *self.adaptation.inputs,
            TensorSpec(name="spare", dtype="float32", shape=(SPARE, self.channels), default=0.0),
            TensorSpec(name="spare_valid", dtype="float32", shape=(SPARE,), default=0.0),
        )

    def forward(
        self, prepared: Prepared, shift: Tensor, scale: Tensor, spare: Tensor, spare_valid: Tensor
    ) -> Answer:
        """Judge N images.

        Args:
            shift, scale: (C,), of the features, before anything else. spare: (SPARE, C), features
                of the station's own normal parts, shifted and scaled, which every bank then knows.
                spare_valid: (SPARE,), 1 set, 0 not.
        Returns: map, features and their moments before shift and scale, and the score of presets
            that have their own.
        """
        features = self.features(prepared)  # (N, C, h, w)
        mask = self.grid_mask(prepared.foreground)  # (N, 1, h, w)
        (adapted,), moments = self.adaptation([features], [mask], shift, scale)
        parts = self.parts(adapted)
        own = self.parts(spare.T[None, :, :, None])  # (1, Cb, SPARE, 1) of every bank
        squared = {
            name: bank(parts[name], own[name][0, :, :, 0].T, spare_valid)  # (N, 1, h, w)
            for name, bank in self.named_banks()
        }
        answer = Answer(self.to_map(self.fused(squared), mask), features, moments=moments)
        if not self.has_score:
            return answer
        scores = self.bank_scores(parts, squared, mask)  # (N, B)
        return answer._replace(score=scores @ self.score_weights)

    def named_banks(self) -> Iterator[tuple[str, MemoryBank]]:
        """The banks that judge, in the order of their weights."""
        yield from cast(Mapping[str, MemoryBank], self.banks).items()

    def features(self, prepared: Prepared) -> Tensor:
        """Color and, with depth, point features side by side, (N, C, h, w)."""
        color = cast(Tensor, self.color(prepared.color))
        return color if self.points is None else torch.cat([color, self.points(prepared)], dim=1)

    def parts(self, features: Tensor) -> dict[str, Tensor]:
        """What each bank compares, of features (N, C, h, w)."""
        color, points = features[:, : self.color.channels], features[:, self.color.channels :]
        parts = {"rgb": color}
        if self.points is not None:
            parts["points"] = points
        if self.fusion is not None:
            parts["fused"] = self.fusion(color, points)
        return parts

    def fused(self, squared: Mapping[str, Tensor]) -> Tensor:
        """Squared distances (N, 1, h, w) of every bank -> their weighted distance (N, 1, h, w)."""
        weighted = distances(squared) * self.map_weights.reshape(1, -1, 1, 1)
        return weighted.sum(dim=1, keepdim=True)

    def bank_scores(
        self, parts: Mapping[str, Tensor], squared: Mapping[str, Tensor], mask: Tensor
    ) -> Tensor:
        """PatchCore's reweighted image score of every bank, (N, B)."""
        scores = [
            self.reweighted(bank, parts[name], squared[name], mask)  # (N,)
            for name, bank in self.named_banks()
        ]
        return torch.stack(scores, dim=1)

    def grid_mask(self, foreground: Tensor) -> Tensor:
        """Positions with any foreground, (N, 1, h, w), 0 or 1."""
        return cell_mask(foreground, self.color.grid[0])


def distances(squared: Mapping[str, Tensor]) -> Tensor:
    """Squared distances (N, 1, h, w) of every bank -> distances (N, B, h, w)."""
    return torch.cat([(one + EPSILON).sqrt() for one in squared.values()], dim=1)


def _depth_side(
    preset: M3dmPreset, switches: Mapping[str, bool], sizes: WorkingSizes, grid: tuple[int, int]
) -> DepthSide | None:
    """None without depth, and where no bank compares points."""
    if sizes.depth is None or not (switches["points"] or switches["fused"]):
        return None
    if sizes.crop is None:
        raise ValueError("points are computed from the crop's size, which these sizes leave out")
    centers: Centers = "farthest" if switches["farthest"] else preset.points.centers
    features = PointFeatures(replace(preset.points, centers=centers), sizes.crop, sizes.depth, grid)
    relief = preset.relief and switches["relief"]
    encoder = HeightEncoder(finer=sizes.color[0] // sizes.depth[0]) if relief else None
    return DepthSide(features, encoder, sizes.depth[0], grid[0])
