"""Chamfer distance between point sets, squared (L2), as Point-MAE's loss takes it (Pang et al.,
ECCV 2022, eq. 6).
"""

from __future__ import annotations

from torch import Tensor


def chamfer_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of every point to the nearest of the other set, both ways added.

    first: (M, K, 3). second: (M, L, 3), M pairs of sets. Returns: the mean over all pairs, scalar.
    """
    difference = first[:, :, None, :] - second[:, None, :, :]
    squared = (difference * difference).sum(dim=3)  # (M, K, L)
    distance: Tensor = squared.amin(dim=2).mean() + squared.amin(dim=1).mean()
    return distance
