"""VMPFD-AD: vision Mamba and the distribution of patch features (Liu and Zhuang, Journal of Image
and Graphics, 2025).

Two branches judge the color image, and their maps are added:

global    A ViM encoder (trainer.systems.vmpfd.vim) reads the patches as tokens, a decoder
          reconstructs the image; the squared error is the global map. It sees what is in the wrong
          place: logical defects.
local     A patch description network (trainer.systems.vmpfd.pdn), distilled from a frozen backbone
          and frozen then, describes every small patch. A mixture density network
          (trainer.systems.vmpfd.gmdn) models for each token how the descriptors on its patch are
          distributed; their negative log-density is the local map. It sees structural defects.

What the paper leaves open, or the device needs, settled here:

- Condition (equations 11 to 13 name one feature as both condition and value). y is the descriptors,
  x the token of the patch they lie on: the encoder's token beside the adapter's, which sees the
  descriptors' mean over the patch and its neighbors. A patch has 16 descriptors (`paper`: 64), and
  none of them is in x by itself.
- y. Descriptors are turned to the principal axes of normal ones and scaled (`PrincipalAxes`), so
  that defects in directions in which normal ones hardly vary count; `paper` keeps the least
  variable quarter of 384.
- Code. In `compact` all tokens pass through one short vector on their way to the decoder
  (trainer.systems.vmpfd.autoencoder). Without it the tokens pass the image through patch by patch,
  a fuse in the wrong place as well as any other: 44 image AUROC on the fuse box's logical defects
  instead of 80 (plain error, four views of an image, seed 0).
- The decoder gives the image back at `image_side`; in `compact` that is the map's own resolution.
- Relative error. In `compact` the squared error of a map cell is divided by the mean error there
  over normal views, plus that over all cells: an edge that is never given back sharply is no
  defect. On the fuse box's logical defects both branches together have 93 image AUROC with it and
  67 without (three seeds).
- Quantiles (equations 15 to 20) are of the foreground of a tenth of the training images, which the
  two branches do not learn from. They are site tensors. The fused map is the softplus of the sum:
  normal cells lie below the first quantile, the sum there is negative, and a map may not be. Its
  order stays.
- Score: the mean of the top k %; the smallest candidate is the paper's maximum (equation 21), the
  largest 0.2 %: small defects are few cells, and a larger share dilutes them.
- Losses count where the part is. The optimizer is Adam, its rate in one cycle.
- Equation 8 is one loss for all; in `compact` the encoder learns from the reconstruction alone. The
  likelihood's gradient makes tokens that tell descriptors apart, not ones that the image can be
  given back from.
- Normal views. The vector through which all tokens pass must hold what differs between normal parts
  and nothing else; from few images that is learned from many views, 17 of each where there are 60.

With depth the part's foreground comes from it; depth itself is not judged.

Site tensors, one number each: `local_start`, `local_end`, `global_start`, `global_end`; `features`
of the graph are the two raw maps they act on.

Switches, on unless turned off: `global`, `local` (a branch that is off is neither trained nor
asked), `vim_features`, `pdn_features` (what the mixture's x is made of). Off unless turned on:
`cnn_encoder` (a plain convolutional encoder in ViM's place), `plain_error` (no relative error),
`as_published` (nor a code, and the likelihood teaches the encoder: the paper's reconstruction at
`compact`'s sizes and views), `patch16` (patches of 16 pixels, four times as many tokens: the paper
names its 64 tokens as its limit).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from trainer.graph.preprocess import ANY, Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers.anomaly_map import AnomalyMap
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.sizes import level_sizes
from trainer.systems.common.views import copies_for
from trainer.systems.seam import BuildRequest, FitRequest, Modality, System
from trainer.systems.vmpfd.autoencoder import CnnEncoder, Code, Decoder
from trainer.systems.vmpfd.gmdn import MixtureDensityNetwork, greatest_density, log_likelihood
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.pretraining import RECIPES, Distillation, Teacher, read_pdn
from trainer.systems.vmpfd.ssim import ssim_map
from trainer.systems.vmpfd.vim import VimEncoder

SWITCHES = {
    "global": True,
    "local": True,
    "vim_features": True,
    "pdn_features": True,
    "cnn_encoder": False,
    "plain_error": False,
    "as_published": False,
    "patch16": False,
}
BRANCHES = ("local", "global")
QUANTILES = {"start": 0.9, "end": 0.995}  # equations 15, 16, 18, 19
# of end - start, in the maps' units: the fused map stays finite in float16, whatever the site says
LEAST_SPAN = 0.02
BOUND = 8.0  # of y: what is further out is no more abnormal
ERROR_SCALE = 100.0  # of plain squared errors, in squares of -1..1
# of the global map: what is larger is no more abnormal, and all stays finite in float16
LARGEST_ERROR = 400.0
MSE_WEIGHT = 5.0  # lambda 1 of equation 8
HELD_OUT = 0.1  # share of the images that the branches do not learn from
LEAST_HELD = 2  # images
AT_ONCE = 16  # views
MOST_COPIES = 31  # of an image, augmented


@dataclass(frozen=True)
class VmpfdPreset:
    """Sizes and training of one preset.

    descriptors: kind of PDN. distil_epochs: of the recipe's steps, where no file of `trainer
    pretrain pdn` is given.
    patch: side of a token's patch, px. width, inner, states, blocks: of ViM. code: size of the
    vector that all tokens
    pass, None: they pass as they are. decoder: channels between its six layers. image_side: long
    side of the image that it gives back, px, a multiple of map_side. relative: whether its error
    is.
    shrink: see PrincipalAxes. dims, components, hidden, floor: of the mixtures. adapter: channels
    of the adapter.
    joint: whether the likelihood teaches the encoder too, where there is a reconstruction.
    views: about how many normal ones, augmented ones included. blur: sigma of the maps' Gaussian,
    in map cells.
    """

    descriptors: str
    distil_epochs: int
    patch: int
    width: int
    inner: int
    states: int
    blocks: int
    code: int | None
    decoder: tuple[int, int, int, int, int]
    image_side: int
    relative: bool
    shrink: float
    dims: int
    components: int
    hidden: int
    adapter: int
    floor: float
    joint: bool
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
    distil_epochs=100,
    patch=32,
    width=192,
    inner=384,
    states=16,
    blocks=4,
    code=None,
    decoder=(256, 128, 64, 32, 16),
    image_side=256,
    relative=False,
    shrink=0.1,
    dims=96,
    components=4,
    hidden=128,
    adapter=192,
    floor=4e-4,
    joint=True,
    views=0,
    augmentation=Augmentation(),
    epochs=200,
    steps_per_epoch=None,
    batch_size=48,
)
COMPACT = VmpfdPreset(
    descriptors="compact",
    distil_epochs=4,
    patch=32,
    width=64,
    inner=128,
    states=4,
    blocks=4,
    code=64,
    decoder=(64, 64, 64, 48, 32),
    image_side=64,
    relative=True,
    shrink=0.1,
    dims=96,
    components=2,
    hidden=64,
    adapter=32,
    floor=4e-4,
    joint=False,
    views=1024,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    epochs=50,
    steps_per_epoch=20,
    batch_size=8,
    rate=2e-3,
)
PRESETS: dict[str, VmpfdPreset] = {"paper": PAPER, "compact": COMPACT}


class PrincipalAxes(nn.Module):
    """A fixed projection of descriptors onto the axes of their covariance, the least variable ones
    where it cuts.

    y = U^T (x - mean) / sqrt(eigenvalues + shrink * mean eigenvalue), clipped at BOUND.

    Args:
        channels: C of x. dims: D of y, at most C.
    """

    matrix: Tensor
    mean: Tensor

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(channels)[:dims].clone())
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, descriptors: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, D, h, w)."""
        turned = functional.conv2d(
            descriptors, self.matrix[:, :, None, None], -self.matrix @ self.mean
        )
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
    """Distribution of patch features (section 2.2): axes of the descriptors, adapter, a mixture for
    every token.

    Args:
        cells: descriptors along a side of a token's patch. sources: the switches `vim_features` and
            `pdn_features`.
    """

    def __init__(self, preset: VmpfdPreset, cells: int, sources: Mapping[str, bool]) -> None:
        super().__init__()
        self.cells, self.sources, dims = cells, sources, preset.dims
        self.axes = PrincipalAxes(PatchDescriptors(preset.descriptors).channels, dims)
        condition = preset.width * sources["vim_features"]
        if sources["pdn_features"]:
            self.adapter = nn.Conv2d(dims, preset.adapter, 3, padding=1)
            condition += preset.adapter
        self.mixture = MixtureDensityNetwork(
            condition, dims, preset.components, preset.hidden, preset.floor
        )

    def log_density(self, y: Tensor, tokens: Tensor) -> Tensor:
        """log p(y | x) / D (N, 1, h, w) of y (N, D, h, w), x the tokens (N, E, h', w'); equations 9
        to 13.
        """
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
        """How far log p(y | x) / D lies below its bound, (N, 1, h, w) >= 0."""
        most = greatest_density(y.shape[1], self.mixture.floor) / y.shape[1]
        return (most - self.log_density(y, tokens)).clamp(min=0)


class VmpfdDetector(nn.Module):
    """The detector of the deployed graph: Prepared and the quantiles -> fused map, and both raw
    maps as features.

    Raises: ConfigError if the switches leave no branch, or nothing that the mixture depends on.
    """

    gain: Tensor

    def __init__(self, preset: VmpfdPreset, request: BuildRequest) -> None:
        super().__init__()
        self.switches = {
            name: (request.switches or {}).get(name, usual) for name, usual in SWITCHES.items()
        }
        _require_something(self.switches)
        if self.switches["as_published"]:
            preset = replace(preset, code=None, relative=False, joint=True)
        self.preset = preset
        patch = 16 if self.switches["patch16"] else preset.patch
        height, width = request.sizes.color
        self.tokens = height // patch, width // patch
        long_side = max(height, width)
        self.map_size = preset.map_side * height // long_side, preset.map_side * width // long_side
        self.image_size = (
            preset.image_side * height // long_side,
            preset.image_side * width // long_side,
        )
        self.encoder = _encoder(preset, self.tokens, patch, cnn=self.switches["cnn_encoder"])
        self.code = self.decoder = self.local = None
        if self.switches["global"]:
            self.code = Code(preset.width, self.tokens, preset.code) if preset.code else None
            doublings = (self.image_size[0] // self.tokens[0]).bit_length() - 1
            self.decoder = Decoder((preset.width, *preset.decoder), doublings)
            self.register_buffer("gain", torch.full((1, 1, *self.map_size), ERROR_SCALE))
            self.to_global = AnomalyMap(self.map_size, self.map_size, preset.blur)
        if self.switches["local"]:
            self.descriptors = PatchDescriptors(preset.descriptors)
            stride = self.descriptors.stride
            self.grid = height // stride, width // stride
            self.local = LocalBranch(preset, patch // stride, self.switches)
            self.to_local = AnomalyMap(self.grid, self.map_size, preset.blur)
        self.quantiles = {
            f"{branch}_{name}": float(name == "end")
            for branch in self.branches
            for name in QUANTILES
        }
        self.teacher: Teacher | None = None
        if self.switches["local"] and request.pretrained is not None:
            self.descriptors.load_state_dict(read_pdn(request.pretrained, preset.descriptors))
        elif self.switches["local"] and not request.random_backbone:
            kind = RECIPES[preset.descriptors]
            self.teacher = Teacher(
                kind, request.weights, self.descriptors.stride, self.descriptors.channels
            )

    @property
    def branches(self) -> list[str]:
        """Those that judge, in the order of the raw maps."""
        return [branch for branch in BRANCHES if self.switches[branch]]

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """The quantiles, by default those of the training's held-out images."""
        return tuple(
            TensorSpec(name=name, dtype="float32", shape=(1,), default=value)
            for name, value in self.quantiles.items()
        )

    def get_extra_state(self) -> Tensor:
        """The quantiles: plain numbers here, because tracing a graph reads no tensor's value."""
        return torch.tensor(list(self.quantiles.values()))

    def set_extra_state(self, state: Tensor) -> None:
        """As they were stored."""
        self.quantiles = dict(zip(self.quantiles, state.tolist(), strict=True))

    def forward(self, prepared: Prepared, **site: Tensor) -> Answer:
        """Prepared batch and the quantiles (1,) by name -> Answer: equations 17 and 20, summed."""
        maps = self.raw_maps(prepared)
        total = torch.stack(
            [
                (one - site[f"{branch}_start"])
                / (site[f"{branch}_end"] - site[f"{branch}_start"]).clamp(min=LEAST_SPAN)
                for branch, one in maps.items()
            ]
        ).sum(dim=0)
        return Answer(functional.softplus(total), torch.cat(list(maps.values()), dim=1))

    def raw_maps(self, prepared: Prepared) -> dict[str, Tensor]:
        """LAM and GAM before they are normalized, (N, 1, H, W) each, of the branches that judge."""
        image = scaled(prepared.color)
        tokens = self.encoder(image)
        maps = {}
        if self.local is not None:
            surprise = self.local.surprise(self.local.axes(self.descriptors(image)), tokens)
            maps["local"] = self.to_local(surprise, share(prepared.foreground, self.grid))
        if self.decoder is not None:
            error = self.error(image, self.given_back(tokens))
            maps["global"] = self.to_global(error, share(prepared.foreground, self.map_size))
        return maps

    def given_back(self, tokens: Tensor) -> Tensor:
        """Tokens (N, E, h, w) -> the image (N, 3, hi, wi) in -1..1, hi and wi being image_size."""
        assert self.decoder is not None  # whoever asks has a global branch
        return cast(Tensor, self.decoder(tokens if self.code is None else self.code(tokens)))

    def wanted(self, image: Tensor) -> Tensor:
        """What the decoder should give: the image, reduced to its size."""
        factor = image.shape[2] // self.image_size[0]
        return functional.avg_pool2d(image, factor) if factor > 1 else image

    def error(self, image: Tensor, given: Tensor) -> Tensor:
        """Squared error of an image in -1..1 in every cell of the map, times the cell's gain: (N,
        1, H, W).
        """
        return (self.squared_error(image, given) * self.gain).clamp(max=LARGEST_ERROR)

    def squared_error(self, image: Tensor, given: Tensor) -> Tensor:
        """Mean over the colors and the pixels of a map cell, (N, 1, H, W)."""
        difference = given - self.wanted(image)
        squared = (difference * difference).mean(dim=1, keepdim=True)
        factor = self.image_size[0] // self.map_size[0]
        return functional.avg_pool2d(squared, factor) if factor > 1 else squared

    def learning(self) -> nn.Module:
        """What the training trains: everything but the descriptors."""
        return nn.ModuleList(
            [
                part
                for part in (self.encoder, self.code, self.decoder, self.local)
                if part is not None
            ]
        )


def _require_something(switches: Mapping[str, bool]) -> None:
    for names, what in (
        (BRANCHES, "branch that judges"),
        (("vim_features", "pdn_features"), "source of features"),
    ):
        if not any(switches[name] for name in names):
            raise ConfigError(
                f"vmpfd: no {what} is left: switch at least one of {', '.join(names)} on"
            )


def _encoder(preset: VmpfdPreset, grid: tuple[int, int], patch: int, *, cnn: bool) -> nn.Module:
    """ViM, or convolutions down to the same tokens."""
    if not cnn:
        return VimEncoder(grid, patch, preset.width, preset.inner, preset.states, preset.blocks)
    halvings = patch.bit_length() - 1
    return CnnEncoder(
        (*(min(preset.width, 16 * 2**level) for level in range(halvings - 1)), preset.width)
    )


def scaled(color: Tensor) -> Tensor:
    """0..255 -> -1..1."""
    return color / 127.5 - 1


def share(foreground: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells of `size` with any foreground (N, 1, hd, wd), 0 or 1: (N, 1, h, w)."""
    rows = foreground.shape[2]
    if size[0] > rows:
        return functional.interpolate(foreground, size=size, mode="nearest")
    covered = functional.avg_pool2d(foreground, rows // size[0]) if rows > size[0] else foreground
    return (covered > ANY).to(torch.float32)


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (N, C, h, w) over the cells of mask (N, 1, h, w); 0 where it is empty."""
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)


class _Trainer:
    """The training over cached views; everything here lives only while training."""

    def __init__(
        self,
        detector: VmpfdDetector,
        views: Mapping[str, Tensor],
        train: Tensor,
        held: Tensor,
        device: str,
    ) -> None:
        self.detector, self.device = detector, device
        self.image, self.foreground = views["image"], views["foreground"]
        self.train, self.held = train, held
        self.y = torch.zeros(0)

    def draw(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Color of some of the training views, for the distillation of the descriptors."""
        del generator
        return self.image[self.train[batch]].float()

    @torch.no_grad()
    def begin(self) -> int:
        """The descriptors are frozen now: their axes, and y of all views, once, float16."""
        detector = self.detector
        if detector.local is not None:
            views = torch.split(torch.arange(len(self.image)), AT_ONCE)
            raw = torch.cat([detector.descriptors(self.seen(part)).cpu() for part in views])
            mask = share(self.foreground[self.train].float(), detector.grid)
            detector.local.axes.fit(rows_of(raw[self.train], mask), detector.preset.shrink)
            parts = [
                detector.local.axes(part.to(self.device)) for part in torch.split(raw, AT_ONCE)
            ]
            self.y = torch.cat([part.half().cpu() for part in parts])
        return len(self.train)

    def seen(self, views: Tensor) -> Tensor:
        """These views in -1..1, (B, 3, h, w)."""
        return scaled(self.image[views].to(self.device, torch.float32))

    def mask(self, views: Tensor, size: tuple[int, int]) -> Tensor:
        """Foreground of these views at a size."""
        return share(self.foreground[views].to(self.device, torch.float32), size)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 8, of the branches that judge; the likelihood per dimension of y."""
        del generator
        detector, views = self.detector, self.train[batch]
        image = self.seen(views)
        tokens = detector.encoder(image)
        total = torch.zeros((), device=self.device)
        if detector.local is not None:
            joint = detector.preset.joint or detector.decoder is None
            total = total - self.log_likelihood(views, tokens if joint else tokens.detach())
        if detector.decoder is None:
            return total
        wanted, given = detector.wanted(image), detector.given_back(tokens)
        mask = self.mask(views, detector.image_size)
        difference = given - wanted
        return (
            total
            + MSE_WEIGHT * masked(difference * difference, mask)
            + 1
            - masked(ssim_map(given, wanted), mask)
        )

    def log_likelihood(self, views: Tensor, tokens: Tensor) -> Tensor:
        """Mean log p(y | x) / D of some views over the foreground."""
        assert self.detector.local is not None  # whoever asks has a local branch
        y = self.y[views].to(self.device, torch.float32)
        return masked(
            self.detector.local.log_density(y, tokens), self.mask(views, self.detector.grid)
        )

    def held_out(self) -> float:
        """The same of the held-out images."""
        parts = torch.split(self.held, AT_ONCE)
        figures = [
            len(part) * float(self.log_likelihood(part, self.detector.encoder(self.seen(part))))
            for part in parts
        ]
        return sum(figures) / len(self.held)

    @torch.no_grad()
    def settle(self) -> None:
        """What is usual in every cell, then equations 15, 16, 18 and 19 on the held-out images."""
        detector = self.detector
        if (
            detector.decoder is not None
            and detector.preset.relative
            and not detector.switches["plain_error"]
        ):
            detector.gain.copy_(1 / self.usual_error())
        values: dict[str, list[Tensor]] = {}
        for part in torch.split(self.held, AT_ONCE):
            ones = torch.ones(len(part), device=self.device)
            foreground = self.foreground[part].to(self.device, torch.float32)
            color = self.image[part].to(self.device, torch.float32)
            inside = share(foreground, detector.map_size) > 0
            for branch, one in detector.raw_maps(
                Prepared(color, None, foreground, None, ones, ones)
            ).items():
                values.setdefault(branch, []).append(one[inside].cpu())
        for branch, cells in values.items():
            joined = torch.cat(cells).sort().values
            for name, quantile in QUANTILES.items():
                if len(joined):
                    detector.quantiles[f"{branch}_{name}"] = float(
                        joined[round(quantile * (len(joined) - 1))]
                    )

    def usual_error(self) -> Tensor:
        """Mean squared error of the training views in every cell of the map, (1, 1, H, W), plus
        that of all cells.

        Both over the foreground.
        """
        detector = self.detector
        errors = torch.zeros(1, 1, *detector.map_size, device=self.device)
        seen = torch.zeros_like(errors)
        for part in torch.split(self.train, AT_ONCE):
            image, mask = self.seen(part), self.mask(part, detector.map_size)
            squared = detector.squared_error(image, detector.given_back(detector.encoder(image)))
            errors += (squared * mask).sum(dim=0, keepdim=True)
            seen += mask.sum(dim=0, keepdim=True)
        overall = errors.sum() / seen.sum().clamp(min=1)
        return errors / seen.clamp(min=1) + overall.clamp(min=1 / LARGEST_ERROR**2)


class Vmpfd:
    """VMPFD-AD as a row of the registry."""

    name = "vmpfd"
    presets = tuple(PRESETS)
    top_k_candidates = (0.0002, 0.001, 0.002)
    takes_backbone = False
    pretrains: Modality = "color"

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole patches; depth serves the foreground."""
        return level_sizes(height_px, width_px, PRESETS[preset].long_side, with_depth)

    def build(self, request: BuildRequest) -> VmpfdDetector:
        """The untrained detector; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return VmpfdDetector(PRESETS[request.preset], request).eval()

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        """Distil the descriptors unless they were given, train both branches together, take the
        quantiles.
        """
        assert isinstance(detector, VmpfdDetector)  # the registry pairs build and fit
        preset = PRESETS[request.preset]
        copies = copies_for(images.count, preset.views, MOST_COPIES)
        request.control.tell(f"{images.count} images, {1 + copies} views each")
        recipe = f"vmpfd 1 {preset.augmentation} {copies} {request.seed}"
        views = images.cached(recipe, lambda: _views(images, preset, copies, request.seed))
        train, held = _split(images.count, copies, request.seed)
        trainer = _Trainer(detector.to(request.device), views, train, held, request.device)
        curves = fit_phases(detector, _phases(trainer, request), request.seed, request.control)
        trainer.settle()
        detector.teacher = None
        detector.cpu().requires_grad_(False).eval()
        return curves


def _phases(trainer: _Trainer, request: FitRequest) -> list[Phase]:
    """The descriptors' distillation where there is a teacher, then the training."""
    detector = trainer.detector
    preset, phases = detector.preset, []
    if detector.teacher is not None:
        size = (trainer.image.shape[2], trainer.image.shape[3])
        distillation = Distillation(
            detector.descriptors,
            detector.teacher,
            trainer.draw,
            len(trainer.train),
            size,
            request.device,
        )
        phases.append(
            distillation.phase(RECIPES[preset.descriptors], request.epochs or preset.distil_epochs)
        )
    module = detector.learning()
    phases.append(Phase(
        "training", module, list(module.parameters()), trainer.begin, trainer.loss,
        request.epochs or preset.epochs, preset.batch_size, preset.rate, preset.weight_decay,
        steps_per_epoch=preset.steps_per_epoch,
        held_out=None if detector.local is None else trainer.held_out,
    ))  # fmt: skip
    return phases


def _views(
    images: TrainingImages, preset: VmpfdPreset, copies: int, seed: int
) -> dict[str, Tensor]:
    """Color (n, 3, h, w) float16 0..255 and foreground (n, 1, hd, wd) uint8 of every image and its
    copies.
    """
    batches = list(images.with_copies(preset.augmentation, copies, seed))
    return {
        "image": torch.cat([batch.color.half() for batch in batches]),
        "foreground": torch.cat([batch.foreground.to(torch.uint8) for batch in batches]),
    }


def _split(count: int, copies: int, seed: int) -> tuple[Tensor, Tensor]:
    """Numbers of the views to learn from, copies included, and of those held out, the images as
    they are.

    A single image is both.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held = min(max(LEAST_HELD, round(HELD_OUT * count)), count // 2)
    out, kept = (order[:held], order[held:]) if held else (order, order)
    every = (kept.sort().values[:, None] * (1 + copies) + torch.arange(1 + copies)).flatten()
    return every, out.sort().values * (1 + copies)


def create_system() -> System[VmpfdDetector]:
    """For the registry."""
    return Vmpfd()
