"""Chamfer distance against brute force, in float64."""

from __future__ import annotations

import numpy as np
import torch

from trainer.systems.m3dm.chamfer import chamfer_distance


def test_equals_brute_force_and_is_the_same_both_ways() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(4, 6, 3)), random.normal(size=(4, 9, 3))
    expected = 0.0
    for a, b in zip(first, second, strict=True):
        there = np.mean([min(((p - q) ** 2).sum() for q in b) for p in a])
        back = np.mean([min(((p - q) ** 2).sum() for q in a) for p in b])
        expected += (there + back) / 4
    tensors = torch.from_numpy(first), torch.from_numpy(second)
    assert abs(float(chamfer_distance(*tensors)) - expected) < 1e-12
    assert abs(float(chamfer_distance(tensors[1], tensors[0])) - expected) < 1e-12


def test_equal_sets_in_another_order_are_at_distance_zero() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3, 8, 3, generator=generator)
    assert float(chamfer_distance(points, points[:, torch.randperm(8, generator=generator)])) == 0


def test_its_gradient_is_that_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(2)
    first = torch.rand(2, 5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    second = torch.rand(2, 4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    # torch's own
    check = torch.autograd.gradcheck
    assert check(chamfer_distance, (first, second))  # type: ignore[no-untyped-call]
