"""Training of the depth's encoder, the same in every system that has one."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.fit import Phase
from trainer.layers.height import HeightEncoder
from trainer.layers.height_anomalies import encoder_error
from trainer.systems.common.views import Views

BATCH, RATE, STEPS = 4, 3e-3, 20  # images in a batch, peak learning rate, batches in an epoch


def depth_noise(encoder: HeightEncoder, normal: Views) -> float | None:
    """Fit the encoder's mean height and noise to normal views; the noise in meters, None without
    depth.
    """
    if normal.height is None:
        return None
    encoder.measure(*normal.depth_image(slice(None), "cpu"))
    return float(encoder.sigma)


def encoder_phase(
    encoder: HeightEncoder, views: Views, epochs: int, device: str, chosen: Tensor | None = None
) -> Phase:
    """The training of the encoder on synthetic dents and stains (trainer.layers.height).

    chosen: numbers of the views to learn from, None: all.
    """
    numbers = torch.arange(len(views)) if chosen is None else chosen

    def begin() -> int:
        encoder.measure(*views.depth_image(numbers, "cpu"))
        return len(numbers)

    def loss(batch: Tensor, generator: torch.Generator) -> Tensor:
        height, foreground = views.depth_image(numbers[batch], device)
        color = views.prepared(numbers[batch], device).color
        return encoder_error(encoder, height, foreground, color, generator)

    parameters = list(encoder.parameters())
    return Phase(
        "depth", encoder, parameters, begin, loss, epochs, BATCH, RATE, steps_per_epoch=STEPS
    )
