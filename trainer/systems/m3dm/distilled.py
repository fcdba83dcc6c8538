"""Distilled coresets: a small memory bank whose field of nearest distances is that of a large one.

A coreset of few rows leaves normal features far from every row, and its distances there say
nothing. Beyond M3DM: start from the large bank's first greedy rows, let every row m stand for a
ball of squared radius r, and move rows and radii so that at features f, normal ones and those of
drawn anomalies,

    max(0, min over m of (||f - m||^2 - r))   is   D(f) = min over the large bank of ||f - m||^2.

Compared are square roots, sqrt(d + e) with a small e: a distance off by a tenth matters as much
where it is small, on normal parts, as where it is large; e keeps the root's slope bounded where a
ball reaches around f. Only the nearest row of each feature learns from it, as in online k-means;
what is a plain nearest distance on the device is one here, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.systems.m3dm.memory_bank import MemoryBank

SMALLEST = 0.03  # e, in mean squared distances of the features from the large bank
RADIUS_RATE = 5.0  # learning steps of a radius, which is a square, in steps of a row


class DistilledBank(nn.Module):
    """Rows (M, C) and squared radii (M,) that learn; channels relative to the large bank's center.

    Args:
        channels, rows: C and M; `start` gives the rows their values.
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
        """Begin with the first rows of the bank to imitate; one that has begun, in a resumed
        training, goes on.
        """
        if not self.started:
            self.center.copy_(large.center)
            self.rows.copy_(large.rows[: len(self.rows)] - large.center)
            self.started.fill_(True)

    def forward(self, features: Tensor) -> Tensor:
        """Distances (P,) of features (P, C): through the nearest row, which alone gets a
        gradient.
        """
        own = features - self.center
        with torch.no_grad():
            bias = self.rows.square().sum(dim=1) - RADIUS_RATE * self.radius
            nearest = torch.addmm(bias, own, self.rows.T, alpha=-2).argmin(dim=1)
        squared = (own - self.rows[nearest]).square().sum(dim=1)
        return torch.relu(squared - RADIUS_RATE * self.radius[nearest])

    def loss(self, features: Tensor, wanted: Tensor, smallest: Tensor | float) -> Tensor:
        """Mean squared difference of the roots. features: (P, C). wanted: D (P,).

        smallest: e, a squared distance.
        """
        error: Tensor = (self(features) + smallest).sqrt() - (wanted + smallest).sqrt()
        return error.square().mean()

    def fill(self, bank: MemoryBank) -> None:
        """Make `bank` this one."""
        bank.fill(
            (self.rows + self.center).detach(), RADIUS_RATE * self.radius.detach(), self.center
        )


@torch.no_grad()
def nearest_distance(bank: MemoryBank, features: Tensor, block: int = 16_384) -> Tensor:
    """Squared distance (P,) of features (P, C), any float type, to the bank, block by block."""
    parts = [
        bank(part.float().T[None, :, :, None])[0, 0, :, 0] for part in torch.split(features, block)
    ]
    return torch.cat(parts)
