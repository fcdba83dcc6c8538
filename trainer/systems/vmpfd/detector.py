"""The detector of VMPFD-AD's deployed graph: both branches, and their fused map."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.schema import TensorSpec
from trainer.graph.deploy import Answer
from trainer.graph.prepared import Prepared
from trainer.layers.adaptation import Adaptation
from trainer.layers.anomaly_map import AnomalyMap
from trainer.layers.typed import required
from trainer.systems.common.foreground import cell_mask
from trainer.systems.common.frame import chosen_switches
from trainer.systems.common.sizes import scaled_to
from trainer.systems.seam import BuildRequest
from trainer.systems.vmpfd.autoencoder import CnnEncoder, Code, Decoder
from trainer.systems.vmpfd.checkpoint import read_pdn
from trainer.systems.vmpfd.depth_side import HeightChannel, ReliefDescriptors
from trainer.systems.vmpfd.local_branch import LocalBranch
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.preset import SWITCHES, Variant, VmpfdPreset, require_depth
from trainer.systems.vmpfd.teacher import RECIPES, Teacher
from trainer.systems.vmpfd.vim import VimEncoder

QUANTILES = {"start": 0.9, "end": 0.995}  # equations 15, 16, 18, 19
# of end - start, in the maps' units: the fused map stays finite in float16, whatever the site sets
LEAST_SPAN = 0.02
ERROR_SCALE = 100.0  # of plain squared errors, in squares of -1..1
# of the global map: clipped, because beyond this it carries no information, and float16 stays
# finite
LARGEST_ERROR = 400.0


class Seen(NamedTuple):
    """What the branches see of N images, in the order of `shift` and `scale`.

    descriptors: (N, C, h, w), None without the local branch. relief: what describes depth beside
    them, (N, R, h, w), None where depth is not judged. tokens: (N, E, h', w'). target: what the
    decoder should reconstruct, (N, channels, hi, wi) in -1..1, None without the global branch.
    """

    descriptors: Tensor | None
    relief: Tensor | None
    tokens: Tensor
    target: Tensor | None


class VmpfdDetector(nn.Module):
    """Prepared images and site inputs to the fused map, with both raw maps as features.

    A branch that is off has no modules: `decoder` or `local` is None then; `height` and `relief`
    are where the preset does not judge depth. `teacher` trains the descriptors unless a file is
    given; it is dropped after the training.

    Raises: ConfigError if the switches leave no branch, or nothing that the mixture depends on, or
    if the preset judges depth and there is none.
    """

    gain: Tensor
    has_features = has_moments = True

    def __init__(self, preset: VmpfdPreset, request: BuildRequest) -> None:
        super().__init__()
        depth = request.sizes.depth
        require_depth(preset, depth is not None)
        self.preset = preset
        self.variant = Variant.of(preset, chosen_switches(SWITCHES, request))
        height, width = request.sizes.color
        patch = self.variant.patch
        self.tokens = height // patch, width // patch
        self.map_size = scaled_to(preset.map_side, request.sizes.color)
        self.image_size = scaled_to(preset.image_side, request.sizes.color)
        self.height: HeightChannel | None = None
        self.relief: ReliefDescriptors | None = None
        if preset.depth is not None:
            self.height = HeightChannel(height // required(depth)[0])
        self.channels = 3 if self.height is None else 4
        self.encoder = _encoder(preset, self.variant, self.tokens, self.channels)
        self.code: Code | None = None
        self.decoder: Decoder | None = None
        self.local: LocalBranch | None = None
        self.teacher: Teacher | None = None
        if self.variant.global_branch:
            if self.variant.code is not None:
                self.code = Code(preset.width, self.tokens, self.variant.code)
            doublings = (self.image_size[0] // self.tokens[0]).bit_length() - 1
            self.decoder = Decoder((preset.width, *preset.decoder), doublings, self.channels)
            self.register_buffer("gain", torch.full((1, 1, *self.map_size), ERROR_SCALE))
            self.to_global = AnomalyMap(self.map_size, self.map_size, preset.blur)
        if self.variant.local_branch:
            self.descriptors = PatchDescriptors(preset.descriptors)
            stride = self.descriptors.stride
            self.grid = height // stride, width // stride
            if self.height is not None:
                self.relief = ReliefDescriptors(self.height.finer, self.grid)
            relief = 0 if self.relief is None else self.relief.channels
            self.local = LocalBranch(preset, patch // stride, self.variant, relief)
            self.to_local = AnomalyMap(self.grid, self.map_size, preset.blur)
            self.teacher = _teach(self.descriptors, preset.descriptors, request)
        self.adaptation = Adaptation(self._seen_channels())
        self.quantiles = {
            f"{branch}_{name}": float(name == "end")
            for branch in self.variant.branches
            for name in QUANTILES
        }

    def _seen_channels(self) -> list[int]:
        """Channels of all that the branches see."""
        described = [] if self.local is None else [self.descriptors.channels]
        relief = [] if self.relief is None else [self.relief.channels]
        target = [] if self.decoder is None else [self.channels]
        return [*described, *relief, self.preset.width, *target]

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Shift and scale, and the quantiles, by default those of the training's held-out
        images.
        """
        quantiles = (
            TensorSpec(name=name, dtype="float32", shape=(1,), default=value)
            for name, value in self.quantiles.items()
        )
        return (*self.adaptation.inputs, *quantiles)

    def get_extra_state(self) -> Tensor:
        """The quantiles: plain numbers here, because tracing a graph reads no tensor's value."""
        return torch.tensor(list(self.quantiles.values()))

    def set_extra_state(self, state: Tensor) -> None:
        """The quantiles as `get_extra_state` stored them."""
        self.quantiles = dict(zip(self.quantiles, state.tolist(), strict=True))

    def forward(
        self, prepared: Prepared, shift: Tensor, scale: Tensor, **quantiles: Tensor
    ) -> Answer:
        """Prepared batch, shift and scale (C,) and the quantiles (1,) by name -> Answer: equations
        17 and 20, summed.

        The sum is negative where both maps lie below their first quantile; softplus keeps the map
        positive and preserves the ranking.
        """
        seen, moments = self.adapted(self.seen(prepared), prepared.foreground, shift, scale)
        maps = self.maps(seen, prepared.foreground)
        normalized = [
            (one - quantiles[f"{branch}_start"])
            / (quantiles[f"{branch}_end"] - quantiles[f"{branch}_start"]).clamp(min=LEAST_SPAN)
            for branch, one in maps.items()
        ]
        total = torch.stack(normalized).sum(dim=0)  # (N, 1, H, W)
        raw = torch.cat(list(maps.values()), dim=1)
        return Answer(functional.softplus(total), raw, moments=moments)

    def seen(self, prepared: Prepared) -> Seen:
        """What the branches see of a prepared batch, as it comes."""
        image = self.image(prepared.color, prepared.height, prepared.foreground)
        return Seen(
            None if self.local is None else self.descriptors(image[:, :3]),
            None if self.relief is None else self.relief(prepared),
            self.encoder(image),
            None if self.decoder is None else self.target(image),
        )

    def image(self, color: Tensor, height: Tensor | None, foreground: Tensor) -> Tensor:
        """Color (N, 3, Hc, Wc) 0..255 and, where depth is judged, height and foreground (N, 1, hd,
        wd) -> the image (N, channels, Hc, Wc) in -1..1 that the encoder sees.
        """
        if self.height is None:
            return scaled(color)
        return torch.cat([scaled(color), self.height(required(height), foreground)], dim=1)

    def adapted(
        self, seen: Seen, foreground: Tensor, shift: Tensor, scale: Tensor
    ) -> tuple[Seen, Tensor]:
        """The same, shifted and scaled (C,), and its moments (N, 2, C) before that."""
        groups = {name: one for name, one in seen._asdict().items() if one is not None}
        masks = [foreground_at(foreground, (one.shape[2], one.shape[3])) for one in groups.values()]
        adapted, moments = self.adaptation(list(groups.values()), masks, shift, scale)
        return seen._replace(**dict(zip(groups, adapted, strict=True))), moments

    def raw_maps(self, prepared: Prepared) -> dict[str, Tensor]:
        """Local and global map before they are normalized, (N, 1, H, W) each, of the branches that
        judge; nothing is shifted or scaled.
        """
        return self.maps(self.seen(prepared), prepared.foreground)

    def maps(self, seen: Seen, foreground: Tensor) -> dict[str, Tensor]:
        """The same of what the branches see, and the foreground (N, 1, hd, wd)."""
        maps = {}
        if self.local is not None:
            y = self.local.described(required(seen.descriptors), seen.relief)  # (N, D, h, w)
            mask = foreground_at(foreground, self.grid)  # (N, 1, h, w)
            maps["local"] = self.to_local(self.local.surprise(y, seen.tokens), mask)
        if self.decoder is not None:
            error = self.error(required(seen.target), self.reconstruct(seen.tokens))
            mask = foreground_at(foreground, self.map_size)
            maps["global"] = self.to_global(error, mask)  # (N, 1, H, W)
        return maps

    def reconstruct(self, tokens: Tensor) -> Tensor:
        """Tokens (N, E, h', w') -> the image (N, channels, hi, wi) in -1..1, (hi, wi) being
        image_size.
        """
        assert self.decoder is not None  # without it there is no reconstruction to ask for
        return cast(Tensor, self.decoder(tokens if self.code is None else self.code(tokens)))

    def target(self, image: Tensor) -> Tensor:
        """What the decoder should reconstruct: the image (N, channels, Hc, Wc), reduced to
        image_size.
        """
        factor = image.shape[2] // self.image_size[0]
        return functional.avg_pool2d(image, factor) if factor > 1 else image

    def error(self, image: Tensor, reconstructed: Tensor) -> Tensor:
        """Squared error of an image in -1..1, or of its target, in every cell of the map, times the
        cell's gain: (N, 1, H, W).
        """
        return (self.squared_error(image, reconstructed) * self.gain).clamp(max=LARGEST_ERROR)

    def squared_error(self, image: Tensor, reconstructed: Tensor) -> Tensor:
        """Mean over the channels and the pixels of a map cell, (N, 1, H, W)."""
        difference = reconstructed - self.target(image)  # (N, channels, hi, wi)
        squared = (difference * difference).mean(dim=1, keepdim=True)  # (N, 1, hi, wi)
        factor = self.image_size[0] // self.map_size[0]
        return functional.avg_pool2d(squared, factor) if factor > 1 else squared

    def trainable(self) -> nn.ModuleList:
        """What both branches train together: everything but the descriptors."""
        parts = (self.encoder, self.code, self.decoder, self.local)
        return nn.ModuleList(part for part in parts if part is not None)


def _encoder(
    preset: VmpfdPreset, variant: Variant, grid: tuple[int, int], channels: int
) -> nn.Module:
    """ViM, or convolutions down to the same tokens, of an image of these channels."""
    width, patch = preset.width, variant.patch
    if not variant.cnn_encoder:
        return VimEncoder(grid, patch, width, preset.inner, preset.states, preset.blocks, channels)
    halvings = patch.bit_length() - 1
    widths = (*(min(width, 16 * 2**level) for level in range(halvings - 1)), width)
    return CnnEncoder(widths, channels)


def _teach(descriptors: PatchDescriptors, kind: str, request: BuildRequest) -> Teacher | None:
    """Fill the descriptors from the file that is named, or give the teacher that trains them.

    Neither where the backbone stays random: a state dict follows, or only the shape matters.
    """
    if request.pretrained is not None:
        descriptors.load_state_dict(read_pdn(request.pretrained, kind))
        return None
    if request.random_backbone:
        return None
    return Teacher(RECIPES[kind], request.weights, descriptors.stride, descriptors.channels)


def scaled(color: Tensor) -> Tensor:
    """0..255 -> -1..1."""
    return color / 127.5 - 1


def foreground_at(foreground: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells of `size` with any foreground (N, 1, hd, wd), 0 or 1: (N, 1, h, w).

    A grid finer than the foreground's takes the nearest cell's.
    """
    if size[0] > foreground.shape[2]:
        return functional.interpolate(foreground, size=size, mode="nearest")
    return cell_mask(foreground, size[0])
