"""M3DM: hybrid fusion of memory banks (Wang et al., CVPR 2023, in the seed's reproduction).

Color features of a frozen backbone and point features of a Point-MAE (trainer.layers.point_features), aligned on the
color features' grid (PFA), are fused by two MLPs trained to make the modalities of one place alike (UFF,
trainer.layers.uff). Three memory banks, of color, points and the fused feature, say how far a position is from anything
normal; a one-class support vector machine fuses their answers (DLF, trainer.layers.one_class).

What the paper leaves open, or the device needs, settled here:

- Banks are selected from every image as it is and once augmented, by greedy k-center (trainer.layers.coreset). What
  ships is distilled: BANK_SHARE as many rows, at least LEAST_ROWS, optimised to give the large bank's distances on
  views that it has not seen (trainer.layers.distilled).
- Positions count where the part is: the plane input replaces RANSAC, the part's foreground the dropped points.
- Centres of the point groups: along a curve over the organised grid (switch `farthest` on: farthest point sampling,
  which is sequential and not exported).
- Color features are pooled over 3x3 positions and brought to the finest one's grid, as PatchCore does with a CNN's; a
  transformer's are taken as they are. The zeros around the image count in the mean: features at the border fade, and
  what is cut off there is less unusual. Without them, cookies' AUPRO is 85.2 instead of 91.9 (seed 0, full coreset).
  All are scaled by one number to a mean square of 1.
- Images are brought to a square, as the paper does.
- Score. `paper`: PatchCore's reweighted one of every bank, fused by a machine of its own. `compact`: the mean of the
  top k % of the fused map, which on screw finds more (94.0 image AUROC with the map's smoothing, reweighted 91.8; seed
  0).
- Without depth there is one bank, of color: PatchCore with a distilled coreset.

Site tensors: `shift` (C,), taken off the color and point features before anything else, and `spare` (SPARE, C) with
`spare_valid`: features of the station's own normal parts, which every bank then knows.

Switches, on unless turned off: `rgb`, `points`, `fused` (banks that judge), `distilled`. Off unless turned on:
`farthest`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.bundle.manifest import TensorSpec
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.features import DINO_B8, LITE0, BackboneSpec, build_any_trunk, named_backbone
from trainer.fit import Curves, Phase, fit_phases
from trainer.graph.deploy import Answer
from trainer.graph.preprocess import Prepared
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.coreset import greedy_coreset
from trainer.layers.distilled import SMALLEST, DistilledBank, nearest_distance
from trainer.layers.memory_bank import MemoryBank
from trainer.layers.one_class import fused_weights
from trainer.layers.reweighting import Reweighted
from trainer.systems.base import BuildRequest, FitRequest, WorkingSizes
from trainer.systems.levels import Views, copies_for, drawn_views, normal_views, rows_of

BANK_SHARE = 0.25  # rows of the shipped bank, of the large coreset's
LEAST_ROWS = 256  # a bank of so many costs next to nothing: a large one that has no more ships as it is
SPARE = 64  # rows that a station may add
BANKED = 2  # views of an image that the banks are made of: as it is, and once augmented
POOL = 200_000  # features on which a distilled bank learns, at most
TINY = 1e-6  # under a root: no slope is infinite
SWITCHES = {"rgb": True, "points": True, "fused": True, "distilled": True, "farthest": False}


@dataclass(frozen=True)
class M3dmPreset:
    """Sizes and training of one preset.

    side: of the color working image, px. pool: side of the window that color features are averaged over. coreset:
    share of the normal features that the large banks keep. projected: dimensions in which they are selected. views:
    about how many normal ones, augmented ones included, and as many drawn anomalies.
    own_score: PatchCore's reweighting instead of the map's top k. blur: sigma of the map's Gaussian, in its cells.
    """

    backbone: BackboneSpec
    side: int
    pool: int
    coreset: float
    projected: int | None
    views: int
    augmentation: Augmentation
    own_score: bool
    fusion_epochs: int
    distil_epochs: int
    steps_per_epoch: int = 50
    fusion_batch: int = 8
    fusion_rate: float = 3e-3
    distil_batch: int = 4096
    distil_rate: float = 2e-3
    map_side: int = 64
    blur: float = 1.0


PAPER = M3dmPreset(
    backbone=DINO_B8,
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
    """A frozen backbone's features on the finest tap's grid, scaled by one number to a mean square of 1."""

    gain: Tensor

    def __init__(self, spec: BackboneSpec, preset: M3dmPreset, request: BuildRequest) -> None:
        super().__init__()
        self.trunk = build_any_trunk(spec, request.weights, request.sizes.color, random=request.random_backbone)
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
            one if one.shape[2:] == self.grid else functional.interpolate(one, self.grid, mode="bilinear")
            for one in maps
        ]
        return torch.cat(sized, dim=1)


class M3dmDetector(nn.Module):
    """The detector of the deployed graph: Prepared and site tensors -> Answer."""

    map_weights: Tensor
    score_weights: Tensor

    def __init__(self, preset: M3dmPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset = preset
        self.switches = {name: (request.switches or {}).get(name, usual) for name, usual in SWITCHES.items()}
        spec = named_backbone(request.backbone) if request.backbone else preset.backbone
        self.color = ColorFeatures(spec, preset, request)
        self.has_score = preset.own_score
        color = self.color.channels
        self.points = None
        self.fusion = None
        self.banks = nn.ModuleDict({"rgb": MemoryBank(color)})
        self.channels = color
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

    def forward(self, prepared: Prepared, shift: Tensor, spare: Tensor, spare_valid: Tensor) -> Answer:
        """Prepared batch, shift (C,), spare (SPARE, C), spare_valid (SPARE,) -> map, features and, if asked, score."""
        features = self.features(prepared)
        mask = self.grid_mask(prepared.foreground)
        parts = self.parts(features - shift.reshape(1, -1, 1, 1))
        own = self.parts(spare.T[None, :, :, None])
        squared = {
            name: bank(parts[name], own[name][0, :, :, 0].T, spare_valid) for name, bank in self.named_banks()
        }
        answer = Answer(self.to_map(self.fused(squared), mask), features)
        if not self.has_score:
            return answer
        scores = [self.reweighted(bank, parts[name], squared[name], mask) for name, bank in self.named_banks()]
        return answer._replace(score=torch.stack(scores, dim=1) @ self.score_weights)

    def named_banks(self) -> Iterator[tuple[str, MemoryBank]]:
        """The banks that judge, in the order of their weights."""
        yield from cast(Mapping[str, MemoryBank], self.banks).items()

    def features(self, prepared: Prepared) -> Tensor:
        """Color and, with depth, point features side by side, (N, C, h, w)."""
        return cast(Tensor, self.color(prepared.color))

    def parts(self, features: Tensor) -> dict[str, Tensor]:
        """What each bank compares, of features (N, C, h, w)."""
        return {"rgb": features}

    def fused(self, squared: Mapping[str, Tensor]) -> Tensor:
        """Squared distances (N, 1, h, w) of every bank -> their fused distance."""
        roots = [(distance + TINY).sqrt() for distance in squared.values()]
        weighted: Tensor = torch.cat(roots, dim=1) * self.map_weights.reshape(1, -1, 1, 1)
        return weighted.sum(dim=1, keepdim=True)

    def grid_mask(self, foreground: Tensor) -> Tensor:
        """Positions with any foreground, (N, 1, h, w), 0 or 1."""
        share = functional.avg_pool2d(foreground, foreground.shape[2] // self.color.grid[0])
        return (share > 1e-4).to(torch.float32)


class _Trainer:
    """Everything that lives only while training: features of all views, large banks and what distils them."""

    def __init__(self, detector: M3dmDetector, normal: Views, drawn: Views, copies: int, request: FitRequest) -> None:
        self.detector, self.normal, self.drawn, self.copies = detector, normal, drawn, copies
        self.preset, self.seed, self.device = PRESETS[request.preset], request.seed, request.device
        self.large: dict[str, MemoryBank] = {}
        self.distilled: dict[str, DistilledBank] = {}
        self.pools: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def measure(self) -> None:
        """The scale of the color features, over the foreground of the banks' views."""
        color = self.detector.color
        total, count = 0.0, 0
        for part in self.banked():
            taps = [level.float() for level in self.normal.colors(part, "cpu")]
            rows = rows_of(color.joined(taps), self.mask(self.normal, part)).double()
            total, count = total + float(rows.square().sum()), count + rows.numel()
        color.gain.fill_((count / max(total, 1e-12)) ** 0.5)

    def banked(self) -> Iterator[Tensor]:
        """Numbers of the views that the banks are made of, a few at a time: each image is followed by its copies."""
        numbers = torch.arange(len(self.normal))
        yield from torch.split(numbers[numbers % (1 + self.copies) < BANKED], 16)

    def unseen(self) -> Iterator[Tensor]:
        """Numbers of the other normal views."""
        numbers = torch.arange(len(self.normal))
        yield from torch.split(numbers[numbers % (1 + self.copies) >= BANKED], 16)

    def mask(self, views: Views, part: Tensor) -> Tensor:
        """Positions that count, (N, 1, h, w)."""
        return self.detector.grid_mask(views.foreground[part].float())

    @torch.no_grad()
    def rows(self, name: str, views: Views, parts: Iterator[Tensor]) -> Tensor:
        """What bank `name` compares, at every position that counts: (M, C) float16, on the CPU."""
        return torch.cat([
            rows_of(self.detector.parts(self.features(views, part))[name].cpu().half(), self.mask(views, part))
            for part in parts
        ])

    def features(self, views: Views, part: Tensor) -> Tensor:
        """Of cached views."""
        color = self.detector.color
        return color.joined(views.colors(part, self.device)) * color.gain

    @torch.no_grad()
    def selected(self, name: str) -> MemoryBank:
        """The large bank: greedy k-center."""
        if name in self.large:
            return self.large[name]
        rows = self.rows(name, self.normal, self.banked())
        count = min(len(rows), max(LEAST_ROWS, round(self.preset.coreset * len(rows))))
        chosen = greedy_coreset(rows, count, self.seed, self.preset.projected)
        bank = MemoryBank(rows.shape[1], count)
        bank.fill(rows[chosen].float(), None, rows.float().mean(dim=0))
        self.large[name] = bank.to(self.device)
        return self.large[name]

    @torch.no_grad()
    def begin_distil(self, name: str) -> int:
        """Features of augmented and drawn views, and the large bank's distances there."""
        large = self.selected(name)
        drawn = torch.split(torch.arange(len(self.drawn)), 16)
        pool = torch.cat([self.rows(name, self.normal, self.unseen()), self.rows(name, self.drawn, iter(drawn))])
        generator = torch.Generator().manual_seed(self.seed)
        pool = pool[torch.randperm(len(pool), generator=generator)[:POOL]].to(self.device)
        wanted = nearest_distance(large, pool)
        self.pools[name] = (pool, wanted)
        return len(pool)

    def distil_loss(self, name: str, batch: Tensor, generator: torch.Generator) -> Tensor:
        """See trainer.layers.distilled."""
        del generator
        pool, wanted = self.pools[name]
        return self.distilled[name].loss(pool[batch].float(), wanted[batch], SMALLEST * wanted.mean())

    @torch.no_grad()
    def settle(self) -> None:
        """Put the banks into the detector, then fuse their answers on views that they have not seen."""
        for name, bank in self.detector.named_banks():
            bank.load_state_dict(self.selected(name).state_dict())
            if name in self.distilled:
                self.distilled[name].fill(bank)
        distances, scores = [], []
        for part in self.unseen():
            mask = self.mask(self.normal, part).to(self.device)
            features = self.detector.parts(self.features(self.normal, part))
            squared = {name: bank(features[name]) for name, bank in self.detector.named_banks()}
            roots = torch.cat([(one + TINY).sqrt() for one in squared.values()], dim=1)
            distances.append(rows_of(roots, mask).cpu())
            if self.detector.has_score:
                banks = self.detector.named_banks()
                reweighted = self.detector.reweighted
                each = [reweighted(bank, features[name], squared[name], mask) for name, bank in banks]
                scores.append(torch.stack(each, dim=1).cpu())
        self.detector.map_weights.copy_(fused_weights(torch.cat(distances), self.seed))
        if scores:
            self.detector.score_weights.copy_(fused_weights(torch.cat(scores), self.seed))


class M3dm:
    """M3DM as a row of the registry."""

    name = "m3dm"
    presets = tuple(PRESETS)
    top_k_candidates = (0.0005, 0.002, 0.005, 0.01, 0.02)
    takes_backbone = True

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """The preset's square."""
        del height_px, width_px
        side = PRESETS[preset].side
        return WorkingSizes((side, side), (side // 4, side // 4) if with_depth else None)

    def build(self, request: BuildRequest) -> M3dmDetector:
        """The untrained detector; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return M3dmDetector(PRESETS[request.preset], request).eval()

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        """Cache frozen features, teach points and fusion, select the coresets and distil them."""
        assert isinstance(detector, M3dmDetector)  # the registry pairs build and fit
        preset, trunk = PRESETS[request.preset], detector.color.trunk.to(request.device)
        copies = BANKED - 1 + max(1, copies_for(images.count, preset.views))
        tell = request.control.tell
        anomalies = copies + 1 - BANKED
        tell(f"features of {images.count} images, {1 + copies} normal views and {anomalies} drawn anomalies each")
        normal = normal_views(
            trunk, images, preset.augmentation, copies, request.seed, request.device, keep_image=False
        )
        drawn, _ = drawn_views(trunk, images, anomalies, None, request, keep_image=False)
        trainer = _Trainer(detector.to(request.device), normal, drawn, copies, request)
        trainer.measure()
        curves = fit_phases(detector, _phases(trainer, request), request.seed, request.control)
        trainer.settle()
        detector.cpu().requires_grad_(False).eval()
        return curves


def _phases(trainer: _Trainer, request: FitRequest) -> list[Phase]:
    """A distillation per bank."""
    detector, preset = trainer.detector, trainer.preset
    phases = []
    if detector.switches["distilled"]:
        for name, _ in detector.named_banks():
            large = trainer.selected(name)
            rows = max(LEAST_ROWS, round(BANK_SHARE * len(large)))
            if rows >= len(large):
                continue
            bank = trainer.distilled[name] = DistilledBank(large, rows).to(request.device)
            phases.append(Phase(
                f"bank {name}", bank, list(bank.parameters()), partial(trainer.begin_distil, name),
                partial(trainer.distil_loss, name), request.epochs or preset.distil_epochs,
                preset.distil_batch, preset.distil_rate, weight_decay=0.0, steps_per_epoch=preset.steps_per_epoch,
            ))  # fmt: skip
    return phases


def create_system() -> M3dm:
    """For the registry."""
    return M3dm()
