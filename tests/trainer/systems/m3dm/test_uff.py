"""Patch-wise InfoNCE by hand, and what its gradient reaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.systems.m3dm.uff import TEMPERATURE, FeatureFusion, info_nce


def unit_rows(count: int, seed: int) -> Tensor:
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def test_the_loss_is_equation_1_over_all_positions() -> None:
    query, key = unit_rows(9, 0), unit_rows(9, 1)
    first, second = query.double().numpy(), key.double().numpy()
    losses = []
    for i in range(9):
        similar = [np.exp(first[i] @ second[k] / TEMPERATURE) for k in range(9)]
        losses.append(-np.log(similar[i] / sum(similar)))
    assert float(info_nce(query, key)) == pytest.approx(np.mean(losses), rel=1e-6)


def fusion() -> FeatureFusion:
    torch.manual_seed(0)
    return FeatureFusion(5, 3)


def maps(seed: int, channels: int) -> Tensor:
    return torch.randn(2, channels, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_only_positions_in_the_mask_count() -> None:
    mask = torch.ones(2, 1, 4, 4)
    mask[:, :, :2] = 0
    color, points = maps(0, 5), maps(1, 3)
    module = fusion().requires_grad_(False)
    before = module.loss(color, points, mask)
    color[:, :, :2], points[:, :, :2] = 99, -99
    assert float(module.loss(color, points, mask)) == pytest.approx(float(before), rel=1e-6)
    assert float(module.loss(color, points, torch.zeros_like(mask))) == 0


def test_training_makes_the_same_place_most_alike() -> None:
    module = fusion()
    generator = torch.Generator().manual_seed(0)
    color = torch.randn(4, 5, 4, 4, generator=generator)
    points = torch.tanh(
        torch.einsum("oc,nchw->nohw", torch.randn(3, 5, generator=generator), color)
    )
    mask = torch.ones(4, 1, 4, 4)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    first = float(module.loss(color, points, mask).detach())
    for _ in range(150):
        optimizer.zero_grad()
        loss = module.loss(color, points, mask)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * first
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_fused_feature_is_both_mlps_side_by_side() -> None:
    module = fusion().eval()
    color, points = maps(0, 5), maps(1, 3)
    fused = module(color, points)
    assert fused.shape == (2, 8, 4, 4)
    assert torch.equal(fused[:, :5], module.color(color))
    assert (
        FeatureFusion(5, 3, 4)(color, points).shape
        == (2, FeatureFusion(5, 3, 4).channels, 4, 4)
        == (2, 8, 4, 4)
    )
    assert torch.equal(fused[:, 5:], module.points(points))
