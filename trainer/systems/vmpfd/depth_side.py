"""What VMPFD-AD sees of depth: height as a fourth channel of the image that the global branch
reconstructs, and relief and tint that the local branch describes beside the patch descriptors.

The relief is what the depth's encoder (trainer.layers.height) cannot explain of the height, in
sigma of the sensor's noise, near zero on normal parts. A dent that is a hundredth of the part's
height is nothing in the fourth channel and many sigma of relief.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph.prepared import Prepared
from trainer.layers.height import HeightEncoder, enlarged
from trainer.layers.typed import required
from trainer.layers.unshuffle import pixel_unshuffle

SPREADS = 3.0  # deviations of normal heights at which the fourth channel ends
HALVES = 2  # of a descriptor's side: relief and tint of each quarter are channels of their own


class HeightChannel(nn.Module):
    """Height to a channel of the image, by mean and deviation of normal heights.

    Args:
        finer: side of the color image over that of the depth image.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, finer: int) -> None:
        super().__init__()
        self.finer = finer
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))

    @torch.no_grad()
    def measure(self, height: Tensor, foreground: Tensor) -> None:
        """Take mean and deviation of normal heights (N, 1, hd, wd) over the foreground."""
        inside = height[foreground > 0].double()
        if len(inside):
            self.center.copy_(inside.mean())
            self.spread.copy_(inside.std(correction=0).clamp(min=1e-6))

    def forward(self, height: Tensor, foreground: Tensor) -> Tensor:
        """Height in meters and foreground (N, 1, hd, wd) -> (N, 1, Hc, Wc) at the color's size:
        -1..1 is SPREADS deviations either way, 0 is outside the foreground.
        """
        relative = (height - self.center) / (SPREADS * self.spread)
        return enlarged(relative.clamp(-1, 1) * foreground, self.finer)


class ReliefDescriptors(nn.Module):
    """Relief and tint on the descriptors' grid.

    Args:
        finer: side of the color image over that of the depth image. grid: (h, w) of the
            descriptors.
    """

    channels = 2 * HALVES**2 + 1

    def __init__(self, finer: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.rows = grid[0]
        self.encoder = HeightEncoder(finer=finer)

    def forward(self, prepared: Prepared) -> Tensor:
        """Prepared batch with depth -> (N, channels, h, w): mean relief and mean tint of the
        quarters of a cell, and the mean magnitude of its relief.
        """
        relief, tint = cast(
            tuple[Tensor, Tensor],
            self.encoder(required(prepared.height), prepared.foreground, prepared.color),
        )  # (N, 1, hd, wd) and (N, 1, hd / 2, wd / 2)
        magnitude = functional.avg_pool2d(relief.abs(), relief.shape[2] // self.rows)
        return torch.cat([self._quarters(relief), self._quarters(tint), magnitude], dim=1)

    def _quarters(self, image: Tensor) -> Tensor:
        """(N, 1, h', w') -> (N, HALVES^2, h, w)."""
        fold = image.shape[2] // (HALVES * self.rows)
        return pixel_unshuffle(functional.avg_pool2d(image, fold) if fold > 1 else image, HALVES)
