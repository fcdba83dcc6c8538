"""Settings of NTSNet; docs/systems/ntsnet.md says which are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge.errors import ConfigError
from trainer.data.augment import Augmentation
from trainer.layers.backbone import LITE0_LEVELS, RESNET18, BackboneSpec


@dataclass(frozen=True)
class LeanShape:
    """The student of a preset that does not have the teacher's own shape.

    stem: channels at 1/2. widths, blocks: channels and residual blocks of each level, finest first.
    """

    stem: int
    widths: tuple[int, int, int]
    blocks: tuple[int, int, int]


@dataclass(frozen=True)
class DepthSettings:
    """What a preset that judges depth adds.

    share: of depth's mean squared error, in root mean squares of normal parts, beside color's
    distance. encoder_epochs: of the depth's encoder.
    """

    share: float
    encoder_epochs: int


@dataclass(frozen=True)
class NtsnetPreset:
    """Sizes and training of one preset.

    long_side: of the working image, px. lean: the student's shape, None for the teacher's own.
    groups: of CoT's 3x3 convolutions. eman, product: what these switches are unless asked
    otherwise. views: about how many augmented ones there are, 0: the images alone. steps_per_epoch:
    None passes over all views. floor: of the lengths that features are divided by
    (trainer.layers.discrepancy). map_side: long side of the map. blur: sigma of the map's Gaussian,
    in its cells. depth: None judges color alone.
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
    depth: DepthSettings | None = None


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
COMPACT_RGBD = replace(COMPACT, depth=DepthSettings(share=0.02, encoder_epochs=60))
PRESETS: dict[str, NtsnetPreset] = {
    "paper": PAPER,
    "compact": COMPACT,
    "compact-rgbd": COMPACT_RGBD,
}


def require_depth(preset: NtsnetPreset, with_depth: bool) -> None:
    """Raises: ConfigError if the preset judges depth and there is none."""
    if preset.depth is not None and not with_depth:
        raise ConfigError(
            "ntsnet: --preset compact-rgbd judges depth, which the product does not have or"
            " --no-depth leaves out: train with depth, or with --preset compact"
        )
