"""What counts of parts say about rates, against scipy and against the tables that were computed
with it.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calibration.statistics import (
    beta_binomial_cdf,
    beta_binomial_quantile,
    beta_cdf,
    beta_quantile,
    detection_rate,
    f_quantile,
    false_rejects_among,
    parts_to_prove,
    proven_rate,
    rate_after,
)

SHAPES = st.floats(0.5, 5000.0)
SHARES = st.floats(0.001, 0.999)


@given(x=st.floats(0.0, 1.0), a=SHAPES, b=SHAPES)
@settings(max_examples=300, deadline=None)
def test_the_incomplete_beta_function_is_that_of_scipy(x: float, a: float, b: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-8, abs=1e-12)


@given(probability=SHARES, a=SHAPES, b=SHAPES)
@settings(max_examples=100, deadline=None)
def test_its_inverse_gives_the_probability_back(probability: float, a: float, b: float) -> None:
    x = beta_quantile(probability, a, b)
    assert x == pytest.approx(stats.beta.ppf(probability, a, b), rel=1e-6, abs=1e-12)


@given(probability=SHARES, of=st.integers(1, 200), to=st.integers(2, 500))
@settings(max_examples=100, deadline=None)
def test_f_quantiles_are_those_of_scipy(probability: float, of: int, to: int) -> None:
    assert f_quantile(probability, of, to) == pytest.approx(
        stats.f.ppf(probability, of, to), rel=1e-6
    )


@given(probability=SHARES, draws=st.integers(1, 300), a=st.integers(1, 100), b=st.integers(1, 300))
@settings(max_examples=100, deadline=None)
def test_beta_binomial_counts_are_those_of_scipy(
    probability: float, draws: int, a: int, b: int
) -> None:
    of_scipy = stats.betabinom(draws, a, b)
    count = beta_binomial_quantile(probability, draws, a, b)
    assert beta_binomial_cdf(count, draws, a, b) == pytest.approx(of_scipy.cdf(count), abs=1e-9)
    assert of_scipy.cdf(count) >= probability - 1e-9
    assert of_scipy.cdf(count - 1) < probability + 1e-9


@given(rejected=st.integers(0, 50), more=st.integers(0, 500))
@settings(max_examples=100, deadline=None)
def test_the_bound_of_a_counted_rate_is_that_of_clopper_and_pearson(
    rejected: int, more: int
) -> None:
    parts = max(1, rejected + more)
    exact = stats.binomtest(rejected, parts, alternative="less").proportion_ci(0.95, "exact")
    assert rate_after(rejected, parts) == pytest.approx(exact.high, abs=1e-9)
    exact = stats.binomtest(rejected, parts, alternative="greater").proportion_ci(0.95, "exact")
    assert detection_rate(rejected, parts) == pytest.approx(exact.low, abs=1e-9)


@given(parts=st.integers(1, 2000), rank=st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_what_a_rank_proves_is_a_quantile_of_beta(parts: int, rank: int) -> None:
    rank = min(rank, parts)
    assert proven_rate(parts, rank) == pytest.approx(
        beta_quantile(0.95, rank, parts + 1 - rank), rel=1e-9
    )


@pytest.mark.parametrize(
    ("rate", "by_rank", "at_90"),
    [
        (0.1, (29, 46, 61), 22),
        (0.05, (59, 93, 124), 45),
        (0.02, (149, 236, 313), 114),
        (0.01, (299, 473, 628), 230),
        (0.005, (598, 947, 1258), 460),
        (0.001, (2995, 4742, 6294), 2302),
    ],
)
def test_how_many_parts_prove_a_rate(
    rate: float, by_rank: tuple[int, int, int], at_90: int
) -> None:
    assert tuple(parts_to_prove(rate, rank) for rank in (1, 2, 3)) == by_rank
    assert parts_to_prove(rate, confidence=0.9) == at_90
    assert proven_rate(by_rank[0]) <= rate < proven_rate(by_rank[0] - 1)


@pytest.mark.parametrize(
    ("parts", "mean", "upper"), [(10, 91, 206), (30, 32, 75), (59, 17, 39), (100, 10, 23)]
)
def test_false_rejects_in_the_next_thousand(parts: int, mean: int, upper: int) -> None:
    among = false_rejects_among(1000, parts)
    assert (round(among.expected), among.upper) == (mean, upper)


@pytest.mark.parametrize(
    ("parts", "next_parts", "chance"), [(10, 10, 0.5), (20, 100, 0.17), (50, 100, 0.33)]
)
def test_the_chance_of_no_false_reject(parts: int, next_parts: int, chance: float) -> None:
    none = beta_binomial_cdf(0, next_parts, 1, parts)
    assert none == pytest.approx(parts / (parts + next_parts))
    assert none == pytest.approx(chance, abs=0.005)


def test_a_claim_grows_with_every_good_part_that_passes() -> None:
    assert rate_after(0, 59) == pytest.approx(0.0495, abs=1e-4)
    assert rate_after(0, 299) == pytest.approx(0.01, abs=1e-4)
    assert f"{rate_after(0, 412):.2%}" == "0.72%"
    assert (rate_after(3, 3), rate_after(0, 1)) == (1.0, pytest.approx(0.95))


def test_what_known_bad_parts_prove() -> None:
    proven = {caught: f"{detection_rate(caught, caught):.0%}" for caught in (3, 5, 10, 22, 29)}
    assert proven == {3: "37%", 5: "55%", 10: "74%", 22: "87%", 29: "90%"}
    assert detection_rate(5, 5) == pytest.approx(0.05 ** (1 / 5))
    assert detection_rate(0, 5) == 0.0
    assert detection_rate(4, 5) < detection_rate(5, 5)


def test_no_count_of_parts_makes_it_fail() -> None:
    assert math.isfinite(rate_after(1000, 100_000))
    assert false_rejects_among(1000, 5000, 250).upper == pytest.approx(
        stats.betabinom.ppf(0.9, 1000, 250, 4751), abs=0
    )
