"""MATS's training: frozen features of all views, cached, then the phases over them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from trainer.data.source import TrainingImages
from trainer.fit import Curves, fit_phases
from trainer.graph.prepared import Prepared
from trainer.layers.backbone import weights_digest
from trainer.systems.common.views import (
    Views,
    computed,
    copies_for,
    depth_columns,
    on_device,
    to_views,
)
from trainer.systems.mats.detector import MatsDetector
from trainer.systems.mats.phases import Training
from trainer.systems.mats.preset import MatsPreset
from trainer.systems.mats.window_phases import WindowTraining
from trainer.systems.seam import FitRequest

HALF_TURN_DEG = 180.0  # either way


def train(
    detector: MatsDetector, preset: MatsPreset, images: TrainingImages, request: FitRequest
) -> Curves:
    """Cache frozen features, then train what is left, phase by phase."""
    tell = request.control.tell
    if detector.whiten_depth is None and detector.switches["caa"]:
        tell("color only: the cross-modal amplifier needs two modalities and is off")
    preset = _for_images(preset, images.count, detector)
    tell(f"features of {images.count} images, {1 + preset.copies} views each")
    views = frozen_views(detector, preset, images, request)
    window = preset.window[int(detector.whiten_depth is None)]
    training = (Training if window == 1 else WindowTraining)(
        detector, views, preset, request.device
    )
    return fit_phases(detector, training.phases(request.epochs), request.seed, request.control)


def _for_images(preset: MatsPreset, count: int, detector: MatsDetector) -> MatsPreset:
    """Copies for so many images, turned to any angle where the parts lie so."""
    views = preset.views[int(detector.whiten_depth is None)]
    copies = preset.copies if views is None else copies_for(count, views, preset.copies)
    turn = HALF_TURN_DEG if detector.turned and copies else preset.augmentation.turn_deg
    return replace(preset, copies=copies, augmentation=replace(preset.augmentation, turn_deg=turn))


@torch.no_grad()
def frozen_views(
    detector: MatsDetector, preset: MatsPreset, images: TrainingImages, request: FitRequest
) -> Views:
    """Every image and its copies with their color features on the grid, as the one level, float32;
    the image itself, uint8, where depth's encoder needs it. From the cache where they were computed
    before.
    """

    def columns(batch: Prepared) -> dict[str, Tensor | None]:
        image = None if batch.height is None else batch.color.round().to(torch.uint8)
        color = detector.color_features(batch.color)
        return depth_columns(batch) | {"image": image, "level_0": color}

    views = (preset.backbone, preset.pool_finer, preset.copies, preset.augmentation, request.seed)
    recipe = f"mats 5 {views} {detector.grid} {weights_digest(detector.trunk)}"
    copies = images.with_copies(preset.augmentation, preset.copies, request.seed)
    batches = on_device(copies, request.device)
    return to_views(images.cached(recipe, lambda: computed(batches, columns)))
