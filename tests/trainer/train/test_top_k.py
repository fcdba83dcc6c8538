"""Which share of a map makes its score: the largest that is about as steady among normal parts as
the steadiest.
"""

from __future__ import annotations

import numpy as np
import pytest

from trainer.train.top_k import choose_top_k
from trainer.train.validation import NormalPart

SHARES = (0.01, 0.1, 0.5)  # 1, 10 and 50 of the 100 cells of a map
MEANS = (4.0, 2.0, 1.0)  # of the scores under each share; a larger share reaches into lower cells


def parts_with(spreads: tuple[float, float, float], count: int) -> list[NormalPart]:
    """Maps of 10x10 cells whose scores under SHARES vary among the parts by exactly these, relative
    to their mean.
    """
    steps = np.linspace(-1, 1, count)
    steps /= steps.std()
    one, ten, fifty = (
        mean * (1 + spread * steps) for mean, spread in zip(MEANS, spreads, strict=True)
    )
    return [
        normal_part([one[i], (10 * ten[i] - one[i]) / 9, (50 * fifty[i] - 10 * ten[i]) / 40])
        for i in range(count)
    ]


def normal_part(levels: list[float]) -> NormalPart:
    """1 cell of the first level, 9 of the second, 40 of the third, 50 that no share reaches;
    scattered.
    """
    assert sorted(levels, reverse=True) == levels
    cells = np.repeat([*levels, 0.0], (1, 9, 40, 50)).astype(np.float32)
    shuffled = np.random.default_rng(0).permutation(cells).reshape(10, 10)
    return NormalPart(None, shuffled, np.ones((10, 10), np.float32), 0.0, 0.3, 1.0, 0.0)


def test_the_maps_have_the_spreads_that_were_asked_for() -> None:
    spreads = (0.1, 0.02, 0.025)
    parts = parts_with(spreads, 8)
    for share, mean, spread in zip(SHARES, MEANS, spreads, strict=True):
        scores = np.array([part.score(share) for part in parts])
        assert scores.mean() == pytest.approx(mean, rel=1e-5)
        assert scores.std() / scores.mean() == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize(
    ("count", "spreads", "expected"),
    [
        # 8 parts: a spread is known to 1 / sqrt(14) = 26.7 % of itself
        (8, (0.10, 0.020, 0.0250), 0.5),  # 25 % above the smallest: the larger share wins
        (8, (0.10, 0.020, 0.0257), 0.1),  # 28.5 %: it does not
        (8, (0.02, 0.020, 0.0200), 0.5),  # all alike
        # a share between them that is out of bounds does not stand in the way
        (8, (0.02, 0.030, 0.0240), 0.5),
        (8, (0.01, 0.050, 0.0500), 0.01),  # one cell, where it really is the steadiest
        (8, (0.05, 0.050, 0.0100), 0.5),
        # the fewer parts, the more is allowed
        (3, (0.10, 0.020, 0.0290), 0.5),  # 1 / sqrt(4) = 50 %: 45 % is within
        (3, (0.10, 0.020, 0.0310), 0.1),
        (4, (0.10, 0.020, 0.0276), 0.5),  # 1 / sqrt(6) = 40.8 %: 38 % is within
        (4, (0.10, 0.020, 0.0286), 0.1),
        (50, (0.10, 0.020, 0.0218), 0.5),  # 1 / sqrt(98) = 10.1 %: 9 % is within
        (50, (0.10, 0.020, 0.0222), 0.1),
    ],
)
def test_the_largest_share_within_the_uncertainty_of_the_smallest_spread_is_chosen(
    count: int, spreads: tuple[float, float, float], expected: float
) -> None:
    parts = parts_with(spreads, count)
    chosen, why = choose_top_k(parts, SHARES)
    assert chosen == expected
    assert f"{count} normal validation parts" in why
    assert f"1.0%: {spreads[0]:.3f}, 10.0%: {spreads[1]:.3f}" in why
    assert choose_top_k(parts, SHARES[::-1])[0] == expected  # in whatever order they are tried


def test_a_single_noisy_cell_makes_the_smallest_share_lose() -> None:
    noise = np.random.default_rng(0)
    steady = [normal_part([5.0, 2.0 + 0.02 * noise.random(), 1.0]) for _ in range(8)]
    noisy = [
        normal_part([3.0 + 4.0 * noise.random(), 2.0 + 0.02 * noise.random(), 1.0])
        for _ in range(8)
    ]
    assert choose_top_k(steady, SHARES[:2])[0] == 0.01
    assert choose_top_k(noisy, SHARES[:2])[0] == 0.1
    assert choose_top_k(noisy, SHARES)[0] == 0.5  # and the more cells, the less that one weighs


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_parts_choose_nothing(count: int) -> None:
    parts = parts_with((0.10, 0.020, 0.020), 3)[:count]
    chosen, why = choose_top_k(parts, SHARES[1:])
    assert chosen == 0.01  # the default, though it is no candidate
    assert f"{count} normal validation {'part is' if count == 1 else 'parts are'} too few" in why
