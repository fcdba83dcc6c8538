"""NTSNet's training: the student on the cached levels of normal views, after the depth's encoder
where the preset judges depth.

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
from trainer.layers.typed import required
from trainer.systems.common.depth_encoder import encoder_phase
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.views import Views, copies_for, normal_views
from trainer.systems.ntsnet.detector import NtsnetDetector
from trainer.systems.ntsnet.eman import following
from trainer.systems.ntsnet.preset import NtsnetPreset
from trainer.systems.ntsnet.student import LeanStudent
from trainer.systems.seam import FitRequest


def train(
    detector: NtsnetDetector, preset: NtsnetPreset, images: TrainingImages, request: FitRequest
) -> Curves:
    """Cache the frozen levels of normal views, then train on them what the preset asks for."""
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
    phases = [*_encoder_phases(detector, views, request), phase]
    with following(detector.student.pairs(trunk) if detector.switches["eman"] else []):
        return fit_phases(detector, phases, request.seed, request.control)


def _encoder_phases(detector: NtsnetDetector, views: Views, request: FitRequest) -> list[Phase]:
    """The training of the depth's encoder, where the preset judges depth."""
    encoder, depth = detector.features.encoder, detector.preset.depth
    if encoder is None or depth is None:
        return []
    epochs = request.epochs or depth.encoder_epochs
    return [encoder_phase(encoder, views, epochs, request.device)]


class Teaching:
    """The student's phase over cached features; everything here lives only while training."""

    def __init__(self, detector: NtsnetDetector, views: Views, device: str) -> None:
        self.detector, self.views, self.device = detector, views, device
        self.depth: tuple[Tensor, Tensor] | None = None  # amplified depth images and their tints
        features = detector.features
        self.masks = features.masks(views.foreground.float())  # (n, 1, h, w) of every level
        for level, (color, mask) in enumerate(zip(views.levels, self.masks, strict=True)):
            features.fit_scales(level, color, None, mask, standardized=False)
            scale = features.get_buffer(f"gain_{level}").to(color.device)
            detector.student.start_at(level, rows_of(color, mask).float() * scale)
        if features.encoder is not None and isinstance(detector.student, LeanStudent):
            required(detector.student.relative_height).measure(
                *views.depth_image(slice(None), device)
            )

    def begin(self) -> int:
        """Every view is seen; what the trained encoder makes of their depth is computed once."""
        features = self.detector.features
        if features.encoder is not None:
            self.depth = features.depth_maps_of(self.views, self.device)
            for level, mask in enumerate(self.masks):
                features.fit_depth_scale(level, self.depth, mask)
        return len(self.views)

    def loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 11."""
        del generator
        detector = self.detector
        # The student first: with EMAN its batch moves the teacher's statistics.
        student = detector.levels_of(self.views.prepared(batch, self.device))
        foreground = self.views.foreground[batch].to(self.device, torch.float32)
        distances = detector.distances(self.teacher(batch), student)  # (B, 1, h, w) each
        pairs = zip(distances, detector.features.masks(foreground), strict=True)
        return torch.stack([mean_per_image(distance, mask) for distance, mask in pairs]).sum()

    @torch.no_grad()
    def teacher(self, batch: Tensor) -> list[Tensor]:
        """The teacher's levels, F_T: of the cache, unless EMAN moves those of color."""
        features = self.detector.features
        if self.detector.switches["eman"]:
            colors = features.trunk(self.views.prepared(batch, self.device).color)
        else:
            colors = self.views.colors(batch, self.device)
        return features.apart(features.side_by_side(colors, self._depth_of(batch)))

    def _depth_of(self, batch: Tensor) -> tuple[Tensor, Tensor] | None:
        """Amplified depth images of these views and their tints; None where depth is not judged."""
        if self.depth is None:
            return None
        relief, tint = (one[batch].to(self.device) for one in self.depth)
        return relief, tint
