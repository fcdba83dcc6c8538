"""Greedy k-center against the definition, one distance at a time, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.layers import coreset
from trainer.layers.coreset import greedy_coreset


def brute_force(features: Tensor, count: int, first: int) -> list[int]:
    """Every step looks at every feature and every row taken."""
    rows, taken = features.double().numpy(), [first]
    while len(taken) < count:
        nearest = np.min(((rows[:, None] - rows[taken][None]) ** 2).sum(axis=2), axis=1)
        taken.append(int(nearest.argmax()))
    return taken


def features(count: int, channels: int = 7, seed: int = 0) -> Tensor:
    """Clusters of very different density, far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    centers = 5 * torch.randn(6, channels, generator=generator) + 30
    chosen = torch.randint(6, (count,), generator=generator)
    return centers[chosen] + torch.randn(count, channels, generator=generator) * (
        0.1 + chosen[:, None]
    )


@pytest.mark.parametrize("pool", [3, 32, 10_000])
def test_it_is_the_greedy_choice_whatever_the_pool(
    pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreset, "POOL", pool)
    monkeypatch.setattr(coreset, "BLOCK", 64)
    rows = features(400)
    taken = greedy_coreset(rows, 60, seed=3).tolist()
    assert taken == brute_force(rows, 60, taken[0])


def test_its_first_rows_are_the_smaller_coreset() -> None:
    rows = features(300)
    assert greedy_coreset(rows, 40, seed=1)[:9].tolist() == greedy_coreset(rows, 9, seed=1).tolist()


def test_half_precision_features_are_compared_in_single(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = features(300).half()
    taken = greedy_coreset(rows, 30, seed=0).tolist()
    assert taken == brute_force(rows.float(), 30, taken[0])


def test_copies_are_taken_last_and_no_row_twice() -> None:
    rows = torch.cat([features(20), features(20)])
    taken = greedy_coreset(rows, 40, seed=0)
    assert sorted(taken.tolist()) == list(range(40))
    assert len({number % 20 for number in taken[:20].tolist()}) == 20


def test_a_projection_keeps_far_rows() -> None:
    rows = torch.randn(500, 128, generator=torch.Generator().manual_seed(0))
    rows[[17, 333]] *= 8
    assert {17, 333} <= set(greedy_coreset(rows, 4, seed=0, projected=32).tolist())


@pytest.mark.parametrize("count", [0, 11])
def test_an_impossible_size_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"a coreset of {count} rows cannot be taken from 10"):
        greedy_coreset(features(10), count, seed=0)
