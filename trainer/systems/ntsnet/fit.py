"""NTSNet's training: one phase, the student on the cached levels of normal views.

Settled here, because the paper leaves it open (docs/systems/ntsnet.md says why): the learning rates
of the presets, and that a lean student's heads start at the teacher's own mean and deviation. With
EMAN the teacher moves, so its levels are computed in every step, after the student's, with the
statistics that this step has moved.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.layers.discrepancy import mean_per_image
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.views import Views, copies_for, normal_views
from trainer.systems.ntsnet.detector import NtsnetDetector
from trainer.systems.ntsnet.eman import following
from trainer.systems.ntsnet.preset import NtsnetPreset
from trainer.systems.seam import FitRequest


def train(
    detector: NtsnetDetector, preset: NtsnetPreset, images: TrainingImages, request: FitRequest
) -> Curves:
    """Cache the frozen levels of normal views, then train the student on them."""
    trunk, copies = detector.features.trunk, copies_for(images.count, preset.views)
    request.control.tell(f"features of {images.count} images, {1 + copies} views each")
    views = normal_views(trunk, images, preset.augmentation, copies, request.seed, request.device)
    teaching = Teaching(detector, views, request.device)
    phase = Phase(
        "student",
        detector.trainable(),
        list(detector.student.parameters()),
        teaching.begin,
        teaching.loss,
        request.epochs or preset.epochs,
        preset.batch_size,
        preset.rate,
        preset.weight_decay,
        steps_per_epoch=preset.steps_per_epoch,
    )
    with following(detector.student.pairs(trunk) if detector.switches["eman"] else []):
        return fit_phases(detector, [phase], request.seed, request.control)


class Teaching:
    """The student's phase over cached features; everything here lives only while training."""

    def __init__(self, detector: NtsnetDetector, views: Views, device: str) -> None:
        self.detector, self.views, self.device = detector, views, device
        features = detector.features
        masks = features.masks(views.foreground.float())
        for level, (color, mask) in enumerate(zip(views.levels, masks, strict=True)):
            features.fit_scales(level, color, None, mask, standardized=False)
            scale = features.get_buffer(f"gain_{level}").to(color.device)
            detector.student.start_at(level, rows_of(color, mask).float() * scale)

    def begin(self) -> int:
        """Every view is seen."""
        return len(self.views)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 11."""
        del generator
        detector = self.detector
        # The student first: with EMAN its batch moves the teacher's statistics.
        student = detector.student_levels(self.images(batch))
        foreground = self.views.foreground[batch].to(self.device, torch.float32)
        distances = detector.distances(self.teacher(batch), student)  # (B, 1, h, w) each
        pairs = zip(distances, detector.features.masks(foreground), strict=True)
        return torch.stack([mean_per_image(distance, mask) for distance, mask in pairs]).sum()

    @torch.no_grad()
    def teacher(self, batch: Tensor) -> list[Tensor]:
        """The teacher's levels, F_T: of the cache, unless EMAN moves them."""
        features = self.detector.features
        if not self.detector.switches["eman"]:
            return features.joined(self.views.colors(batch, self.device), None)
        return features.joined(features.trunk(self.images(batch)), None)

    def images(self, batch: Tensor) -> Tensor:
        """Color images (B, 3, h, w) of these views."""
        return self.views.prepared(batch, self.device).color
