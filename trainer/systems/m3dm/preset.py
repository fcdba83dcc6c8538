"""Sizes and training of M3DM's presets, and its switches."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.augment import Augmentation
from trainer.layers.backbone import DINO_B8, LITE0, BackboneSpec
from trainer.systems.m3dm.point_features import COMPACT_POINTS, PAPER_POINTS, PointSpec
from trainer.systems.m3dm.pretraining import COMPACT_PLAN, PAPER_PLAN, PretrainPlan

# rgb, points, fused: the banks that judge. distilled: banks of few rows, optimized. relief: the
# amplified depth image joins the point features. farthest: group centers by farthest point
# sampling, which is not exported.
SWITCHES = {
    "rgb": True,
    "points": True,
    "fused": True,
    "distilled": True,
    "relief": True,
    "farthest": False,
}


@dataclass(frozen=True)
class M3dmPreset:
    """Sizes and training of one preset.

    points, pretraining: of Point-MAE. relief: whether the amplified depth image joins.
    fused: output channels of either MLP of UFF, None: as many as its input has.
    side: of the color working image, px. pool: side of the window that color features are averaged
    over. coreset: share of the normal features that the large banks keep. projected: dimensions in
    which they are selected. views: about how many normal ones, augmented ones included, and as many
    with synthetic anomalies.
    own_score: PatchCore's reweighted score instead of the map's top k. blur: sigma of the map's
    Gaussian, in its cells.
    """

    backbone: BackboneSpec
    points: PointSpec
    pretraining: PretrainPlan
    relief: bool
    fused: int | None
    side: int
    pool: int
    coreset: float
    projected: int | None
    views: int
    augmentation: Augmentation
    own_score: bool
    fusion_epochs: int
    distil_epochs: int
    encoder_epochs: int = 60
    steps_per_epoch: int = 50
    fusion_batch: int = 4
    fusion_rate: float = 3e-3
    distil_batch: int = 4096
    distil_rate: float = 2e-3
    map_side: int = 64
    blur: float = 1.0


PAPER = M3dmPreset(
    backbone=DINO_B8,
    points=PAPER_POINTS,
    pretraining=PAPER_PLAN,
    relief=False,
    fused=None,
    side=224,
    pool=1,
    coreset=0.1,
    projected=128,
    views=0,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    own_score=True,
    fusion_epochs=14,
    distil_epochs=20,
    map_side=224,
    blur=4.0,
)
COMPACT = M3dmPreset(
    backbone=LITE0,
    points=COMPACT_POINTS,
    pretraining=COMPACT_PLAN,
    relief=True,
    fused=96,
    side=256,
    pool=3,
    coreset=0.01,
    projected=None,
    views=256,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    own_score=False,
    fusion_epochs=14,
    distil_epochs=20,
)
PRESETS: dict[str, M3dmPreset] = {"paper": PAPER, "compact": COMPACT}
