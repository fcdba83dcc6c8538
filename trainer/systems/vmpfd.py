"""VMPFD-AD wired (draft)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.bundle.manifest import TensorSpec
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.graph.deploy import Answer
from trainer.graph.preprocess import Prepared
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.autoencoder import LAYERS, CnnEncoder, Code, Decoder
from trainer.layers.gmdn import MixtureDensityNetwork, greatest_density, log_likelihood
from trainer.layers.pdn import PatchDescriptors
from trainer.layers.ssim import ssim_map
from trainer.layers.vim import VimEncoder
from trainer.pretrain.pdn import RECIPES, Distillation, Teacher, read_pdn
from trainer.systems.base import BuildRequest, FitRequest, WorkingSizes
from trainer.systems.levels import copies_for, level_sizes, rows_of

SWITCHES = {
    "global": True,
    "local": True,
    "vim_features": True,
    "pdn_features": True,
    "cnn_encoder": False,
    "patch16": False,
}
BRANCHES = ("local", "global")
QUANTILES = {"start": 0.9, "end": 0.995}
LEAST_SPAN = 1e-3  # eps: of end - start, in the maps' units
BOUND = 8.0
ERROR_SCALE = 100.0
MSE_WEIGHT = 5.0
HELD_OUT = 0.1
LEAST_HELD = 2
AT_ONCE = 16


@dataclass(frozen=True)
class VmpfdPreset:
    """Sizes and training of one preset."""

    descriptors: str
    patch: int
    width: int
    inner: int
    states: int
    blocks: int
    code: int | None
    decoder: tuple[int, int, int, int, int]
    image_side: int
    shrink: float
    dims: int
    components: int
    hidden: int
    adapter: int
    floor: float
    views: int
    augmentation: Augmentation
    epochs: int
    steps_per_epoch: int | None
    batch_size: int
    rate: float = 1e-3
    weight_decay: float = 1e-4
    long_side: int = 256
    map_side: int = 64
    blur: float = 1.0


PAPER = VmpfdPreset(
    descriptors="paper",
    patch=32,
    width=192,
    inner=384,
    states=16,
    blocks=4,
    code=None,
    decoder=(256, 128, 64, 32, 16),
    image_side=256,
    shrink=1.0,
    dims=96,
    components=4,
    hidden=128,
    adapter=192,
    floor=1e-3,
    views=0,
    augmentation=Augmentation(),
    epochs=200,
    steps_per_epoch=None,
    batch_size=48,
)
COMPACT = VmpfdPreset(
    descriptors="compact",
    patch=32,
    width=64,
    inner=128,
    states=4,
    blocks=4,
    code=64,
    decoder=(64, 64, 48, 32, 32),
    image_side=64,
    shrink=1.0,
    dims=96,
    components=2,
    hidden=64,
    adapter=32,
    floor=1e-3,
    views=256,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    epochs=64,
    steps_per_epoch=16,
    batch_size=16,
)
PRESETS: dict[str, VmpfdPreset] = {"paper": PAPER, "compact": COMPACT}


class PrincipalAxes(nn.Module):
    """A fixed projection of descriptors onto the axes of their covariance, the least variable ones where it cuts.

    y = U^T (x - mean) / sqrt(eigenvalues + shrink * mean eigenvalue), clipped at BOUND.
    """

    matrix: Tensor
    mean: Tensor

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(channels)[:dims].clone())
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, descriptors: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, D, h, w)."""
        turned = functional.conv2d(descriptors, self.matrix[:, :, None, None], -self.matrix @ self.mean)
        return turned.clamp(-BOUND, BOUND)

    @torch.no_grad()
    def fit(self, rows: Tensor, shrink: float) -> None:
        """Take the statistics of rows (M, C), in float64."""
        wide = rows.double()
        mean = wide.mean(dim=0)
        values, vectors = torch.linalg.eigh((wide - mean).T @ (wide - mean) / len(wide))
        scales = (values.clamp(min=0) + shrink * values.mean()).clamp(min=1e-12).rsqrt()
        self.mean.copy_(mean)
        self.matrix.copy_((vectors * scales).T[: len(self.matrix)])


class LocalBranch(nn.Module):
    """Block feature distribution: descriptors, their axes, the adapter and the mixture of every patch."""

    def __init__(self, preset: VmpfdPreset, cells: int, sources: dict[str, bool]) -> None:
        super().__init__()
        self.cells, self.sources, dims = cells, sources, preset.dims
        self.axes = PrincipalAxes(PatchDescriptors(preset.descriptors).channels, dims)
        self.adapter = nn.Conv2d(dims, preset.adapter, 3, padding=1)
        condition = preset.adapter * sources["pdn_features"] + preset.width * sources["vim_features"]
        self.mixture = MixtureDensityNetwork(condition, dims, preset.components, preset.hidden, preset.floor)

    def log_density(self, y: Tensor, tokens: Tensor) -> Tensor:
        """log p(y | x) per dimension, (N, 1, h, w), of y (N, D, h, w) under the mixtures of tokens (N, E, h', w')."""
        parts = [tokens] if self.sources["vim_features"] else []
        if self.sources["pdn_features"]:
            parts.append(torch.relu(self.adapter(functional.avg_pool2d(y, self.cells))))
        condition = torch.cat(parts, dim=1).flatten(2).transpose(1, 2)
        densities = log_likelihood(self._by_patch(y), self.mixture(condition))
        count, _, rows, columns = y.shape
        cells, down, across = self.cells, rows // self.cells, columns // self.cells
        grouped = densities.reshape(count, down, across, cells, cells).transpose(2, 3)
        return grouped.reshape(count, 1, rows, columns) / y.shape[1]

    def _by_patch(self, y: Tensor) -> Tensor:
        """(N, D, h, w) -> (N, T, S, D): the S descriptors that lie on each of T patches."""
        count, dims, rows, columns = y.shape
        cells, down, across = self.cells, rows // self.cells, columns // self.cells
        grouped = y.reshape(count, dims, down, cells, across, cells).permute(0, 2, 4, 3, 5, 1)
        return grouped.reshape(count, down * across, cells * cells, dims)

    def surprise(self, y: Tensor, tokens: Tensor) -> Tensor:
        """Local anomaly (N, 1, h, w) >= 0."""
        most = greatest_density(y.shape[1], self.mixture.floor) / y.shape[1]
        return (most - self.log_density(y, tokens)).clamp(min=0)


class VmpfdDetector(nn.Module):
    """The detector of the deployed graph."""

    def __init__(self, preset: VmpfdPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset = preset
        self.switches = {name: (request.switches or {}).get(name, value) for name, value in SWITCHES.items()}
        patch = 16 if self.switches["patch16"] else preset.patch
        height, width = request.sizes.color
        self.tokens = height // patch, width // patch
        long_side = max(height, width)
        self.map_size = preset.map_side * height // long_side, preset.map_side * width // long_side
        self.image_size = preset.image_side * height // long_side, preset.image_side * width // long_side
        self.encoder = _encoder(preset, self.tokens, patch, self.switches["cnn_encoder"])
        self.code = Code(preset.width, self.tokens, preset.code) if preset.code else None
        self.decoder = Decoder((preset.width, *preset.decoder), (self.image_size[0] // self.tokens[0]).bit_length() - 1)
        self.descriptors = PatchDescriptors(preset.descriptors)
        stride = self.descriptors.stride
        self.local = LocalBranch(preset, patch // stride, self.switches)
        self.grid = height // stride, width // stride
        self.to_local = AnomalyMap(self.grid, self.map_size, preset.blur)
        self.to_global = AnomalyMap(self.map_size, self.map_size, preset.blur)
        self.quantiles = {f"{branch}_{name}": float(name == "end") for branch in self.branches for name in QUANTILES}
        self.teacher: Teacher | None = None
        if request.pretrained is not None:
            self.descriptors.load_state_dict(read_pdn(request.pretrained, preset.descriptors))
        elif not request.random_backbone:
            self.teacher = Teacher(RECIPES[preset.descriptors], request.weights, stride, self.descriptors.channels)

    @property
    def branches(self) -> list[str]:
        return [branch for branch in BRANCHES if self.switches[branch]]

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name=name, dtype="float32", shape=(1,), default=value) for name, value in self.quantiles.items()
        )

    def get_extra_state(self) -> Tensor:
        """The quantiles: plain numbers here, because tracing a graph reads no tensor's value."""
        return torch.tensor(list(self.quantiles.values()))

    def set_extra_state(self, state: Tensor) -> None:
        """As they were stored."""
        self.quantiles = dict(zip(self.quantiles, state.tolist(), strict=True))

    def forward(self, prepared: Prepared, **site: Tensor) -> Answer:
        maps = self.raw_maps(prepared)
        total = torch.stack([
            (one - site[f"{branch}_start"]) / (site[f"{branch}_end"] - site[f"{branch}_start"]).clamp(min=LEAST_SPAN)
            for branch, one in maps.items()
        ]).sum(dim=0)
        return Answer(functional.softplus(total), torch.cat(list(maps.values()), dim=1))

    def raw_maps(self, prepared: Prepared) -> dict[str, Tensor]:
        image = scaled(prepared.color)
        tokens = self.encoder(image)
        maps = {}
        if self.switches["local"]:
            surprise = self.local.surprise(self.local.axes(self.descriptors(image)), tokens)
            maps["local"] = self.to_local(surprise, share(prepared.foreground, self.grid))
        if self.switches["global"]:
            error = self.error(image, self.given_back(tokens))
            maps["global"] = self.to_global(error, share(prepared.foreground, self.map_size))
        return maps

    def given_back(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.decoder(tokens if self.code is None else self.code(tokens)))

    def wanted(self, image: Tensor) -> Tensor:
        factor = image.shape[2] // self.image_size[0]
        return functional.avg_pool2d(image, factor) if factor > 1 else image

    def error(self, image: Tensor, given: Tensor) -> Tensor:
        difference = given - self.wanted(image)
        squared = ERROR_SCALE * (difference * difference).mean(dim=1, keepdim=True)
        factor = self.image_size[0] // self.map_size[0]
        return functional.avg_pool2d(squared, factor) if factor > 1 else squared

    def learning(self) -> nn.Module:
        return nn.ModuleList([part for part in (self.encoder, self.code, self.decoder, self.local) if part is not None])


def scaled(color: Tensor) -> Tensor:
    return color / 127.5 - 1


def share(foreground: Tensor, size: tuple[int, int]) -> Tensor:
    factor = foreground.shape[2] // size[0]
    covered = functional.avg_pool2d(foreground, factor) if factor > 1 else foreground
    return (covered > 1e-4).to(torch.float32)


def _encoder(preset: VmpfdPreset, grid: tuple[int, int], patch: int, cnn: bool) -> nn.Module:
    if not cnn:
        return VimEncoder(grid, patch, preset.width, preset.inner, preset.states, preset.blocks)
    halvings = patch.bit_length() - 1
    widths = [min(preset.width, 16 * 2**level) for level in range(halvings - 1)]
    return CnnEncoder((*widths, preset.width))


@dataclass
class _Trainer:
    detector: VmpfdDetector
    image: Tensor
    foreground: Tensor
    train: Tensor
    held: Tensor
    device: str
    y: Tensor = field(default_factory=lambda: torch.zeros(0))

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        del generator
        return self.image[self.train[batch]].float()

    @torch.no_grad()
    def begin(self) -> int:
        detector = self.detector
        masks = share(self.foreground.float(), detector.grid)
        parts = [detector.descriptors(self.seen(part)).cpu() for part in torch.split(torch.arange(len(self.image)), AT_ONCE)]
        raw = torch.cat(parts)
        detector.local.axes.fit(rows_of(raw[self.train], masks[self.train]), detector.preset.shrink)
        self.y = torch.cat([detector.local.axes(part.to(self.device)).half().cpu() for part in torch.split(raw, AT_ONCE)])
        return len(self.train)

    def seen(self, views: Tensor) -> Tensor:
        return scaled(self.image[views].to(self.device, torch.float32))

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        del generator
        detector, views = self.detector, self.train[batch]
        image = self.seen(views)
        tokens = detector.encoder(image)
        total = torch.zeros((), device=self.device)
        if detector.switches["local"]:
            total = total - self.log_likelihood(views, tokens)
        wanted, given = detector.wanted(image), detector.given_back(tokens)
        mask = share(self.foreground[views].to(self.device, torch.float32), (given.shape[2], given.shape[3]))
        difference = given - wanted
        return total + MSE_WEIGHT * masked(difference * difference, mask) + 1 - masked(ssim_map(given, wanted), mask)

    def log_likelihood(self, views: Tensor, tokens: Tensor) -> Tensor:
        detector = self.detector
        mask = share(self.foreground[views].to(self.device, torch.float32), detector.grid)
        return masked(detector.local.log_density(self.y[views].to(self.device, torch.float32), tokens), mask)

    def held_out(self) -> float:
        parts = torch.split(self.held, AT_ONCE)
        figures = [len(part) * float(self.log_likelihood(part, self.detector.encoder(self.seen(part)))) for part in parts]
        return sum(figures) / len(self.held)

    @torch.no_grad()
    def settle(self) -> None:
        detector = self.detector
        values: dict[str, list[Tensor]] = {}
        for part in torch.split(self.held, AT_ONCE):
            ones = torch.ones(len(part), device=self.device)
            foreground = self.foreground[part].to(self.device, torch.float32)
            prepared = Prepared(self.image[part].to(self.device, torch.float32), None, foreground, None, ones, ones)
            inside = share(foreground, detector.map_size) > 0
            for branch, one in detector.raw_maps(prepared).items():
                values.setdefault(branch, []).append(one[inside].cpu())
        for branch, cells in values.items():
            joined = torch.cat(cells).sort().values
            for name, quantile in QUANTILES.items():
                detector.quantiles[f"{branch}_{name}"] = float(joined[round(quantile * (len(joined) - 1))])


def masked(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)


class Vmpfd:
    """VMPFD-AD as a row of the registry."""

    name = "vmpfd"
    presets = tuple(PRESETS)
    top_k_candidates = (0.0002, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        return level_sizes(height_px, width_px, PRESETS[preset].long_side, with_depth)

    def build(self, request: BuildRequest) -> VmpfdDetector:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return VmpfdDetector(PRESETS[request.preset], request).eval()

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        assert isinstance(detector, VmpfdDetector)
        preset, device = PRESETS[request.preset], request.device
        copies = copies_for(images.count, preset.views)
        recipe = f"vmpfd 1 {preset.augmentation} {copies} {request.seed}"
        request.control.tell(f"{images.count} images, {1 + copies} views each")
        views = images.cached(recipe, lambda: _views(images, preset, copies, request.seed))
        train, held = _split(images.count, copies, request.seed)
        trainer = _Trainer(detector.to(device), views["image"], views["foreground"], train, held, device)
        phases = []
        if detector.teacher is not None:
            size = (views["image"].shape[2], views["image"].shape[3])
            distillation = Distillation(detector.descriptors, detector.teacher, trainer.draw, len(train), size, device)
            phases.append(distillation.phase(RECIPES[preset.descriptors], request.epochs))
        module = detector.learning()
        phases.append(Phase(
            "training", module, list(module.parameters()), trainer.begin, trainer.loss,
            request.epochs or preset.epochs, preset.batch_size, preset.rate, preset.weight_decay,
            steps_per_epoch=preset.steps_per_epoch, held_out=trainer.held_out if detector.switches["local"] else None,
        ))
        curves = fit_phases(detector, phases, request.seed, request.control)
        trainer.settle()
        detector.teacher = None
        detector.cpu().requires_grad_(False).eval()
        return curves


def _views(images: TrainingImages, preset: VmpfdPreset, copies: int, seed: int) -> dict[str, Tensor]:
    batches = list(images.with_copies(preset.augmentation, copies, seed))
    return {
        "image": torch.cat([batch.color.half() for batch in batches]),
        "foreground": torch.cat([batch.foreground.to(torch.uint8) for batch in batches]),
    }


def _split(count: int, copies: int, seed: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = min(max(LEAST_HELD, round(HELD_OUT * count)), count // 2)
    whole = torch.arange(count)
    out, kept = (order[:held], order[held:]) if held else (whole, whole)
    every = (kept.sort().values[:, None] * (1 + copies) + torch.arange(1 + copies)).flatten()
    return every, out.sort().values * (1 + copies)


def create_system() -> Vmpfd:
    """For the registry."""
    return Vmpfd()
