"""Settings of AAND; docs/systems/aand.md says which are the paper's."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.augment import Augmentation
from trainer.layers.backbone import LITE0_LEVELS, WIDE_RESNET50, BackboneSpec


@dataclass(frozen=True)
class AandPreset:
    """Sizes and training of one preset.

    long_side: of the color working image, px. widths: of the decoder at each level, finest first;
    out: of the embedding; blocks: residual ones per level. temperature: of the gate.
    views: about how many augmented normal views there are, and as many synthetic anomalies. epochs:
    of both stages and the depth's encoder; steps_per_epoch: None passes over all views.
    floor: of the lengths that features are divided by (trainer.layers.discrepancy). map_side: long
    side of the map. blur: sigma of the map's Gaussian, in its cells.
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
