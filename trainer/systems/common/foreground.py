"""The foreground on a feature grid: which cells count, and means and rows over them alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainer.graph.preprocess import ANY


def cell_mask(foreground: Tensor, rows: int) -> Tensor:
    """Cells of a grid of `rows` rows with any foreground: (N, 1, H, W) -> (N, 1, h, w), 0 or 1.

    H is a multiple of `rows`.
    """
    share = functional.avg_pool2d(foreground, foreground.shape[2] // rows)  # (N, 1, h, w), 0..1
    return (share > ANY).to(torch.float32)


def rows_of(features: Tensor, mask: Tensor) -> Tensor:
    """(N, C, h, w) and (N, 1, h, w) -> (M, C): the cells where the mask is set, image by image."""
    return features.permute(0, 2, 3, 1)[mask[:, 0] > 0]  # (N, h, w, C) -> (M, C)


def foreground_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (N, C, h, w) over the cells where the mask (N, 1, h, w) is set; 0 where none is.

    The background does not count: nothing is trained on what is never scored.
    """
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)
