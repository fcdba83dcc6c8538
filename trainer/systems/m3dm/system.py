"""M3DM: hybrid fusion of memory banks (Wang et al., CVPR 2023, in the seed's reproduction).

Color features of a frozen backbone and point features of a Point-MAE
(trainer.systems.m3dm.point_features), aligned on the color features' grid (PFA), are fused by two
MLPs trained to make the modalities of one place alike (UFF, trainer.systems.m3dm.uff). Three memory
banks, of color, points and the fused feature, say how far a position is from anything normal; a
one-class support vector machine fuses their answers (DLF, trainer.systems.m3dm.one_class).

What the paper leaves open, or the device needs, settled here:

- Banks are selected from every image as it is and once augmented, by greedy k-center
  (trainer.systems.m3dm.coreset). What ships is distilled: BANK_SHARE as many rows, at least
  LEAST_ROWS, optimized to give the large bank's distances on views that it has not seen
  (trainer.systems.m3dm.distilled).
- Positions count where the part is: the plane input replaces RANSAC, the part's foreground the
  dropped points.
- Centers of the point groups: along a curve over the organized grid (switch `farthest` on: farthest
  point sampling, which is sequential and not exported).
- `compact`: the amplified depth image (trainer.layers.height), unshuffled, joins the point
  features. Groups of points average what is a few sigma of the sensor's noise high, and part of the
  dents with it.
- Color features are pooled over 3x3 positions and brought to the finest one's grid, as PatchCore
  does with a CNN's; a transformer's are taken as they are. The zeros around the image count in the
  mean: features at the border fade, and what is cut off there is less unusual. Without them,
  cookies' AUPRO is 85.2 instead of 91.9 (seed 0, full coreset). All are scaled by one number to a
  mean square of 1.
- Images are brought to a square, as the paper does.
- Score. `paper`: PatchCore's reweighted one of every bank, fused by a machine of its own.
  `compact`: the mean of the top k % of the fused map, which on screw finds more (94.0 image AUROC
  with the map's smoothing, reweighted 91.8; seed 0).
- Without depth there is one bank, of color: PatchCore with a distilled coreset.
- UFF is trained by Adam, as all else here, over 700 steps in one cosine (paper: AdamW, cosine over
  250 steps, best after 700). Without a file of `trainer pretrain pointmae`, Point-MAE learns on the
  product's own normal views first.

Site tensors: `shift` (C,), taken off the color and point features before anything else, and `spare`
(SPARE, C) with `spare_valid`: features of the station's own normal parts, which every bank then
knows.

Switches, on unless turned off: `rgb`, `points`, `fused` (banks that judge), `distilled`, `relief`
(the amplified depth image). Off unless turned on: `farthest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import ConfigError
from edge.schema import TensorSpec
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.graph.deploy import Answer
from trainer.graph.preprocess import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.backbone import DINO_B8, LITE0, BackboneSpec, build_any_trunk, named_backbone
from trainer.layers.height import HeightEncoder
from trainer.layers.unshuffle import pixel_unshuffle
from trainer.systems.common.depth_encoder import depth_noise, encoder_phase
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.views import Views, anomalous_views, copies_for, normal_views
from trainer.systems.m3dm.checkpoint import load_pointmae
from trainer.systems.m3dm.coreset import greedy_coreset
from trainer.systems.m3dm.distilled import SMALLEST, DistilledBank, nearest_distance
from trainer.systems.m3dm.memory_bank import MemoryBank
from trainer.systems.m3dm.one_class import fused_weights
from trainer.systems.m3dm.point_features import (
    COMPACT_POINTS,
    PAPER_POINTS,
    Centers,
    DepthImages,
    PointFeatures,
    PointSpec,
)
from trainer.systems.m3dm.pretraining import COMPACT_PLAN, PAPER_PLAN, PretrainPlan, pretrain_phase
from trainer.systems.m3dm.reweighting import Reweighted
from trainer.systems.m3dm.uff import FeatureFusion
from trainer.systems.seam import BuildRequest, FitRequest, Modality, System

BANK_SHARE = 0.25  # rows of the shipped bank, of the large coreset's
# a bank of so many costs next to nothing: a large one that has no more ships as it is
LEAST_ROWS = 256
SPARE = 64  # rows that a station may add
AT_ONCE = 16  # views
BANKED = 2  # views of an image that the banks are made of: as it is, and once augmented
POOL = 200_000  # features on which a distilled bank learns, at most
TINY = 1e-6  # under a root: no slope is infinite
SWITCHES = {
    "rgb": True,
    "points": True,
    "fused": True,
    "distilled": True,
    "relief": True,
    "farthest": False,
}
# of amplified depth, in root mean squares of normal parts: beyond, nothing is more abnormal
RELIEF_BOUND = 30.0


@dataclass(frozen=True)
class M3dmPreset:
    """Sizes and training of one preset.

    side: of the color working image, px. pool: side of the window that color features are averaged
    over. coreset: share of the normal features that the large banks keep. projected: dimensions in
    which they are selected. views: about how many normal ones, augmented ones included, and as many
    drawn anomalies.
    points, pretraining: of Point-MAE. relief: whether the amplified depth image joins.
    fused: channels that either MLP of UFF gives, None as many as it takes.
    own_score: PatchCore's reweighting instead of the map's top k. blur: sigma of the map's
    Gaussian, in its cells.
    """

    backbone: BackboneSpec
    points: PointSpec
    pretraining: PretrainPlan
    relief: bool
    fused: int | None
    side: int
    pool: int
    coreset: float
    projected: int | None
    views: int
    augmentation: Augmentation
    own_score: bool
    fusion_epochs: int
    distil_epochs: int
    encoder_epochs: int = 60
    steps_per_epoch: int = 50
    fusion_batch: int = 4
    fusion_rate: float = 3e-3
    distil_batch: int = 4096
    distil_rate: float = 2e-3
    map_side: int = 64
    blur: float = 1.0


PAPER = M3dmPreset(
    backbone=DINO_B8,
    points=PAPER_POINTS,
    pretraining=PAPER_PLAN,
    relief=False,
    fused=None,
    side=224,
    pool=1,
    coreset=0.1,
    projected=128,
    views=0,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    own_score=True,
    fusion_epochs=14,
    distil_epochs=20,
    map_side=224,
    blur=4.0,
)
COMPACT = M3dmPreset(
    backbone=LITE0,
    points=COMPACT_POINTS,
    pretraining=COMPACT_PLAN,
    relief=True,
    fused=96,
    side=256,
    pool=3,
    coreset=0.01,
    projected=None,
    views=256,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    own_score=False,
    fusion_epochs=14,
    distil_epochs=20,
)
PRESETS: dict[str, M3dmPreset] = {"paper": PAPER, "compact": COMPACT}


class ColorFeatures(nn.Module):
    """A frozen backbone's features on the finest tap's grid, scaled by one number to a mean square
    of 1.
    """

    gain: Tensor

    def __init__(self, spec: BackboneSpec, preset: M3dmPreset, request: BuildRequest) -> None:
        super().__init__()
        self.trunk = build_any_trunk(
            spec, request.weights, request.sizes.color, random=request.random_backbone
        )
        self.pool, self.channels = preset.pool, sum(spec.channels)
        finest = min(spec.strides)
        self.grid = (request.sizes.color[0] // finest, request.sizes.color[1] // finest)
        self.register_buffer("gain", torch.ones(()))

    def forward(self, color: Tensor) -> Tensor:
        """color (N, 3, h, w), 0..255 -> (N, C, rows, columns)."""
        return self.joined(self.trunk(color)) * self.gain

    def joined(self, taps: Sequence[Tensor]) -> Tensor:
        """Raw feature maps, pooled, resized and side by side."""
        maps = [functional.avg_pool2d(tap, self.pool, 1, self.pool // 2) for tap in taps]
        sized = [
            (
                one
                if one.shape[2:] == self.grid
                else functional.interpolate(one, self.grid, mode="bilinear")
            )
            for one in maps
        ]
        return torch.cat(sized, dim=1)


class Points(nn.Module):
    """Point-MAE's features on the color features' grid and, if asked, the amplified depth image
    beside them.

    Point-MAE's are scaled by one number to a mean square of 1, every channel of the other by its
    own, and bounded.
    """

    gain: Tensor
    relief_gain: Tensor

    def __init__(
        self, spec: PointSpec, relief: bool, sizes: WorkingSizes, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        assert sizes.depth is not None  # there are no points without
        assert sizes.crop is not None  # M3dm.sizes names it
        self.features = PointFeatures(spec, sizes.crop, sizes.depth, grid)
        self.fold = sizes.depth[0] // grid[0]
        self.encoder = HeightEncoder(finer=sizes.color[0] // sizes.depth[0]) if relief else None
        extra = self.fold**2 + (self.fold // 2) ** 2 if relief else 0
        self.channels = spec.channels + extra
        self.register_buffer("gain", torch.ones(()))
        self.register_buffer("relief_gain", torch.ones(extra))

    def forward(self, prepared: Prepared) -> Tensor:
        """Prepared batch with depth -> (N, C, h, w)."""
        return self.scaled(*self.raw(prepared))

    def raw(self, prepared: Prepared) -> tuple[Tensor, Tensor | None]:
        """Both parts, unscaled."""
        points = cast(Tensor, self.features(prepared))
        if self.encoder is None or prepared.height is None:
            return points, None
        relief, tint = self.encoder(prepared.height, prepared.foreground, prepared.color)
        folded = [pixel_unshuffle(relief, self.fold), pixel_unshuffle(tint, self.fold // 2)]
        return points, torch.cat(folded, dim=1)

    def scaled(self, points: Tensor, relief: Tensor | None) -> Tensor:
        """Side by side."""
        points = points * self.gain
        if relief is None:
            return points
        bounded = (relief * self.relief_gain.reshape(1, -1, 1, 1)).clamp(
            -RELIEF_BOUND, RELIEF_BOUND
        )
        return torch.cat([points, bounded], dim=1)

    @torch.no_grad()
    def measure(self, rows: Tensor, relief: Tensor | None) -> None:
        """Take the scales from rows (M, C) of normal positions, unscaled."""
        self.gain.fill_(float((rows.double().square().mean() + 1e-12).rsqrt()))
        if relief is not None:
            self.relief_gain.copy_((relief.double().square().mean(dim=0) + 1e-12).rsqrt())


class M3dmDetector(nn.Module):
    """The detector of the deployed graph: Prepared and site tensors -> Answer."""

    map_weights: Tensor
    score_weights: Tensor

    def __init__(self, preset: M3dmPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset, self.pretrained = preset, False
        self.switches = {
            name: (request.switches or {}).get(name, usual) for name, usual in SWITCHES.items()
        }
        spec = named_backbone(request.backbone) if request.backbone else preset.backbone
        self.color = ColorFeatures(spec, preset, request)
        self.has_score = preset.own_score
        channels = {"rgb": self.color.channels}
        self.points = self.fusion = None
        if request.sizes.depth is not None and (self.switches["points"] or self.switches["fused"]):
            centers: Centers = "farthest" if self.switches["farthest"] else preset.points.centers
            points = replace(preset.points, centers=centers)
            self.points = Points(
                points, preset.relief and self.switches["relief"], request.sizes, self.color.grid
            )
            channels["points"] = self.points.channels
            if self.switches["fused"]:
                self.fusion = FeatureFusion(channels["rgb"], channels["points"], preset.fused)
                channels["fused"] = self.fusion.channels
        self.channels = self.color.channels + (0 if self.points is None else self.points.channels)
        judging = {name: size for name, size in channels.items() if self.switches[name]}
        if not judging:
            names = ["rgb"] if request.sizes.depth is None else ["rgb", "points", "fused"]
            raise ConfigError(
                f"m3dm: no bank is left of {', '.join(names)}: switch at least one of them on"
            )
        self.banks = nn.ModuleDict({name: MemoryBank(size) for name, size in judging.items()})
        self.register_buffer("map_weights", torch.ones(len(self.banks)))
        self.register_buffer("score_weights", torch.ones(len(self.banks)))
        self.reweighted = Reweighted()
        self.map_size = (preset.map_side, preset.map_side)
        self.to_map = AnomalyMap(self.color.grid, self.map_size, preset.blur)

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Feature shift and the station's own rows, all neutral."""
        return (
            TensorSpec(name="shift", dtype="float32", shape=(self.channels,), default=0.0),
            TensorSpec(name="spare", dtype="float32", shape=(SPARE, self.channels), default=0.0),
            TensorSpec(name="spare_valid", dtype="float32", shape=(SPARE,), default=0.0),
        )

    def forward(
        self, prepared: Prepared, shift: Tensor, spare: Tensor, spare_valid: Tensor
    ) -> Answer:
        """Prepared batch, shift (C,), spare (SPARE, C), spare_valid (SPARE,) -> map, features and,
        if asked, score.
        """
        features = self.features(prepared)
        mask = self.grid_mask(prepared.foreground)
        parts = self.parts(features - shift.reshape(1, -1, 1, 1))
        own = self.parts(spare.T[None, :, :, None])
        squared = {
            name: bank(parts[name], own[name][0, :, :, 0].T, spare_valid)
            for name, bank in self.named_banks()
        }
        answer = Answer(self.to_map(self.fused(squared), mask), features)
        if not self.has_score:
            return answer
        scores = [
            self.reweighted(bank, parts[name], squared[name], mask)
            for name, bank in self.named_banks()
        ]
        return answer._replace(score=torch.stack(scores, dim=1) @ self.score_weights)

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
        """Squared distances (N, 1, h, w) of every bank -> their fused distance."""
        roots = [(distance + TINY).sqrt() for distance in squared.values()]
        weighted = torch.cat(roots, dim=1) * self.map_weights.reshape(1, -1, 1, 1)
        return weighted.sum(dim=1, keepdim=True)

    def grid_mask(self, foreground: Tensor) -> Tensor:
        """Positions with any foreground, (N, 1, h, w), 0 or 1."""
        share = functional.avg_pool2d(foreground, foreground.shape[2] // self.color.grid[0])
        return (share > 1e-4).to(torch.float32)


class _Trainer:
    """Everything that lives only while training: features of all views, large banks and what
    distils them.
    """

    def __init__(
        self, detector: M3dmDetector, normal: Views, drawn: Views, copies: int, request: FitRequest
    ) -> None:
        self.detector, self.normal, self.drawn, self.copies = detector, normal, drawn, copies
        self.preset, self.seed, self.device = PRESETS[request.preset], request.seed, request.device
        self.known: dict[str, Tensor] = {}
        self.large: dict[str, MemoryBank] = {}
        self.distilled: dict[str, DistilledBank] = {}
        self.pools: dict[str, tuple[Tensor, Tensor]] = {}

    def banked(self) -> Tensor:
        """Numbers of the normal views that the banks are made of: each image is followed by its
        copies.
        """
        numbers = torch.arange(len(self.normal))
        return numbers[numbers % (1 + self.copies) < BANKED]

    def unseen(self) -> Tensor:
        """Numbers of the other normal views."""
        numbers = torch.arange(len(self.normal))
        return numbers[numbers % (1 + self.copies) >= BANKED]

    def mask(self, views: Views, part: Tensor) -> Tensor:
        """Positions that count, (N, 1, h, w)."""
        return self.detector.grid_mask(views.foreground[part].float())

    @torch.no_grad()
    def features(self, views: Views) -> Tensor:
        """The detector's features of all views, (n, C, h, w) float16, on the CPU: scales measured,
        then computed once.

        Called when what they depend on, depth's encoder and Point-MAE, has been trained.
        """
        if not self.known:
            self._measure_color()
            if self.detector.points is not None:
                self.detector.points.features.measure(*self.depth_images())
            parts = {
                name: self._raw_points(one)
                for name, one in (("normal", self.normal), ("drawn", self.drawn))
            }
            if self.detector.points is not None:
                self._measure_points(*parts["normal"])
            for name, one in (("normal", self.normal), ("drawn", self.drawn)):
                self.known[name] = self._joined(one, *parts[name])
        return self.known["normal" if views is self.normal else "drawn"]

    def depth_images(self) -> DepthImages:
        """What Point-MAE sees of all normal views."""
        normal = self.normal
        assert normal.height is not None  # there are no points without depth
        assert normal.intrinsics is not None  # as height
        assert normal.plane is not None  # as height
        return DepthImages(
            normal.height, normal.foreground.float(), normal.intrinsics, normal.plane
        )

    def _measure_color(self) -> None:
        """The scale of the color features, over the foreground of the banks' views."""
        color = self.detector.color
        total, count = 0.0, 0
        for part in torch.split(self.banked(), AT_ONCE):
            rows = rows_of(
                color.joined(self.normal.colors(part, "cpu")), self.mask(self.normal, part)
            ).double()
            total, count = total + float(rows.square().sum()), count + rows.numel()
        color.gain.fill_((count / max(total, 1e-12)) ** 0.5)

    def _raw_points(self, views: Views) -> tuple[Tensor | None, Tensor | None]:
        """Unscaled point features and amplified depth of all views, float16; None where there is
        none.
        """
        if self.detector.points is None:
            return None, None
        pairs = [
            self.detector.points.raw(views.prepared(part, self.device))
            for part in torch.split(torch.arange(len(views)), AT_ONCE)
        ]
        relief = [extra.half().cpu() for _, extra in pairs if extra is not None]
        return torch.cat([points.half().cpu() for points, _ in pairs]), (
            torch.cat(relief) if relief else None
        )

    def _measure_points(self, points: Tensor | None, relief: Tensor | None) -> None:
        assert self.detector.points is not None  # asked for only then
        assert points is not None  # as above
        banked = self.banked()
        mask = self.mask(self.normal, banked)
        self.detector.points.measure(
            rows_of(points[banked], mask), None if relief is None else rows_of(relief[banked], mask)
        )

    def _joined(self, views: Views, points: Tensor | None, relief: Tensor | None) -> Tensor:
        color, side = self.detector.color, self.detector.points
        parts = []
        for part in torch.split(torch.arange(len(views)), AT_ONCE):
            joined = color.joined(views.colors(part, self.device)) * color.gain
            if side is not None and points is not None:
                own, extra = (
                    None if one is None else one[part].to(joined) for one in (points, relief)
                )
                assert own is not None  # points are
                joined = torch.cat([joined, side.scaled(own, extra)], dim=1)
            parts.append(joined.half().cpu())
        return torch.cat(parts)

    @torch.no_grad()
    def rows(self, name: str, views: Views, numbers: Tensor) -> Tensor:
        """What bank `name` compares, at every position that counts of these views: (M, C) float16,
        on the CPU.
        """
        features = self.features(views)
        return torch.cat([
            rows_of(self.detector.parts(features[part].to(self.device,
            torch.float32))[name].half().cpu(),
                    self.mask(views, part))
            for part in torch.split(numbers, AT_ONCE)
        ])  # fmt: skip

    def count(self) -> int:
        """Rows of a large bank."""
        positions = int(self.mask(self.normal, self.banked()).sum())
        return min(positions, max(LEAST_ROWS, round(self.preset.coreset * positions)))

    @torch.no_grad()
    def selected(self, name: str) -> MemoryBank:
        """The large bank: greedy k-center."""
        if name not in self.large:
            rows = self.rows(name, self.normal, self.banked())
            chosen = greedy_coreset(rows, self.count(), self.seed, self.preset.projected)
            bank = MemoryBank(rows.shape[1], len(chosen))
            bank.fill(rows[chosen].float(), None, rows.float().mean(dim=0))
            self.large[name] = bank.to(self.device)
        return self.large[name]

    def begin_fusion(self) -> int:
        """UFF sees every normal view."""
        return len(self.features(self.normal))

    def fusion_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 1."""
        del generator
        fusion = self.detector.fusion
        assert fusion is not None  # there is no such phase without
        features = self.features(self.normal)[batch].to(self.device, torch.float32)
        color, points = (
            features[:, : self.detector.color.channels],
            features[:, self.detector.color.channels :],
        )
        return fusion.loss(color, points, self.mask(self.normal, batch).to(self.device))

    @torch.no_grad()
    def begin_distil(self, name: str) -> int:
        """Features of augmented and drawn views, and the large bank's distances there."""
        large = self.selected(name)
        self.distilled[name].start(large)
        drawn = torch.arange(len(self.drawn))
        pool = torch.cat(
            [self.rows(name, self.normal, self.unseen()), self.rows(name, self.drawn, drawn)]
        )
        generator = torch.Generator().manual_seed(self.seed)
        pool = pool[torch.randperm(len(pool), generator=generator)[:POOL]].to(self.device)
        self.pools[name] = (pool, nearest_distance(large, pool))
        return len(pool)

    def distil_loss(self, name: str, batch: Tensor, generator: torch.Generator) -> Tensor:
        """See trainer.systems.m3dm.distilled."""
        del generator
        pool, wanted = self.pools[name]
        return self.distilled[name].loss(
            pool[batch].float(), wanted[batch], SMALLEST * wanted.mean()
        )

    @torch.no_grad()
    def settle(self) -> None:
        """Put the banks into the detector, then fuse their answers on views that they have not
        seen.
        """
        detector = self.detector
        for name, bank in detector.named_banks():
            if name in self.distilled:
                self.distilled[name].fill(bank)
            else:
                bank.load_state_dict(self.selected(name).state_dict())
        distances, scores = [], []
        for part in torch.split(self.unseen(), AT_ONCE):
            mask = self.mask(self.normal, part).to(self.device)
            parts = detector.parts(self.features(self.normal)[part].to(self.device, torch.float32))
            squared = {name: bank(parts[name]) for name, bank in detector.named_banks()}
            distances.append(
                rows_of(
                    torch.cat([(one + TINY).sqrt() for one in squared.values()], dim=1), mask
                ).cpu()
            )
            if detector.has_score:
                each = [
                    detector.reweighted(bank, parts[name], squared[name], mask)
                    for name, bank in detector.named_banks()
                ]
                scores.append(torch.stack(each, dim=1).cpu())
        detector.map_weights.copy_(fused_weights(torch.cat(distances), self.seed))
        if scores:
            detector.score_weights.copy_(fused_weights(torch.cat(scores), self.seed))


class M3dm:
    """M3DM as a row of the registry."""

    name = "m3dm"
    presets = tuple(PRESETS)
    top_k_candidates = (0.0005, 0.002, 0.005, 0.01, 0.02)
    takes_backbone = True
    pretrains: Modality = "depth"

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """The preset's squares."""
        chosen = PRESETS[preset]
        depth = (chosen.points.depth_side, chosen.points.depth_side)
        return WorkingSizes(
            (chosen.side, chosen.side), depth if with_depth else None, (height_px, width_px)
        )

    def build(self, request: BuildRequest) -> M3dmDetector:
        """The untrained detector; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            detector = M3dmDetector(PRESETS[request.preset], request).eval()
        if request.pretrained is not None:
            if detector.points is None:
                raise ConfigError(
                    f"--pretrained {request.pretrained}: without depth m3dm has no points"
                )
            load_pointmae(request.pretrained, detector.points.features.transformer)
        detector.pretrained = request.pretrained is not None
        return detector

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        """Cache frozen features, teach points and fusion, select the coresets and distil them."""
        assert isinstance(detector, M3dmDetector)  # the registry pairs build and fit
        preset, trunk, tell = (
            PRESETS[request.preset],
            detector.color.trunk.to(request.device),
            request.control.tell,
        )
        anomalies = max(1, copies_for(images.count, preset.views))
        copies = BANKED - 1 + anomalies
        keep = detector.points is not None  # depth's encoder sees the image
        tell(
            f"features of {images.count} images, {1 + copies} normal views and {anomalies} drawn"
            " anomalies each"
        )
        normal = normal_views(
            trunk,
            images,
            preset.augmentation,
            copies,
            request.seed,
            request.device,
            keep_image=keep,
        )
        encoder = None if detector.points is None else detector.points.encoder
        sigma = None if encoder is None else depth_noise(encoder, normal)
        drawn, _ = anomalous_views(trunk, images, anomalies, sigma, request, keep_image=keep)
        trainer = _Trainer(detector.to(request.device), normal, drawn, copies, request)
        curves = fit_phases(detector, _phases(trainer, request), request.seed, request.control)
        trainer.settle()
        detector.cpu().requires_grad_(False).eval()
        return curves


def _phases(trainer: _Trainer, request: FitRequest) -> list[Phase]:
    """With depth its encoder, Point-MAE unless a file was named, and UFF.

    Then a distillation for every bank.
    """
    detector, preset = trainer.detector, trainer.preset
    phases = [] if detector.points is None else _point_phases(trainer, detector.points, request)
    if detector.fusion is not None:
        phases.append(Phase(
            "fusion", detector.fusion, list(detector.fusion.parameters()), trainer.begin_fusion,
            trainer.fusion_loss,
            request.epochs or preset.fusion_epochs, preset.fusion_batch, preset.fusion_rate,
            steps_per_epoch=preset.steps_per_epoch,
        ))  # fmt: skip
    rows = max(LEAST_ROWS, round(BANK_SHARE * trainer.count()))
    if detector.switches["distilled"] and rows < trainer.count():
        phases += [
            _distil_phase(trainer, name, bank, rows, request)
            for name, bank in detector.named_banks()
        ]
    return phases


def _point_phases(trainer: _Trainer, points: Points, request: FitRequest) -> list[Phase]:
    preset, phases = trainer.preset, []
    if points.encoder is not None:
        epochs = request.epochs or preset.encoder_epochs
        phases.append(encoder_phase(points.encoder, trainer.normal, epochs, request.device))
    if not trainer.detector.pretrained:
        plan = replace(preset.pretraining, epochs=request.epochs or preset.pretraining.epochs)
        images = trainer.depth_images()
        phases.append(pretrain_phase(points.features, images, plan, request.device, request.seed))
    return phases


def _distil_phase(
    trainer: _Trainer, name: str, bank: MemoryBank, rows: int, request: FitRequest
) -> Phase:
    preset = trainer.preset
    small = trainer.distilled[name] = DistilledBank(bank.weight.shape[1], rows).to(request.device)
    return Phase(
        f"bank {name}", small, list(small.parameters()), partial(trainer.begin_distil, name),
        partial(trainer.distil_loss, name), request.epochs or preset.distil_epochs,
        preset.distil_batch,
        preset.distil_rate, weight_decay=0.0, steps_per_epoch=preset.steps_per_epoch,
    )  # fmt: skip


def create_system() -> System[M3dmDetector]:
    """For the registry."""
    return M3dm()
