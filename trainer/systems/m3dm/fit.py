"""The training of M3DM: features frozen once, depth side and fusion trained, banks selected,
distilled and weighed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from trainer.data.source import TrainingImages
from trainer.fit import Curves, Phase, fit_phases
from trainer.systems.common.depth_encoder import depth_noise, encoder_phase
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.views import AT_ONCE, Views, anomalous_views, copies_for, normal_views
from trainer.systems.m3dm.bank_training import BankTraining
from trainer.systems.m3dm.depth_side import DepthSide
from trainer.systems.m3dm.detector import M3dmDetector, distances
from trainer.systems.m3dm.frozen import BANKED, FrozenFeatures, depth_images
from trainer.systems.m3dm.one_class import fused_weights
from trainer.systems.m3dm.pretraining import pretrain_phase
from trainer.systems.m3dm.uff import FeatureFusion
from trainer.systems.seam import FitRequest

BANK_SHARE = 0.25  # rows of the shipped bank, of the coreset's
# a bank of this size costs next to nothing: a coreset that has no more ships as it is
LEAST_ROWS = 256


def fit_detector(detector: M3dmDetector, images: TrainingImages, request: FitRequest) -> Curves:
    """Train the detector, which is on request.device, in place."""
    anomalies = max(1, copies_for(images.count, detector.preset.views))
    copies = BANKED - 1 + anomalies
    request.control.tell(
        f"features of {images.count} images, {1 + copies} normal views and {anomalies} synthetic"
        " anomalies each"
    )
    normal, synthetic = _views(detector, images, copies, anomalies, request)
    frozen = FrozenFeatures(detector, normal, synthetic, copies, request.device)
    banks = _bank_trainings(frozen, request.seed)
    phases = [
        *_depth_phases(frozen, request),
        *_fusion_phases(frozen, request.epochs),
        *(phase for bank in banks for phase in bank.phases(request.epochs)),
    ]
    curves = fit_phases(detector, phases, request.seed, request.control)
    _settle(frozen, banks, request.seed)
    return curves


def _views(
    detector: M3dmDetector, images: TrainingImages, copies: int, anomalies: int, request: FitRequest
) -> tuple[Views, Views]:
    """Every image as it is and `copies` times augmented, and with `anomalies` synthetic ones."""
    trunk = detector.color.trunk
    keep_image = detector.points is not None  # the depth encoder sees it
    normal = normal_views(
        trunk,
        images,
        detector.preset.augmentation,
        copies,
        request.seed,
        request.device,
        keep_image=keep_image,
    )
    encoder = None if detector.points is None else detector.points.encoder
    sigma = None if encoder is None else depth_noise(encoder, normal)
    synthetic, _ = anomalous_views(trunk, images, anomalies, sigma, request, keep_image=keep_image)
    return normal, synthetic


def _bank_trainings(frozen: FrozenFeatures, seed: int) -> list[BankTraining]:
    detector, positions = frozen.detector, frozen.positions()
    preset = detector.preset
    selected = min(positions, max(LEAST_ROWS, round(preset.coreset * positions)))
    shipped = max(LEAST_ROWS, round(BANK_SHARE * selected))
    if not detector.switches["distilled"]:
        shipped = selected
    return [
        BankTraining(name, bank, frozen, selected, shipped, preset, seed)
        for name, bank in detector.named_banks()
    ]


def _depth_phases(frozen: FrozenFeatures, request: FitRequest) -> list[Phase]:
    """With depth its encoder, and Point-MAE unless a file was named."""
    detector = frozen.detector
    if detector.points is None:
        return []
    encoder = _encoder_phases(frozen, detector.points, request)
    if detector.pretrained:
        return encoder
    plan = detector.preset.pretraining
    plan = replace(plan, epochs=request.epochs or plan.epochs)
    images, features = depth_images(frozen.views["normal"]), detector.points.features
    return [*encoder, pretrain_phase(features, images, plan, request.device, request.seed)]


def _encoder_phases(frozen: FrozenFeatures, side: DepthSide, request: FitRequest) -> list[Phase]:
    if side.encoder is None:
        return []
    epochs = request.epochs or frozen.detector.preset.encoder_epochs
    return [encoder_phase(side.encoder, frozen.views["normal"], epochs, request.device)]


def _fusion_phases(frozen: FrozenFeatures, epochs: int | None) -> list[Phase]:
    """UFF, on every normal view."""
    fusion, preset = frozen.detector.fusion, frozen.detector.preset
    if fusion is None:
        return []

    def begin() -> int:
        frozen.compute()
        return len(frozen.normal)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        del generator
        return _fusion_loss(frozen, fusion, batch)

    return [
        Phase(
            "fusion",
            fusion,
            list(fusion.parameters()),
            begin,
            loss,
            epochs or preset.fusion_epochs,
            preset.fusion_batch,
            preset.fusion_rate,
            steps_per_epoch=preset.steps_per_epoch,
        )
    ]


def _fusion_loss(frozen: FrozenFeatures, fusion: FeatureFusion, batch: Tensor) -> Tensor:
    """UFF's loss on these normal views (B,)."""
    features = frozen.normal.of(batch, frozen.device)  # (B, C, h, w)
    channels = frozen.detector.color.channels
    mask = frozen.normal.mask[batch].to(frozen.device)  # (B, 1, h, w)
    return fusion.loss(features[:, :channels], features[:, channels:], mask)


@torch.no_grad()
def _settle(frozen: FrozenFeatures, banks: list[BankTraining], seed: int) -> None:
    """Put the banks into the detector, then weigh their distances on views that none has seen."""
    frozen.compute()
    for bank in banks:
        bank.settle()
    detector = frozen.detector
    positions, scores = [], []
    for part in torch.split(frozen.unseen, AT_ONCE):
        mask = frozen.normal.mask[part].to(frozen.device)  # (B, 1, h, w)
        parts = detector.parts(frozen.normal.of(part, frozen.device))
        squared = {name: bank(parts[name]) for name, bank in detector.named_banks()}
        positions.append(rows_of(distances(squared), mask).cpu())  # (M, banks)
        if detector.has_score:
            scores.append(detector.bank_scores(parts, squared, mask).cpu())  # (B, banks)
    detector.map_weights.copy_(fused_weights(torch.cat(positions), seed))
    if scores:
        detector.score_weights.copy_(fused_weights(torch.cat(scores), seed))
