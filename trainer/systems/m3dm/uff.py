"""UFF, unsupervised feature fusion (M3DM, section 3.3): color and point features of one position
are made alike.

One MLP for each modality maps its features; heads map both to unit vectors h, and patch-wise
InfoNCE (equation 1) trains the color vector of each position to be nearest to the point vector of
the same position, among all positions (k, l) of the image:

    L = - log exp(h_rgb(i,j) . h_pt(i,j) / t) / sum over (k,l) of exp(h_rgb(i,j) . h_pt(k,l) / t)

As printed, the sum runs over matched pairs; the meaning is the one above. The fused feature is the
concatenation of the outputs of the trained MLPs; the public code concatenates the features
themselves. Equation 1 names no temperature; 0.07 is the usual one of contrastive learning (MoCo,
CVPR 2020).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

TEMPERATURE = 0.07
WIDER = 2  # hidden width of an MLP over its input's
HEAD = 64  # dimensions in which positions are compared


class PositionNorm(nn.Module):
    """LayerNorm over the channels of every position, (N, C, h, w), written with products that every
    runtime knows.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        return cast(Tensor, self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


class FeatureFusion(nn.Module):
    """The two MLPs, per position.

    Args:
        color, points: channels of either modality. fused: output channels of either MLP; None: as
            many as its input has.
    """

    def __init__(self, color: int, points: int, fused: int | None = None) -> None:
        super().__init__()
        given = (fused or color, fused or points)
        self.channels = sum(given)
        self.color = _mlp(color, given[0])
        self.points = _mlp(points, given[1])
        self.color_head = nn.Conv2d(given[0], HEAD, 1)
        self.point_head = nn.Conv2d(given[1], HEAD, 1)

    def forward(self, color: Tensor, points: Tensor) -> Tensor:
        """(N, Cc, h, w), (N, Cp, h, w) -> fused (N, channels, h, w)."""
        return torch.cat([self.color(color), self.points(points)], dim=1)

    def loss(self, color: Tensor, points: Tensor, mask: Tensor) -> Tensor:
        """Equation 1, mean over the positions in the mask (N, 1, h, w) and over the images."""
        query = functional.normalize(self.color_head(self.color(color)), dim=1)  # (N, HEAD, h, w)
        key = functional.normalize(self.point_head(self.points(points)), dim=1)
        losses = [
            info_nce(one.flatten(1).T[inside], other.flatten(1).T[inside])  # of (P, HEAD) each
            for one, other, inside in zip(query, key, mask.flatten(1) > 0, strict=True)
            if int(inside.sum()) > 1
        ]
        return torch.stack(losses).mean() if losses else 0.0 * (query.sum() + key.sum())


def info_nce(query: Tensor, key: Tensor) -> Tensor:
    """Mean over P positions of equation 1, of unit vectors (P, D) and (P, D) in the same order."""
    similarity = query @ key.T / TEMPERATURE  # (P, P)
    return functional.cross_entropy(similarity, torch.arange(len(query), device=query.device))


def _mlp(channels: int, given: int) -> nn.Sequential:
    hidden = WIDER * channels
    return nn.Sequential(
        PositionNorm(channels),
        nn.Conv2d(channels, hidden, 1),
        nn.GELU(),
        nn.Conv2d(hidden, given, 1),
    )
