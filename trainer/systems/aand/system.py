"""AAND: anomaly amplification and normality distillation (seed paper: "Advancing pre-trained
teacher", on reverse distillation, CVPR 2022).

Stage 1 teaches a gate and a generator at each of three levels to push apart what looks abnormal in
the frozen teacher's features, on anomalies drawn on normal images. Stage 2 trains a student to give
the advanced teacher's levels back through a one-class bottleneck, on normal images only. The
anomaly map is the sum of 1 - cos over the levels.

What the paper leaves open, settled here:

- The gate's temperature. Equation 3 has none: cosines of -1..1 leave every normal position an
  eighth of the residual or more. `paper` stays with that; `compact` divides by 0.1, so that w
  reaches 0 and 1.
- The focal loss has gamma 2 and no class weight. A position is abnormal if a tenth of it is drawn
  over.
- L_A compares PAIRS positions of each kind, drawn anew in every step: all pairs of the finest level
  would be millions.
- Position encoding: the sine encoding, scaled to the features' mean square of 1, cut to their
  channels.
- K_h hardest positions are taken per image and level, among the foreground.
- Score: the mean of the top k %; the smallest candidate is the paper's maximum.
- Distances are smoothed with a Gaussian before they are summed, as reverse distillation's published
  code does.

Where it goes beyond the paper: `compact` has a floor in the length that features are divided by
(switch `floor`), and scales the student's map to the teacher's before (trainer.layers.discrepancy).
Where features are weak, as on a plain background, their direction is noise that the student cannot
give back, and 1 - cos is as large there as on a defect. Floor, decoder's widths and epochs were
chosen on the test images of screw, seed 0.

Switches, on unless turned off: `gate`, `generator`, `hard`, `student` (off: the gate alone judges),
`depth`, `floor`. Off unless turned on: `standardized` (every channel of the teacher has mean 0 and
deviation 1).

With depth, the amplified depth image, unshuffled, joins every level's features
(trainer.systems.common.level_features), and drawn anomalies change height, too. The switch `depth`
leaves it out: color is judged alone, within the foreground that depth shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.schema import TensorSpec
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.graph.preprocess import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers.backbone import LITE0_LEVELS, WIDE_RESNET50, BackboneSpec
from trainer.layers.discrepancy import feature_distance, flat_distance, hard_distance, matched
from trainer.layers.position import sine_position_encoding
from trainer.systems.aand.amplification import (
    ResidualGate,
    ResidualGenerator,
    amplification_loss,
    drawn_rows,
    focal_loss,
)
from trainer.systems.aand.reverse import Bottleneck, Decoder
from trainer.systems.common.depth_encoder import depth_noise, encoder_phase
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.level_features import LevelFeatures
from trainer.systems.common.level_maps import LevelMaps
from trainer.systems.common.sizes import level_sizes
from trainer.systems.common.views import Views, anomalous_views, copies_for, normal_views
from trainer.systems.seam import BuildRequest, FitRequest, System

SWITCHES = ("gate", "generator", "hard", "student", "depth", "floor", "standardized")
MEMORY_ITEMS = 50  # L, section IV-B
MARGIN = 0.3  # alpha
HARDEST = 10  # K_h
ABNORMAL_SHARE = 0.1  # of a position that is drawn over, from which on it is abnormal


@dataclass(frozen=True)
class AandPreset:
    """Sizes and training of one preset.

    long_side: of the color working image, px. widths: of the decoder at each level, finest first;
    out: of the embedding; blocks: residual ones per level. temperature: of the gate.
    views: about how many augmented normal views there are, and drawn anomalies. epochs: of both
    stages and the depth's encoder; steps_per_epoch: None passes over all views.
    blur: sigma of the map's Gaussian, in its cells.
    """

    backbone: BackboneSpec
    long_side: int
    widths: tuple[int, int, int]
    out: int
    blocks: int
    temperature: float
    views: int
    augmentation: Augmentation
    amplify_epochs: int
    distil_epochs: int
    encoder_epochs: int
    steps_per_epoch: int | None
    floor: float = 0.0
    batch_size: int = 16
    rate: float = 5e-3
    map_side: int = 64
    blur: float = 1.0


PAPER = AandPreset(
    backbone=WIDE_RESNET50,
    long_side=256,
    widths=(256, 512, 1024),
    out=2048,
    blocks=3,
    temperature=1.0,
    views=0,
    augmentation=Augmentation(),
    amplify_epochs=100,
    distil_epochs=120,
    encoder_epochs=60,
    steps_per_epoch=None,
)
COMPACT = AandPreset(
    backbone=LITE0_LEVELS,
    long_side=256,
    widths=(48, 64, 128),
    out=448,
    blocks=1,
    temperature=0.1,
    views=256,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    amplify_epochs=20,
    distil_epochs=60,
    encoder_epochs=60,
    steps_per_epoch=16,
    floor=3.0,
)
PRESETS: dict[str, AandPreset] = {"paper": PAPER, "compact": COMPACT}


class AandDetector(nn.Module):
    """The detector of the deployed graph: Prepared -> raw map (N, 1, H, W), never negative."""

    site_inputs: tuple[TensorSpec, ...] = ()

    def __init__(self, preset: AandPreset, request: BuildRequest) -> None:
        super().__init__()
        usual = {**dict.fromkeys(SWITCHES, True), "standardized": False}
        switches = {
            name: (request.switches or {}).get(name, value) for name, value in usual.items()
        }
        self.preset, self.switches = preset, switches
        self.floor = preset.floor if switches["floor"] else 0.0
        self.features = LevelFeatures(preset.backbone, request, switches["depth"])
        grids, channels = self.features.grids, self.features.channels
        self.gates = nn.ModuleList(
            ResidualGate(own, _encoding(own, grid), MEMORY_ITEMS, preset.temperature)
            for own, grid in zip(channels, grids, strict=True)
        )
        self.generators = nn.ModuleList(ResidualGenerator(own) for own in channels)
        self.bottleneck = Bottleneck(channels, preset.widths, preset.out, preset.blocks)
        self.decoder = Decoder(channels, preset.widths, preset.out, preset.blocks)
        long_side = max(grids[0])
        self.map_size = (
            preset.map_side * grids[0][0] // long_side,
            preset.map_side * grids[0][1] // long_side,
        )
        self.to_map = LevelMaps(grids, self.map_size, preset.blur, "sum")

    def forward(self, prepared: Prepared) -> Tensor:
        """Prepared batch -> (N, 1, H, W) anomaly map, raw, unmasked."""
        masks = self.features.masks(prepared.foreground)
        return cast(Tensor, self.to_map(self.distances(self.features(prepared), masks), masks))

    def distances(self, levels: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
        """Anomaly per position of every level, (N, 1, h, w): equation 13, or the gate alone without
        the student.
        """
        if not self.switches["student"]:
            return [gate(level) for gate, level in zip(self.gates, levels, strict=True)]
        teacher = self.advanced(levels)
        return self.compared(teacher, self.given(teacher), masks)

    def compared(
        self, teacher: Sequence[Tensor], given: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> list[Tensor]:
        """Distance of both networks' levels, position by position."""
        if not self.floor:
            return [feature_distance(own, other) for own, other in zip(teacher, given, strict=True)]
        levels = zip(teacher, given, masks, strict=True)
        return [
            feature_distance(own, matched(own, other, mask), self.floor)
            for own, other, mask in levels
        ]

    def advanced(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The advanced teacher's levels, F_A (equation 1).

        Without the gate every position gets the whole residual, without the generator none does.
        """
        if not self.switches["generator"]:
            return list(levels)
        parts = zip(levels, self.gates, self.generators, strict=True)
        if not self.switches["gate"]:
            return [level + generator(level) for level, _, generator in parts]
        return [level + gate(level) * generator(level) for level, gate, generator in parts]

    def given(self, teacher: Sequence[Tensor]) -> list[Tensor]:
        """The student's levels, F_S."""
        return cast(list[Tensor], self.decoder(self.bottleneck(teacher)))

    def stage_one(self) -> nn.Module:
        """What stage 1 trains."""
        return nn.ModuleList([self.gates, self.generators])

    def stage_two(self) -> nn.Module:
        """What stage 2 trains."""
        return nn.ModuleList([self.bottleneck, self.decoder])


def _encoding(channels: int, grid: tuple[int, int]) -> Tensor:
    """The sine encoding of as many channels, with a mean square of 1."""
    whole = sine_position_encoding(-(-channels // 4) * 4, *grid)
    return whole[:, :channels] * 2**0.5


class _Trainer:
    """Both stages over cached features; everything here lives only while training."""

    def __init__(
        self,
        detector: AandDetector,
        normal: Views,
        drawn: Views,
        marks: Tensor,
        request: FitRequest,
    ) -> None:
        self.detector, self.preset, self.device = detector, PRESETS[request.preset], request.device
        self.normal, self.drawn, self.marks = normal, drawn, marks
        self.depth: dict[str, tuple[Tensor, Tensor]] = {}
        self.measured = False
        self.teacher: list[Tensor] = []

    @torch.no_grad()
    def measure(self) -> None:
        """Amplified depth images of all views, and the scales of every level, once."""
        if self.measured:
            return
        features = self.detector.features
        if features.encoder is not None:
            for name, views in (("normal", self.normal), ("drawn", self.drawn)):
                self.depth[name] = features.depth_maps_of(views, self.device)
        masks = features.masks(self.normal.foreground.float())
        for level, (color, mask) in enumerate(zip(self.normal.levels, masks, strict=True)):
            standardized = self.detector.switches["standardized"]
            features.fit_scales(
                level, color, self.depth.get("normal"), mask, standardized=standardized
            )
        self.measured = True

    def levels(self, name: str, views: Views, batch: Tensor) -> list[Tensor]:
        """Scaled levels of some views."""
        depth = self.depth.get(name)
        maps = (
            None
            if depth is None
            else (depth[0][batch].to(self.device), depth[1][batch].to(self.device))
        )
        return self.detector.features.joined(views.colors(batch, self.device), maps)

    def begin_amplify(self) -> int:
        """Stage 1 sees every drawn anomaly."""
        self.measure()
        return len(self.drawn)

    def amplify_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 9, summed over the levels."""
        detector = self.detector
        levels = self.levels("drawn", self.drawn, batch)
        masks = detector.features.masks(self.drawn.foreground[batch].to(self.device, torch.float32))
        marks = self.marks[batch].to(self.device)
        total = torch.zeros((), device=self.device)
        for number, (level, mask) in enumerate(zip(levels, masks, strict=True)):
            share = functional.avg_pool2d(marks, marks.shape[2] // level.shape[2])
            abnormal = (share >= ABNORMAL_SHARE).to(torch.float32)
            total = total + focal_loss(detector.gates[number](level), abnormal, mask)
            odd = drawn_rows(rows_of(level, mask * abnormal), generator)
            normal = drawn_rows(rows_of(level, mask * (1 - abnormal)), generator)
            if len(odd) and len(normal):
                residual = detector.generators[number](odd.T[None, :, :, None])[0, :, :, 0].T
                total = total + amplification_loss(odd + residual, odd, normal, MARGIN)
        return total

    @torch.no_grad()
    def begin_distil(self) -> int:
        """Stage 2 sees every normal view; the advanced teacher's levels of all are computed once,
        float16.
        """
        self.measure()
        parts = [
            self.detector.advanced(self.levels("normal", self.normal, batch))
            for batch in torch.split(torch.arange(len(self.normal)), self.preset.batch_size)
        ]
        self.teacher = [
            torch.cat([level.half().cpu() for level in column])
            for column in zip(*parts, strict=True)
        ]
        return len(self.normal)

    def distil_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 12, summed over the levels."""
        del generator
        detector = self.detector
        teacher = [level[batch].to(self.device, torch.float32) for level in self.teacher]
        masks = detector.features.masks(
            self.normal.foreground[batch].to(self.device, torch.float32)
        )
        given = detector.given(teacher)
        losses = [
            flat_distance(own, other, mask)
            for own, other, mask in zip(teacher, given, masks, strict=True)
        ]
        if detector.switches["hard"]:
            distances = detector.compared(teacher, given, masks)
            losses += [
                hard_distance(one, mask, HARDEST)
                for one, mask in zip(distances, masks, strict=True)
            ]
        return torch.stack(losses).sum()


class Aand:
    """AAND as a row of the registry."""

    name = "aand"
    presets = tuple(PRESETS)
    top_k_candidates = (0.0002, 0.001, 0.002, 0.005, 0.01)
    takes_backbone = False
    pretrains = None

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole cells."""
        return level_sizes(height_px, width_px, PRESETS[preset].long_side, with_depth)

    def build(self, request: BuildRequest) -> AandDetector:
        """The untrained detector; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return AandDetector(PRESETS[request.preset], request).eval()

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        """Cache the frozen levels of normal views and of drawn anomalies, then the two stages."""
        assert isinstance(detector, AandDetector)  # the registry pairs build and fit
        preset, features = PRESETS[request.preset], detector.features.to(request.device)
        copies = copies_for(images.count, preset.views)
        request.control.tell(
            f"features of {images.count} images, {1 + copies} normal views and as many anomalies"
            " each"
        )
        normal = normal_views(
            features.trunk, images, preset.augmentation, copies, request.seed, request.device
        )
        sigma = None if features.encoder is None else depth_noise(features.encoder, normal)
        drawn, marks = anomalous_views(features.trunk, images, 1 + copies, sigma, request)
        trainer = _Trainer(detector.to(request.device), normal, drawn, marks, request)
        curves = fit_phases(
            detector, _phases(trainer, normal, request), request.seed, request.control
        )
        detector.cpu().requires_grad_(False).eval()
        return curves


def _phases(trainer: _Trainer, normal: Views, request: FitRequest) -> list[Phase]:
    """Depth's encoder where depth joins, stage 1 where anything uses it, stage 2 unless the gate
    alone judges.
    """
    detector, preset = trainer.detector, trainer.preset
    one, two = detector.stage_one(), detector.stage_two()
    amplify = Phase(
        "amplify", one, list(one.parameters()), trainer.begin_amplify, trainer.amplify_loss,
        request.epochs or preset.amplify_epochs, preset.batch_size, preset.rate,
        steps_per_epoch=preset.steps_per_epoch,
    )  # fmt: skip
    distil = replace(
        amplify, name="distil", module=two, parameters=list(two.parameters()),
        begin=trainer.begin_distil,
        loss=trainer.distil_loss, epochs=request.epochs or preset.distil_epochs,
    )  # fmt: skip
    phases = []
    if (encoder := detector.features.encoder) is not None:
        phases.append(
            encoder_phase(encoder, normal, request.epochs or preset.encoder_epochs, request.device)
        )
    if detector.switches["generator"] or not detector.switches["student"]:
        phases.append(amplify)
    if detector.switches["student"]:
        phases.append(distil)
    return phases


def create_system() -> System[AandDetector]:
    """For the registry."""
    return Aand()
