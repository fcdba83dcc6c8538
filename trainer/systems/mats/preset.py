"""Settings of MATS; docs/systems/mats.md says which are the paper's."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.data.augment import Augmentation
from trainer.layers.backbone import B5, LITE0, BackboneSpec

UNSHUFFLE = 8  # d: a cell of the feature grid has d x d cells of the depth image
METRICS = {"latent": 0, "balanced": 1, "volume": 2}  # powers of the flow's scale divided out


@dataclass(frozen=True)
class MatsPreset:
    """Sizes and training of one preset.

    long_side: of the color working image, px. stride: of the feature grid. depth_side: the depth
    image's long side over UNSHUFFLE is that of the grid. flow_hidden, clamp, metric, pairs of
    *_epochs: (with depth, color only).
    steps_per_epoch, fusion_steps: None passes over all cached cells (images); a number makes an
    epoch that many batches. rates: peak learning rates of fusion, teacher and student.
    map_side: long side of the map. blur: sigma of the map's Gaussian, in its cells. shrink: added
    to the features' variances (relative to their mean) when whitening. noise: of the corrupted
    features, in their standard deviations.
    fine_grid, window, views: (with depth, color only). fine_grid: the grid is that of the finer
    stage, to which the coarser one is enlarged, else that of the coarser. window: side of what
    teacher and student see around a cell, in cells, odd. views: about so many in all, with fewer
    copies than `copies` of each image where there are many; None: no limit.
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
    map_side: int = 64
    blur: float = 1.0
    shrink: float = 1e-2
    noise: float = 0.2
    fine_grid: tuple[bool, bool] = (False, False)
    window: tuple[int, int] = (1, 1)
    views: tuple[int | None, int | None] = (None, None)


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
    metric=("balanced", "balanced"),
    fusion_epochs=10,
    fusion_steps=10,
    teacher_epochs=(60, 60),
    student_epochs=(40, 40),
    steps_per_epoch=20,
    batch_size=512,
    rates=(1e-3, 1e-3, 2e-3),
    copies=6,
    augmentation=Augmentation(10.0, 0.03, 0.03, 0.06, 5.0),
    pool_finer=True,
    encode_height=True,
    encoder_epochs=60,
    fine_grid=(False, True),
    window=(1, 3),
    views=(None, 640),
)
PRESETS: dict[str, MatsPreset] = {"paper": PAPER, "compact": COMPACT}
