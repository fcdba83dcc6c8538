"""AAND's training: depth's encoder, then both stages, over cached features.

Settled here, because the paper leaves it open: a position is abnormal if at least ABNORMAL_SHARE of
it is covered by a synthetic anomaly; the hardest positions are taken per image and level, among the
foreground (docs/systems/aand.md).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.layers.discrepancy import flat_distance, hard_distance
from trainer.systems.aand.amplification import amplification_loss, focal_loss, sampled_rows
from trainer.systems.aand.detector import AandDetector
from trainer.systems.aand.preset import AandPreset
from trainer.systems.common.depth_encoder import depth_noise, encoder_phase
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.views import Views, anomalous_views, copies_for, normal_views
from trainer.systems.seam import FitRequest

MARGIN = 0.3  # alpha
HARDEST = 10  # K_h
ABNORMAL_SHARE = 0.1  # a position is abnormal if at least this share of it is covered


def train(
    detector: AandDetector, preset: AandPreset, images: TrainingImages, request: FitRequest
) -> Curves:
    """Cache the frozen levels of normal views and of synthetic anomalies, then train both
    stages.
    """
    features, copies = detector.features, copies_for(images.count, preset.views)
    request.control.tell(
        f"features of {images.count} images, {1 + copies} normal views and as many anomalies each"
    )
    normal = normal_views(
        features.trunk, images, preset.augmentation, copies, request.seed, request.device
    )
    sigma = None if features.encoder is None else depth_noise(features.encoder, normal)
    anomalous, marks = anomalous_views(features.trunk, images, 1 + copies, sigma, request)
    stages = Stages(detector, normal, anomalous, marks, request.device)
    return fit_phases(detector, _phases(stages, preset, request), request.seed, request.control)


class Stages:
    """Both stages over cached features; everything here lives only while training.

    marks: (n, 1, h, w) masks of the synthetic anomalies, at the color working size.
    """

    def __init__(
        self, detector: AandDetector, normal: Views, anomalous: Views, marks: Tensor, device: str
    ) -> None:
        self.detector, self.device = detector, device
        self.normal, self.anomalous, self.marks = normal, anomalous, marks
        self.depth: dict[str, tuple[Tensor, Tensor]] = {}  # amplified depth images and their tints
        self.scaled = False
        self.teacher: list[Tensor] = []

    @torch.no_grad()
    def fit_scales(self) -> None:
        """Amplified depth images of all views, and the scales of every level, once."""
        if self.scaled:
            return
        features = self.detector.features
        if features.encoder is not None:
            for name, views in (("normal", self.normal), ("anomalous", self.anomalous)):
                self.depth[name] = features.depth_maps_of(views, self.device)
        masks = features.masks(self.normal.foreground.float())
        depth, standardized = self.depth.get("normal"), self.detector.switches["standardized"]
        for level, (color, mask) in enumerate(zip(self.normal.levels, masks, strict=True)):
            features.fit_scales(level, color, depth, mask, standardized=standardized)
        self.scaled = True

    def normal_levels(self, batch: Tensor) -> list[Tensor]:
        """Scaled levels (B, C, h, w) of some normal views."""
        return self._levels(self.normal, self.depth.get("normal"), batch)

    def anomalous_levels(self, batch: Tensor) -> list[Tensor]:
        """Scaled levels (B, C, h, w) of some views with a synthetic anomaly."""
        return self._levels(self.anomalous, self.depth.get("anomalous"), batch)

    def _levels(
        self, views: Views, depth: tuple[Tensor, Tensor] | None, batch: Tensor
    ) -> list[Tensor]:
        maps = None
        if depth is not None:
            maps = depth[0][batch].to(self.device), depth[1][batch].to(self.device)
        return self.detector.features.joined(views.colors(batch, self.device), maps)

    def masks(self, views: Views, batch: Tensor) -> list[Tensor]:
        """Cells (B, 1, h, w) of every level that count."""
        foreground = views.foreground[batch].to(self.device, torch.float32)
        return self.detector.features.masks(foreground)

    def begin_amplify(self) -> int:
        """Stage 1 sees every synthetic anomaly."""
        self.fit_scales()
        return len(self.anomalous)

    def amplify_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 9, summed over the levels."""
        masks, marks = self.masks(self.anomalous, batch), self.marks[batch].to(self.device)
        total = torch.zeros((), device=self.device)
        for number, level in enumerate(self.anomalous_levels(batch)):
            share = functional.avg_pool2d(marks, marks.shape[2] // level.shape[2])  # (B, 1, h, w)
            abnormal = (share >= ABNORMAL_SHARE).to(torch.float32)
            total = total + focal_loss(self.detector.gates[number](level), abnormal, masks[number])
            amplification = self._amplification(number, level, abnormal, masks[number], generator)
            if amplification is not None:
                total = total + amplification
        return total

    def _amplification(
        self, number: int, level: Tensor, abnormal: Tensor, mask: Tensor, generator: torch.Generator
    ) -> Tensor | None:
        """Equations 7 and 8 on sampled positions of one level; None where a kind has none."""
        odd = sampled_rows(rows_of(level, mask * abnormal), generator)  # (A, C)
        normal = sampled_rows(rows_of(level, mask * (1 - abnormal)), generator)  # (B, C)
        if not len(odd) or not len(normal):
            return None
        as_image = odd.T[None, :, :, None]  # (1, C, A, 1)
        residual = self.detector.generators[number](as_image)[0, :, :, 0].T  # (A, C)
        return amplification_loss(odd + residual, odd, normal, MARGIN)

    @torch.no_grad()
    def begin_distil(self) -> int:
        """Stage 2 sees every normal view; the advanced teacher's levels of all are computed once,
        float16.
        """
        self.fit_scales()
        everything = torch.arange(len(self.normal))
        batches = [
            self.detector.advanced(self.normal_levels(batch))
            for batch in torch.split(everything, self.detector.preset.batch_size)
        ]
        self.teacher = [
            torch.cat([level.half().cpu() for level in column])  # (n, C, h, w)
            for column in zip(*batches, strict=True)
        ]
        return len(self.normal)

    def distil_loss(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Equation 12, summed over the levels."""
        del generator
        teacher = [level[batch].to(self.device, torch.float32) for level in self.teacher]
        masks, student = self.masks(self.normal, batch), self.detector.reconstructed(teacher)
        levels = zip(teacher, student, masks, strict=True)
        losses = [flat_distance(own, other, mask) for own, other, mask in levels]
        if self.detector.switches["hard"]:
            distances = self.detector.compared(teacher, student, masks)  # (B, 1, h, w) each
            pairs = zip(distances, masks, strict=True)
            losses += [hard_distance(distance, mask, HARDEST) for distance, mask in pairs]
        return torch.stack(losses).sum()


def _phases(stages: Stages, preset: AandPreset, request: FitRequest) -> list[Phase]:
    """Depth's encoder where depth joins, stage 1 where anything uses it, stage 2 unless the gate
    alone judges.
    """
    detector = stages.detector
    one, two = detector.stage_one(), detector.stage_two()
    amplify = Phase(
        "amplify",
        one,
        list(one.parameters()),
        stages.begin_amplify,
        stages.amplify_loss,
        request.epochs or preset.amplify_epochs,
        preset.batch_size,
        preset.rate,
        steps_per_epoch=preset.steps_per_epoch,
    )
    distil = replace(
        amplify,
        name="distil",
        module=two,
        parameters=list(two.parameters()),
        begin=stages.begin_distil,
        loss=stages.distil_loss,
        epochs=request.epochs or preset.distil_epochs,
    )
    phases = []
    if (encoder := detector.features.encoder) is not None:
        epochs = request.epochs or preset.encoder_epochs
        phases.append(encoder_phase(encoder, stages.normal, epochs, request.device))
    if detector.switches["generator"] or not detector.switches["student"]:
        phases.append(amplify)
    if detector.switches["student"]:
        phases.append(distil)
    return phases
