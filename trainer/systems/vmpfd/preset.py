"""Sizes and training of VMPFD-AD's presets, its switches, and what each switch changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge.errors import ConfigError
from trainer.data.augment import Augmentation

BRANCHES = ("local", "global")
SOURCES = ("vim_features", "pdn_features")
# global, local: the branches that judge. vim_features, pdn_features: what the mixture's parameters
# depend on. cnn_encoder: plain convolutions instead of ViM. plain_error: no relative error.
# as_published: the paper's reconstruction at this preset's sizes. patch16: patches of 16 px.
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


@dataclass(frozen=True)
class DepthSettings:
    """How a preset judges depth. encoder_epochs: of the depth's encoder."""

    encoder_epochs: int


@dataclass(frozen=True)
class VmpfdPreset:
    """Sizes and training of one preset.

    descriptors: kind of PDN. distil_epochs: of the recipe's steps, where no file of `trainer
    pretrain pdn` is given.
    patch: side of a token's patch, px. width, inner, states, blocks: of ViM. code: size of the
    vector that all tokens pass through, None: no such vector. decoder: channels between its six
    layers. image_side: long side of the reconstructed image, px, a multiple of map_side. relative:
    whether the reconstruction error is divided by the usual one of its cell.
    shrink: of the descriptors' axes, see PrincipalAxes. dims, components, hidden, floor: of the
    mixtures. adapter: channels of the adapter.
    joint: whether the likelihood trains the encoder too, where there is a reconstruction.
    views: about how many normal ones, augmented ones included. blur: sigma of the maps' Gaussian,
    in map cells.
    depth: how height is reconstructed and relief described as well, None: color alone is judged.
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
    depth: DepthSettings | None = None


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
COMPACT_RGBD = replace(COMPACT, depth=DepthSettings(encoder_epochs=60))
PRESETS: dict[str, VmpfdPreset] = {"paper": PAPER, "compact": COMPACT, "compact-rgbd": COMPACT_RGBD}


def require_depth(preset: VmpfdPreset, with_depth: bool) -> None:
    """Raises: ConfigError if the preset judges depth and there is none."""
    if preset.depth is not None and not with_depth:
        raise ConfigError(
            "vmpfd: a preset with rgbd in its name judges depth, which the product does not have or"
            " --no-depth leaves out: train with --preset compact, or with depth"
        )


@dataclass(frozen=True)
class Variant:
    """What a preset's switches choose: every switch acts here, and nowhere else.

    local_branch, global_branch: whether it judges. use_vim, use_pdn: sources of the mixture's
    condition. cnn_encoder: plain convolutions instead of ViM.
    patch: side of a token's patch, px. code: size of the vector that all tokens pass through, None:
    no such vector. relative: whether the reconstruction error is relative. joint: whether the
    likelihood trains the encoder.
    """

    local_branch: bool
    global_branch: bool
    use_vim: bool
    use_pdn: bool
    cnn_encoder: bool
    patch: int
    code: int | None
    relative: bool
    joint: bool

    @classmethod
    def of(cls, preset: VmpfdPreset, switches: Mapping[str, bool]) -> Variant:
        """The variant of `preset` under switches, all of SWITCHES.

        Raises: ConfigError if they leave no branch, or nothing that the mixture depends on.
        """
        _require_one(switches, BRANCHES, "branch that judges")
        _require_one(switches, SOURCES, "source of features")
        published = switches["as_published"]
        return cls(
            local_branch=switches["local"],
            global_branch=switches["global"],
            use_vim=switches["vim_features"],
            use_pdn=switches["pdn_features"],
            cnn_encoder=switches["cnn_encoder"],
            patch=16 if switches["patch16"] else preset.patch,
            code=None if published else preset.code,
            relative=preset.relative and not published and not switches["plain_error"],
            # without a reconstruction nothing else would train the encoder
            joint=preset.joint or published or not switches["global"],
        )

    @property
    def branches(self) -> list[str]:
        """Those that judge, in the order of the raw maps."""
        judging = {"local": self.local_branch, "global": self.global_branch}
        return [branch for branch in BRANCHES if judging[branch]]


def _require_one(switches: Mapping[str, bool], names: tuple[str, ...], what: str) -> None:
    if not any(switches[name] for name in names):
        raise ConfigError(f"vmpfd: no {what} is left: switch at least one of {', '.join(names)} on")
