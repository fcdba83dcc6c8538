"""Distilled coresets: a small memory bank that gives the nearest distances of a large one.

In a coreset of few rows normal features are far from every row, so that its distances no longer
tell normal from abnormal. Beyond M3DM: start from the large bank's first greedy rows, let every row
m stand for a ball of squared radius r, and train rows and radii until at features f, normal ones
and those of synthetic anomalies,

    max(0, min over m of (||f - m||^2 - r))   is   D(f) = min over the large bank of ||f - m||^2.

The loss compares square roots, sqrt(d + e) with a small e: an error of a tenth matters as much
where distances are small, on normal parts, as where they are large; e bounds the root's slope where
f lies inside a ball. Only the nearest row of each feature learns from it, as in online k-means: the
device computes a plain nearest distance, and so does the training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.systems.m3dm.memory_bank import MemoryBank

SMALLEST = 0.03  # e, in mean squared distances of the features to the large bank
# a radius learns this much faster than a coordinate of a row: it is a square, so of another size
RADIUS_RATE = 5.0


class DistilledBank(nn.Module):
    """Trainable rows (M, C), relative to the large bank's center, and squared radii (M,).

    Args:
        channels, rows: C and M; `start` sets the rows.
    """

    center: Tensor
    started: Tensor

    def __init__(self, channels: int, rows: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(rows, channels))
        self.radius = nn.Parameter(torch.zeros(rows))
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def start(self, large: MemoryBank) -> None:
        """Set the rows to the first ones of the large bank, once: a resumed training keeps its
        own.
        """
        if not self.started:
            self.center.copy_(large.center)
            self.rows.copy_(large.rows[: len(self.rows)] - large.center)
            self.started.fill_(True)

    def forward(self, features: Tensor) -> Tensor:
        """Squared distances (P,) of features (P, C) to the nearest row, which alone gets a
        gradient.
        """
        own = features - self.center  # (P, C)
        with torch.no_grad():
            bias = self.rows.square().sum(dim=1) - RADIUS_RATE * self.radius  # (M,)
            nearest = torch.addmm(bias, own, self.rows.T, alpha=-2).argmin(dim=1)  # (P,)
        squared = (own - self.rows[nearest]).square().sum(dim=1)  # (P,)
        return torch.relu(squared - RADIUS_RATE * self.radius[nearest])

    def loss(self, features: Tensor, target: Tensor, smallest: Tensor | float) -> Tensor:
        """Mean squared difference of the roots. features: (P, C). target: D (P,).

        smallest: e, a squared distance.
        """
        error: Tensor = (self(features) + smallest).sqrt() - (target + smallest).sqrt()
        return error.square().mean()

    def fill(self, bank: MemoryBank) -> None:
        """Put rows and radii into `bank`."""
        bank.fill(
            (self.rows + self.center).detach(), RADIUS_RATE * self.radius.detach(), self.center
        )


@torch.no_grad()
def nearest_distance(bank: MemoryBank, features: Tensor, block: int = 16_384) -> Tensor:
    """Squared distance (P,) of features (P, C), any float type, to the bank, block by block."""
    columns = (part.float().T[None, :, :, None] for part in torch.split(features, block))
    return torch.cat([bank(one)[0, 0, :, 0] for one in columns])  # of (1, C, block, 1) each
