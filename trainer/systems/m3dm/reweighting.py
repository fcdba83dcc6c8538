"""PatchCore's image score, which M3DM takes from it for each bank (Roth et al., CVPR 2022,
equations 6 and 7).

The feature f* with the largest distance s* = ||f* - m*|| decides; it counts less where the bank is
sparse around its nearest row m*:

    s = (1 - exp(s*) / sum over m in N of exp(||f* - m||)) s*

N are the rows nearest to m*, m* itself among them. Exponents are taken relative to the largest, so
none overflows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.systems.m3dm.memory_bank import MemoryBank

NEIGHBORS = 9


class Reweighted(nn.Module):
    """Image score of one bank.

    Args:
        neighbors: rows in N, fewer where the bank has fewer.
    """

    def __init__(self, neighbors: int = NEIGHBORS) -> None:
        super().__init__()
        self.neighbors = neighbors

    def forward(self, bank: MemoryBank, features: Tensor, squared: Tensor, mask: Tensor) -> Tensor:
        """Equation 7.

        Args:
            features: (N, C, h, w). squared: (N, 1, h, w), the bank's answer. mask: (N, 1, h, w), 1
                where it counts.
        Returns: (N,), in units of distance; 0 for an image whose mask is empty.
        """
        largest, place = (squared * mask).flatten(1).topk(1, dim=1)  # (N, 1)
        index = place[:, :, None].expand(-1, features.shape[1], -1)
        own = features.flatten(2).gather(2, index)[:, :, 0] - bank.center  # (N, C), f*
        to_rows = own @ bank.weight.T + bank.bias  # less ||f*||^2, (N, M)
        nearest = (-to_rows).topk(1, dim=1).indices  # (N, 1)
        row = -0.5 * bank.weight[nearest[:, 0]]  # (N, C), m*
        count = min(self.neighbors, len(bank))
        around = (-(row @ bank.weight.T + bank.bias)).topk(count, dim=1).indices  # (N, b)
        length = (own * own).sum(dim=1, keepdim=True)  # (N, 1)
        distances = (to_rows.gather(1, around) + length).clamp(min=0).sqrt()  # (N, b)
        star = largest.clamp(min=0).sqrt()  # (N, 1)
        top = torch.maximum(distances.amax(dim=1, keepdim=True), star)
        share = (star - top).exp() / (distances - top).exp().sum(dim=1, keepdim=True)
        return ((1 - share) * star)[:, 0]  # (N,)
