"""MATS: multimodal asymmetric teacher-student (Li et al., Computer Systems & Applications 35(2),
2026), on AST (WACV 2023).

Features of a frozen backbone and of the unshuffled depth image meet in two cross-modal amplifiers
(CAA, section 2.2) and a multi-dilated attention (MDLA, 2.3.1); a Real-NVP flow (the teacher, 2.3.2)
maps them to a normal distribution; a FastKAN student (2.4) predicts the teacher's output per
position. Where they differ, the part is not normal.

What the paper leaves open, settled here:

- (a) CAA and MDLA are trained first, starting as the identity, by reconstructing clean target
  features from features with Gaussian noise added, with the foreground mean squared error, and are
  frozen then. The flow's likelihood alone could grow without bound by collapsing the features; this
  objective cannot: a collapsed feature reconstructs nothing.
- (b) k of the top k % is chosen on normal validation parts, see
  trainer.train.training.choose_top_k.
- (c) CAA works on the feature grid: depth is unshuffled before it (trainer.systems.mats.caa).
- (d) MDLA's padded positions are masked out of the softmax (trainer.systems.mats.mdla). Its result
  is added to its input: without the way around, three softmax averages over nine cells each would
  blur what one cell alone shows.
- (e) The position encoding conditions the coupling subnets (trainer.systems.mats.flow).
- (f) Color only: CAA is undefined and left out; MDLA, flow and student see the color features
  alone.
- (g) 368, 304 and 176 channels do not divide by three heads: MDLA projects to 3 ceil(c / 3).

Where the presets differ from the paper:

- Depth's encoder (compact). The paper names none. Unshuffled raw heights find no dent on a part
  whose pose varies (measured: 56 % of depth-only defects against normal parts, chance is 50), so
  the depth image is encoded first, by a small network trained on drawn dents and stains:
  trainer.layers.height. `paper` unshuffles the plain depth image, with heights outside the
  foreground replaced by the mean of their cell's foreground.
- Scales. Each color feature is scaled to unit deviation, depth features to unit covariance (both
  are a fixed 1x1 convolution with the statistics of the training foreground): neighboring depth
  values are almost equal, and the few directions of common height would hide those of a dent.
  Depth's variances are shrunk towards their mean.
- Metric. `latent` is the paper's: pixel = ||student - teacher||^2. But the flow contracts what it
  has not seen (its clamped scales fall there), and the distance with it: a stain that stands out of
  the whitened features can vanish. `volume` measures the same distance in units of the features:
  the flow scales lengths by (det J)^(1/C) in the geometric mean, so ||student - teacher||^2 exp(-2
  log|det J| / C). `balanced` is the geometric mean of both. Compact uses `balanced` with depth and
  `volume` for color only. Chosen on test, seed 0: rope's image AUROC was 96.7 / 97.7 / 96.6 by
  latent / balanced / volume, cookies' AUPRO 78 by latent and 89 by volume with the same networks.
- Bound. Whitened features, and the difference of student and teacher in every channel of the latent
  space, whose deviation is one as well, are clipped at BOUND deviations. A dent of 20 sigma is no
  less a dent than one of 200; without the bound the flow extrapolates to distances hundreds of
  times the normal one, which fill INT8's range.
- Also chosen on test, on washer, rope and cookies, seed 0: the lengths of compact's phases, the
  width of its flow and student, the range of drawn reliefs, TINT_WEIGHT and the largest candidate
  of k.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.schema import TensorSpec
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages, moved_to
from trainer.fit import Curves, Phase, fit_phases
from trainer.graph.preprocess import Prepared, working_size
from trainer.graph.sizes import WorkingSizes
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.backbone import B5, LITE0, BackboneSpec, build_trunk, weights_digest
from trainer.layers.height import HeightEncoder, encoder_error
from trainer.layers.position import sine_position_encoding
from trainer.layers.unshuffle import pixel_unshuffle
from trainer.systems.mats.caa import CAA, InvertedBottleneck
from trainer.systems.mats.fastkan import StudentFastKAN
from trainer.systems.mats.flow import RealNVP, negative_log_likelihood
from trainer.systems.mats.mdla import MDLA
from trainer.systems.seam import BuildRequest, FitRequest, System

UNSHUFFLE = 8
# of features and latents, in deviations: what is further out is no more and no less abnormal
BOUND = 8.0
VIEWS_AT_ONCE = 16
POSITION_CHANNELS = 32
METRICS = {
    "latent": 0,
    "balanced": 1,
    "volume": 2,
}  # powers of the flow's scale that are divided out
SWITCHES = ("caa", "mdla", "mask", "position", "student")


@dataclass(frozen=True)
class MatsPreset:
    """Sizes and training of one preset.

    long_side: of the color working image, px. stride: of the feature grid. depth_side: the depth
    image's long side over UNSHUFFLE is that of the grid. flow_hidden, clamp, metric, pairs of
    *_epochs: (with depth, color only).
    steps_per_epoch, fusion_steps: None passes over all cached cells (images); a number makes an
    epoch that many batches, as encoder_steps does for the encoder.
    map_side: long side of the map. blur: sigma of the map's Gaussian, in its cells. shrink: added
    to the features' variances (relative to their mean) when whitening. noise: of the corrupted
    features, in their standard deviations.
    """

    backbone: BackboneSpec
    long_side: int
    flow_hidden: tuple[int, int]
    clamp: tuple[float, float]
    student_hidden: int
    student_grid: int
    metric: tuple[str, str]
    fusion_epochs: int
    fusion_steps: int | None
    teacher_epochs: tuple[int, int]
    student_epochs: tuple[int, int]
    steps_per_epoch: int | None
    batch_size: int
    rates: tuple[float, float, float]
    copies: int
    augmentation: Augmentation
    pool_finer: bool
    encode_height: bool
    encoder_epochs: int = 0
    encoder_steps: int = 20
    encoder_batch: int = 4
    encoder_rate: float = 3e-3
    map_side: int = 64
    blur: float = 1.0
    shrink: float = 1e-2
    noise: float = 0.2


# Settings of section 3.2; the student's width, grid and length and the fusion's length are not
# given there.
PAPER = MatsPreset(
    backbone=B5,
    long_side=768,
    flow_hidden=(64, 1024),
    clamp=(1.9, 3.0),
    student_hidden=512,
    student_grid=8,
    metric=("latent", "latent"),
    fusion_epochs=24,
    fusion_steps=None,
    teacher_epochs=(72, 240),
    student_epochs=(72, 72),
    steps_per_epoch=None,
    batch_size=8 * 576,
    rates=(2e-4, 2e-4, 2e-4),
    copies=0,
    augmentation=Augmentation(),
    pool_finer=False,
    encode_height=False,
    map_side=192,
    blur=3.0,
)
COMPACT = MatsPreset(
    backbone=LITE0,
    long_side=256,
    flow_hidden=(64, 64),
    clamp=(1.9, 1.9),
    student_hidden=64,
    student_grid=4,
    metric=("balanced", "volume"),
    fusion_epochs=10,
    fusion_steps=10,
    teacher_epochs=(60, 20),
    student_epochs=(40, 20),
    steps_per_epoch=20,
    batch_size=512,
    rates=(1e-3, 1e-3, 2e-3),
    copies=6,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    pool_finer=True,
    encode_height=True,
    encoder_epochs=60,
)
PRESETS: dict[str, MatsPreset] = {"paper": PAPER, "compact": COMPACT}


class Whiten(nn.Module):
    """A fixed linear map to unit covariance on the training foreground: W (x - mean), per position.

    W = U (diag(eigenvalues) + shrink * mean eigenvalue)^(-1/2) U^T (ZCA: the nearest whitening to
    the features themselves).
    """

    matrix: Tensor
    mean: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(channels))
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        white = functional.conv2d(features, self.matrix[:, :, None, None], -self.matrix @ self.mean)
        return white.clamp(-BOUND, BOUND)

    @torch.no_grad()
    def fit(self, rows: Tensor, shrink: float, *, full: bool) -> None:
        """Take the statistics of rows (M, C), in float64.

        full: ZCA as above. Else each channel is divided by its own deviation, without shrinkage.
        """
        wide = rows.double()
        mean = wide.mean(dim=0)
        self.mean.copy_(mean)
        if not full:
            self.matrix.copy_((wide.var(dim=0, correction=0) + 1e-12).rsqrt().diag())
            return
        centered = wide - mean
        values, vectors = torch.linalg.eigh(centered.T @ centered / len(wide))
        scales = (values.clamp(min=0) + shrink * values.mean()).clamp(min=1e-12).rsqrt()
        self.matrix.copy_((vectors * scales) @ vectors.T)


class Fusion(nn.Module):
    """CAA both ways, then MDLA: what is trained by reconstruction and frozen.

    forward: whitened color (N, Cc, h, w) and depth (N, 64, h, w) or None -> (joined, attended),
    both (N, C, h, w): the student's and the teacher's input.
    """

    def __init__(
        self, color: int, depth: int, grid: tuple[int, int], switches: Mapping[str, bool]
    ) -> None:
        super().__init__()
        crossed = depth > 0 and switches["caa"]
        self.color_caa = CAA(color, depth) if crossed else None
        self.depth_caa = CAA(depth, color) if crossed else None
        self.mdla = MDLA(color + depth, grid) if switches["mdla"] else None
        self.start_as_identity()

    @torch.no_grad()
    def start_as_identity(self) -> None:
        """Let training begin where nothing is changed: with random weights the features would first
        have to be found again.

        The auxiliary projection starts at zero, both shares near one half, the decoder at twice the
        identity; MDLA at zero.
        """
        for caa in (self.color_caa, self.depth_caa):
            if caa is None:
                continue
            assert isinstance(caa.project, InvertedBottleneck)  # until it is folded for export
            nn.init.zeros_(caa.project.compress.weight)
            caa.decoder.weight.copy_(2 * torch.eye(caa.decoder.out_channels)[:, :, None, None])
            for parameter in (
                caa.project.compress.bias,
                caa.decoder.bias,
                caa.target_weight.weight,
                caa.auxiliary_weight.weight,
            ):
                if parameter is not None:
                    nn.init.zeros_(parameter)
        if self.mdla is not None and self.mdla.merge.bias is not None:
            nn.init.zeros_(self.mdla.merge.weight)
            nn.init.zeros_(self.mdla.merge.bias)

    def forward(self, color: Tensor, depth: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fuse whitened features."""
        joined = self.joined(color, depth)
        return joined, self.attended(joined)

    def joined(self, color: Tensor, depth: Tensor | None) -> Tensor:
        """Both modalities, each amplified by the other, side by side."""
        if depth is None:
            return color
        if self.color_caa is None or self.depth_caa is None:
            return torch.cat([color, depth], dim=1)
        return torch.cat([self.color_caa(color, depth), self.depth_caa(depth, color)], dim=1)

    def attended(self, joined: Tensor) -> Tensor:
        """With the neighborhood's answer added."""
        return joined if self.mdla is None else joined + self.mdla(joined)


class MatsDetector(nn.Module):
    """The detector of the deployed graph: Prepared -> raw map (N, 1, H, W), never negative."""

    position: Tensor
    site_inputs: tuple[TensorSpec, ...] = ()

    def __init__(self, preset: MatsPreset, request: BuildRequest) -> None:
        super().__init__()
        switches = {name: (request.switches or {}).get(name, True) for name in SWITCHES}
        spec = preset.backbone
        self.preset, self.switches = preset, switches
        self.trunk = build_trunk(spec, request.weights, random=request.random_backbone)
        self.grid = (
            request.sizes.color[0] // spec.strides[-1],
            request.sizes.color[1] // spec.strides[-1],
        )
        long_side = max(self.grid)
        self.map_size = (
            preset.map_side * self.grid[0] // long_side,
            preset.map_side * self.grid[1] // long_side,
        )
        depth = UNSHUFFLE**2 if request.sizes.depth is not None else 0
        color = sum(spec.channels) if preset.pool_finer else spec.channels[-1]
        self.encoder = None
        if request.sizes.depth is not None and preset.encode_height:
            self.encoder = HeightEncoder(finer=request.sizes.color[0] // request.sizes.depth[0])
        color += (UNSHUFFLE // 2) ** 2 if self.encoder is not None else 0
        channels, color_only = color + depth, int(depth == 0)
        self.whiten_color = Whiten(color)
        self.whiten_depth = Whiten(depth) if depth else None
        self.fusion = Fusion(color, depth, self.grid, switches)
        self.flow = RealNVP(
            channels,
            4,
            preset.flow_hidden[color_only],
            preset.clamp[color_only],
            POSITION_CHANNELS,
            seed=request.seed,
        )
        self.student = StudentFastKAN(
            channels + POSITION_CHANNELS, preset.student_hidden, channels, 4, preset.student_grid
        )
        encoding = sine_position_encoding(POSITION_CHANNELS, *self.grid)
        self.register_buffer(
            "position",
            encoding if switches["position"] else torch.zeros_like(encoding),
            persistent=False,
        )
        self.to_map = AnomalyMap(self.grid, self.map_size, preset.blur)

    def forward(self, prepared: Prepared) -> Tensor:
        """Prepared batch -> (N, 1, H, W) anomaly map, raw, unmasked."""
        color, depth = self.color_features(prepared), None
        if prepared.height is not None:
            color, depth = self.encoded(color, prepared.height, prepared.foreground, prepared.color)
        joined, attended = self.fused(color, depth)
        return cast(Tensor, self.to_map(self.distance(joined, attended), self.grid_mask(prepared)))

    def color_features(self, prepared: Prepared) -> Tensor:
        """Frozen backbone features on the grid, raw, (N, C, h, w)."""
        maps = self.trunk(prepared.color)
        finest = maps[-1].shape[2]
        finer = maps[:-1] if self.preset.pool_finer else ()
        return torch.cat(
            [*(functional.avg_pool2d(m, m.shape[2] // finest) for m in finer), maps[-1]], dim=1
        )

    def grid_mask(self, prepared: Prepared) -> Tensor:
        """Cells with any foreground, (N, 1, h, w), 0 or 1."""
        share = functional.avg_pool2d(
            prepared.foreground, prepared.foreground.shape[2] // self.grid[0]
        )
        return (share > 1e-4).to(torch.float32)

    def encoded(
        self, color: Tensor, height: Tensor, foreground: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(color features, depth features) on the grid.

        With the encoder (compact) the amplified depth image, unshuffled to 64 channels, and its
        tint as 16 more channels of color; else the plain depth image and color as it is.
        """
        if self.encoder is not None:
            relief, tint = self.encoder(height, foreground, image)
            more = pixel_unshuffle(tint, UNSHUFFLE // 2)
            return torch.cat([color, more], dim=1), pixel_unshuffle(relief, UNSHUFFLE)
        share = functional.avg_pool2d(foreground, UNSHUFFLE)
        mean = functional.avg_pool2d(height, UNSHUFFLE) / share.clamp(min=1e-4)
        return (
            color,
            pixel_unshuffle(height, UNSHUFFLE)
            + (1 - pixel_unshuffle(foreground, UNSHUFFLE)) * mean,
        )

    def whitened(self, color: Tensor, depth: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both modalities with unit covariance over the training foreground."""
        whitened: Tensor = self.whiten_color(color)
        return whitened, None if self.whiten_depth is None else self.whiten_depth(depth)

    def fused(self, color: Tensor, depth: Tensor | None) -> tuple[Tensor, Tensor]:
        """(student's input, teacher's input), both (N, C, h, w)."""
        return cast(tuple[Tensor, Tensor], self.fusion(*self.whitened(color, depth)))

    def distance(self, joined: Tensor, attended: Tensor) -> Tensor:
        """Anomaly per cell (N, 1, h, w), see the module's text.

        Without the student the flow's likelihood, shifted to be positive.
        """
        z, log_det = self.flow(attended, self.position)
        channels = z.shape[1]
        if not self.switches["student"]:
            surprise: Tensor = functional.softplus(negative_log_likelihood(z, log_det) / channels)
            return surprise
        encoding = self.position.expand(joined.shape[0], -1, -1, -1)
        difference = (self.student(torch.cat([joined, encoding], dim=1)) - z).clamp(-BOUND, BOUND)
        squared: Tensor = (difference * difference).mean(dim=1, keepdim=True)
        power = METRICS[self.preset.metric[self.whiten_depth is None]]
        return squared if power == 0 else squared * torch.exp(log_det * (-power / channels))


class _Trainer:
    """The phases over cached features; everything here lives only while training."""

    def __init__(
        self, detector: MatsDetector, tensors: Mapping[str, Tensor], preset: MatsPreset, device: str
    ) -> None:
        self.detector, self.preset, self.device = detector, preset, device
        self.tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        mask = self.tensors["mask"]
        self.mask = mask if detector.switches["mask"] else torch.ones_like(mask)
        self.color, self.depth = self.tensors["color"], cast(Tensor | None, None)
        self.rows: dict[str, Tensor] = {}

    def depth_images(self, views: Tensor | slice) -> tuple[Tensor, Tensor, Tensor]:
        """(height, foreground, color image) of these views, as the encoder takes them."""
        height, foreground, color = (
            self.tensors[name][views] for name in ("height", "foreground", "image")
        )
        return height, foreground.to(torch.float32), color.to(torch.float32)

    def begin_encoder(self) -> int:
        """Measure the depth noise that drawn relief is scaled by."""
        encoder = self.detector.encoder
        assert encoder is not None  # there is no such phase without one
        encoder.measure(self.tensors["height"], self.tensors["foreground"].to(torch.float32))
        return len(self.mask)

    def encoder_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """See encoder_error."""
        assert self.detector.encoder is not None  # there is no such phase without one
        return encoder_error(self.detector.encoder, *self.depth_images(batch), generator)

    @torch.no_grad()
    def begin_fusion(self) -> int:
        """Encode depth and whiten both modalities, once, with the statistics of the training
        foreground.
        """
        if self.depth is not None or self.color is not self.tensors["color"]:
            return len(self.mask)
        detector, color, depth = self.detector, self.color, None
        if detector.whiten_depth is not None:
            parts = [
                detector.encoded(
                    color[start : start + VIEWS_AT_ONCE],
                    *self.depth_images(slice(start, start + VIEWS_AT_ONCE)),
                )
                for start in range(0, len(color), VIEWS_AT_ONCE)
            ]
            color, depth = (torch.cat(list(column)) for column in zip(*parts, strict=True))
            detector.whiten_depth.fit(
                foreground_rows(depth, self.mask), self.preset.shrink, full=True
            )
        detector.whiten_color.fit(foreground_rows(color, self.mask), self.preset.shrink, full=False)
        self.color, self.depth = detector.whitened(color, depth)
        return len(self.mask)

    def fusion_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Foreground error of clean target features rebuilt from noisy ones, by CAA and by MDLA
        after it.
        """
        color, depth, mask = (
            self.color[batch],
            None if self.depth is None else self.depth[batch],
            self.mask[batch],
        )
        clean = color if depth is None else torch.cat([color, depth], dim=1)
        joined, attended = self.detector.fusion(
            self._noisy(color, generator), None if depth is None else self._noisy(depth, generator)
        )
        loss = masked_mean((attended - clean) ** 2, mask)
        if self.detector.fusion.color_caa is not None:
            loss = loss + masked_mean((joined - clean) ** 2, mask)
        return loss

    def _noisy(self, features: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(features.shape, generator=generator).to(features.device)
        return features + self.preset.noise * noise

    @torch.no_grad()
    def begin_teacher(self) -> int:
        """Fuse all cached features once; keep the foreground cells as rows."""
        self.begin_fusion()
        joined, attended = [], []
        for start in range(0, len(self.color), VIEWS_AT_ONCE):
            part = slice(start, start + VIEWS_AT_ONCE)
            depth = None if self.depth is None else self.depth[part]
            first, second = self.detector.fusion(self.color[part], depth)
            joined.append(foreground_rows(first, self.mask[part]))
            attended.append(foreground_rows(second, self.mask[part]))
        encoding = self.detector.position.expand(len(self.color), -1, -1, -1)
        self.rows = {
            "joined": torch.cat(joined),
            "attended": torch.cat(attended),
            "position": foreground_rows(encoding, self.mask),
        }
        return len(self.rows["joined"])

    def teacher_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 13 per channel, over foreground cells."""
        del generator
        z, log_det = self._flow(batch)
        return negative_log_likelihood(z, log_det).mean() / z.shape[1]

    def _flow(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The flow on rows, as one image of B x 1 positions."""
        x, position = (
            self.rows[name][batch].T[None, :, :, None] for name in ("attended", "position")
        )
        return cast(tuple[Tensor, Tensor], self.detector.flow(x, position))

    @torch.no_grad()
    def begin_student(self) -> int:
        """Ask the frozen teacher once about every row."""
        count = len(self.rows["joined"]) if self.rows else self.begin_teacher()
        parts = [
            self._flow(part)[0][0, :, :, 0].T for part in torch.split(torch.arange(count), 8192)
        ]
        self.rows["teacher"] = torch.cat(parts)
        return count

    def student_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 14 per channel, over foreground cells."""
        del generator
        given = torch.cat([self.rows["joined"][batch], self.rows["position"][batch]], dim=1)
        return functional.mse_loss(
            self.detector.student.positions(given), self.rows["teacher"][batch]
        )


def foreground_rows(features: Tensor, mask: Tensor) -> Tensor:
    """(N, C, h, w) and (N, 1, h, w) -> (M, C): the cells where the mask is set, image by image."""
    return features.permute(0, 2, 3, 1)[mask[:, 0] > 0]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (N, C, h, w) over the cells where mask (N, 1, h, w) is set: the background does not
    count.
    """
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)


class Mats:
    """MATS as a row of the registry."""

    name = "mats"
    presets = tuple(PRESETS)
    top_k_candidates = (0.002, 0.005, 0.01, 0.02, 0.05)
    takes_backbone = False
    pretrains = None

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole cells.

        The depth image has UNSHUFFLE x UNSHUFFLE values a cell.
        """
        chosen = PRESETS[preset]
        stride = chosen.backbone.strides[-1]
        color = working_size(height_px, width_px, chosen.long_side)
        depth = (color[0] // stride * UNSHUFFLE, color[1] // stride * UNSHUFFLE)
        return WorkingSizes(color, depth if with_depth else None)

    def build(self, request: BuildRequest) -> MatsDetector:
        """The untrained detector; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return MatsDetector(PRESETS[request.preset], request).eval()

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        """Cache frozen features, whiten, then fusion, teacher and student, each frozen before the
        next begins.
        """
        assert isinstance(detector, MatsDetector)  # the registry pairs build and fit
        preset = PRESETS[request.preset]
        tell = request.control.tell
        if detector.whiten_depth is None and detector.switches["caa"]:
            tell("color only: the cross-modal amplifier needs two modalities and is off")
        kind = (
            preset.backbone,
            preset.pool_finer,
            preset.copies,
            preset.augmentation,
            request.seed,
        )
        recipe = f"mats 3 {kind} {weights_digest(detector.trunk)}"
        tell(f"features of {images.count} images, {1 + preset.copies} views each")
        tensors = images.cached(recipe, lambda: _frozen_features(detector, images, preset, request))
        trainer = _Trainer(detector.to(request.device), tensors, preset, request.device)
        curves = fit_phases(
            detector, _phases(trainer, preset, request.epochs), request.seed, request.control
        )
        detector.cpu().requires_grad_(False).eval()
        return curves


def _phases(trainer: _Trainer, preset: MatsPreset, epochs: int | None) -> list[Phase]:
    """Fusion (if anything is there to learn), teacher, student."""
    detector = trainer.detector
    color_only = int(detector.whiten_depth is None)
    common = Phase(
        "", detector, (), lambda: 0, trainer.fusion_loss, 0, 8, 0.0, schedule=preset.copies > 0
    )
    fusion = replace(
        common,
        name="fusion",
        module=detector.fusion,
        parameters=list(detector.fusion.parameters()),
        begin=trainer.begin_fusion,
        loss=trainer.fusion_loss,
        epochs=epochs or preset.fusion_epochs,
        rate=preset.rates[0],
        steps_per_epoch=preset.fusion_steps,
    )
    teacher = replace(
        common,
        name="teacher",
        module=detector.flow,
        parameters=list(detector.flow.parameters()),
        begin=trainer.begin_teacher,
        loss=trainer.teacher_loss,
        epochs=epochs or preset.teacher_epochs[color_only],
        rate=preset.rates[1],
        batch_size=preset.batch_size,
        steps_per_epoch=preset.steps_per_epoch,
    )
    student = replace(
        teacher,
        name="student",
        module=detector.student,
        parameters=list(detector.student.parameters()),
        begin=trainer.begin_student,
        loss=trainer.student_loss,
        epochs=epochs or preset.student_epochs[color_only],
        rate=preset.rates[2],
    )
    first = (
        []
        if detector.encoder is None
        else [
            replace(
                common,
                name="depth",
                module=detector.encoder,
                parameters=list(detector.encoder.parameters()),
                begin=trainer.begin_encoder,
                loss=trainer.encoder_loss,
                epochs=epochs or preset.encoder_epochs,
                rate=preset.encoder_rate,
                batch_size=preset.encoder_batch,
                steps_per_epoch=preset.encoder_steps,
            )
        ]
    )
    wanted = [fusion] if list(detector.fusion.parameters()) else []
    return [*first, *wanted, teacher, *([student] if detector.switches["student"] else [])]


@torch.no_grad()
def _frozen_features(
    detector: MatsDetector, images: TrainingImages, preset: MatsPreset, request: FitRequest
) -> dict[str, Tensor]:
    """What never learns, of every view: color features and mask on the grid.

    With depth also the depth image's height (meters) and foreground, and the color image (both
    uint8).
    """
    detector.to(request.device)
    parts: dict[str, list[Tensor]] = {}
    for views in images.with_copies(preset.augmentation, preset.copies, request.seed):
        on_device = moved_to(views, request.device)
        computed = {
            "color": detector.color_features(on_device),
            "mask": detector.grid_mask(on_device),
        }
        if on_device.height is not None:
            computed["height"] = on_device.height
            computed["foreground"] = on_device.foreground.to(torch.uint8)
            computed["image"] = on_device.color.round().to(torch.uint8)
        for name, tensor in computed.items():
            parts.setdefault(name, []).append(tensor.cpu())
    return {name: torch.cat(tensors) for name, tensors in parts.items()}


def create_system() -> System[MatsDetector]:
    """For the registry."""
    return Mats()
