"""Residual anomaly amplification (AAND, section III-B): what looks abnormal is pushed further from
what is normal.

The advanced teacher's feature is F_T + w delta (equation 1). The gate gives w, from 0 for a normal
position to 1; the generator gives delta, which scales each channel of F_T by a factor of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.layers.discrepancy import channel_sum, unit

FOCUS = 2.0  # gamma of the focal loss, as published with it
PAIRS = (
    256  # positions of each kind that the amplification loss compares, sampled anew in every step
)


class ResidualGate(nn.Module):
    """Matching-guided residual gate (equations 2 to 4).

    Each position asks a memory of normal and of abnormal items; w is the weight of the abnormal
    ones in a softmax over all cosine similarities. The paper divides by no temperature: with
    cosines in -1..1, w then lies in 0.12..0.88 and normal positions keep an eighth of the residual.
    `compact` divides by 0.1, so that w reaches 0 and 1 (docs/systems/aand.md).

    Args:
        channels: of the features. position: (1, channels, h, w), added to them. items: L, of each
            memory.
    """

    position: Tensor

    def __init__(self, channels: int, position: Tensor, items: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        # Keeps exponentials and their sums within float16 for temperatures from 0.1.
        self.shift = 0.5 / temperature
        self.project = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )
        self.normal = nn.Parameter(torch.randn(items, channels))
        self.abnormal = nn.Parameter(torch.randn(items, channels))
        self.register_buffer("position", position, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> w (N, 1, h, w), 0..1."""
        query = unit(self.project(features + self.position))  # (N, C, h, w), equation 2
        items = functional.normalize(torch.cat([self.normal, self.abnormal]), dim=1)  # (2 L, C)
        kernel = items[:, :, None, None] / self.temperature  # (2 L, C, 1, 1)
        similarity = functional.conv2d(query, kernel)  # (N, 2 L, h, w)
        # Equations 3 and 4 without a softmax's maximum, which a CPU is slow to find over channels:
        # cosines are bounded.
        weights = (similarity - self.shift).exp()
        normal, abnormal = (channel_sum(half) for half in weights.chunk(2, dim=1))  # (N, 1, h, w)
        return abnormal / (normal + abnormal)


class ResidualGenerator(nn.Module):
    """Attribute-scaling residual generator (equation 5): delta = tanh(MLP(F)) F."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scaling = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> delta (N, C, h, w)."""
        return torch.tanh(self.scaling(features)) * features


def focal_loss(weight: Tensor, abnormal: Tensor, mask: Tensor) -> Tensor:
    """Focal loss of the gate (Lin et al., ICCV 2017, equation 4 there): -(1 - p)^2 log p, p that of
    the true kind.

    Args:
        weight: w (N, 1, h, w), 0..1. abnormal: (N, 1, h, w), 0 or 1. mask: positions that count.
    """
    right = (weight * abnormal + (1 - weight) * (1 - abnormal)).clamp(1e-6, 1 - 1e-6)
    loss = (1 - right) ** FOCUS * -right.log()
    return (loss * mask).sum() / mask.sum().clamp(min=1)


def amplification_loss(
    amplified: Tensor, features: Tensor, normal: Tensor, margin: float
) -> Tensor:
    """Equations 7 and 8: mean over pairs of max(cos(F_A_i, F_T_j), cos(F_T_i, F_T_j) - margin).

    Args:
        amplified: F_A (A, C) of abnormal positions. features: F_T (A, C) of the same.
        normal: F_T (B, C) of normal positions. margin: alpha; by how much a similarity has to fall
            to be low enough.
    """
    normal = functional.normalize(normal, dim=1)
    after = functional.normalize(amplified, dim=1) @ normal.T  # (A, B) cosines
    before = functional.normalize(features, dim=1) @ normal.T  # (A, B)
    return torch.maximum(after, before - margin).mean()


def sampled_rows(rows: Tensor, generator: torch.Generator, most: int = PAIRS) -> Tensor:
    """At most `most` of the rows (M, C), sampled without repetition."""
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:most]]
