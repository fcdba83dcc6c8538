"""Which normal scores stand apart: planted ones are found, honest tails are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.proof.outliers import LEAST_PARTS, MOST_SHARE, find_outliers

# 29 validation images of a real category: the highest set a threshold under which no defect was
# found
REAL = [
    0.43,
    0.32,
    0.27,
    0.26,
    0.25,
    0.245,
    0.24,
    0.235,
    0.23,
    0.225,
    0.222,
    0.22,
    0.218,
    0.215,
    0.21,
    0.208,
    0.205,
    0.2,
    0.198,
    0.195,
    0.19,
    0.188,
    0.185,
    0.18,
    0.176,
    0.17,
    0.165,
    0.16,
    0.15,
]


def skewed(parts: int, seed: int, spread: float = 0.2) -> np.ndarray:
    """Scores as normal parts have them: their logarithms are about normal."""
    return np.exp(np.random.default_rng(seed).normal(0, spread, parts))


def test_one_part_that_does_not_belong_is_named() -> None:
    scores = skewed(40, 0)
    scores[7] = 5 * np.median(scores)
    assert find_outliers(scores) == [7]


def test_several_come_highest_first() -> None:
    scores = skewed(60, 1)
    scores[[3, 50, 20]] = np.array([6.0, 8.0, 7.0]) * np.median(scores)
    assert find_outliers(scores) == [50, 20, 3]


def test_the_image_that_hid_every_defect_is_named() -> None:
    assert find_outliers(REAL) == [0]


@pytest.mark.parametrize(("parts", "most"), [(12, 0.12), (20, 0.08), (60, 0.05), (200, 0.05)])
def test_honest_scores_are_seldom_called_outliers(parts: int, most: float) -> None:
    """Few parts do not tell how wide scores spread: the rarer the parts, the more often one is
    named for nothing.
    """
    named = sum(bool(find_outliers(skewed(parts, seed))) for seed in range(400))
    assert named / 400 <= most


@pytest.mark.parametrize("parts", [20, 60, 200])
def test_a_long_tail_is_no_outlier(parts: int) -> None:
    """Log-normal with three times the spread, and uniform: both have large gaps at their ends."""
    wide = sum(bool(find_outliers(skewed(parts, seed, 0.6))) for seed in range(200))
    flat = sum(
        bool(find_outliers(np.random.default_rng(seed).uniform(1, 2, parts))) for seed in range(200)
    )
    assert wide / 200 <= 0.05
    assert flat / 200 <= 0.02


def test_a_second_kind_of_normal_part_is_no_outlier() -> None:
    scores = np.concatenate([skewed(30, 2), 5 * skewed(10, 3)])
    assert find_outliers(scores) == []


def test_too_few_parts_name_none() -> None:
    scores = np.ones(LEAST_PARTS - 1)
    scores[0] = 100
    assert find_outliers(scores) == []


def test_equal_scores_and_zeros_are_no_outliers() -> None:
    assert find_outliers(np.ones(30)) == []
    assert find_outliers(np.zeros(30)) == []
    assert find_outliers([1.0] * 29 + [9.0]) == [29]


@given(st.integers(8, 80), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_neither_unit_nor_order_matter(parts: int, seed: int, unit: float) -> None:
    scores = skewed(parts, seed)
    scores[0] *= 6
    order = np.random.default_rng(seed).permutation(parts)
    found = find_outliers(scores)
    assert len(found) <= max(1, int(MOST_SHARE * parts))
    assert find_outliers(unit * scores) == found
    assert [int(order[index]) for index in find_outliers(scores[order])] == found
