"""The threshold's promise: the order statistic's closed form against simulation, scipy and the
published table.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from edge.errors import CalibrationError, ConfigError
from edge.proof.threshold import (
    expected_rate,
    guarantee_sentence,
    operating_ranks,
    ordinal,
    parse_rate,
    parts_needed,
    percent_of,
    rank_for,
    rate_bound,
    threshold_at,
    threshold_from_normals,
)

WILKS = [(5, 0.45), (10, 0.26), (20, 0.139), (30, 0.095), (50, 0.058), (100, 0.030)]


@pytest.mark.parametrize(("parts", "rate"), WILKS)
def test_the_bound_of_the_highest_matches_the_wilks_table(parts: int, rate: float) -> None:
    assert rate_bound(parts) == pytest.approx(rate, abs=0.006)
    assert 1 - (1 - rate_bound(parts)) ** parts == pytest.approx(0.95, abs=1e-12)


@given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_bound_is_the_quantile_of_beta(parts: int, share: float, confidence: float) -> None:
    rank = 1 + int(share * (parts - 1))
    assert rate_bound(parts, rank, confidence) == pytest.approx(
        beta.ppf(confidence, rank, parts + 1 - rank), abs=1e-9
    )


@pytest.mark.parametrize(("parts", "rank"), [(20, 1), (29, 4), (100, 5), (200, 10)])
def test_the_promise_holds_in_simulation(parts: int, rank: int) -> None:
    """Of many thresholds set with n parts, 95 % must keep the bound; the mean rate is r / (n
    + 1).
    """
    rng = np.random.default_rng(3)
    scores = np.sort(rng.exponential(size=(20_000, parts)), axis=1)
    rates = np.exp(-scores[:, parts - rank])  # of the same exponential parts, those above it
    assert np.mean(rates <= rate_bound(parts, rank)) == pytest.approx(0.95, abs=0.005)
    assert rates.mean() == pytest.approx(expected_rate(parts, rank), rel=0.02)


@pytest.mark.parametrize(
    ("rate", "rank", "parts"), [(0.05, 1, 59), (0.01, 1, 299), (0.001, 1, 2995), (0.05, 2, 93)]
)
def test_parts_needed_is_the_smallest_that_holds(rate: float, rank: int, parts: int) -> None:
    assert parts_needed(rate, rank) == parts
    assert rate_bound(parts, rank) <= rate < rate_bound(parts - 1, rank)


@pytest.mark.parametrize(
    ("parts", "rate", "rank"),
    [
        (1, 0.05, 1),
        (18, 0.05, 1),
        (19, 0.05, 1),
        (29, 0.05, 1),
        (38, 0.05, 1),
        (39, 0.05, 2),
        (99, 0.29, 29),
        (99, 0.07, 7),
        (99, 0.5, 50),
        (999, 0.057, 57),
        (98, 0.29, 28),
        (20, 0.001, 1),
    ],
)
def test_the_rank_is_the_largest_that_keeps_the_rate(parts: int, rate: float, rank: int) -> None:
    assert rank_for(parts, rate) == rank
    assert rank == 1 or expected_rate(parts, rank) <= rate + 1e-12
    assert expected_rate(parts, min(parts, rank + 1)) > rate or rank == parts


def test_the_threshold_is_that_score_as_float32_with_its_guarantee() -> None:
    scores = np.random.default_rng(0).permutation(np.linspace(0.1, 1.1, 59))
    threshold = threshold_from_normals(scores, 0.05)
    assert threshold.rank == 3
    assert threshold.value == float(np.float32(np.sort(scores)[-3]))
    assert (threshold.parts, threshold.expected, threshold.false_rejects) == (59, 3 / 60, 0.05)
    assert threshold.bound == pytest.approx(beta.ppf(0.95, 3, 57))
    assert threshold == threshold_at(np.sort(scores)[-3:], 3, 0.05, parts=59), (
        "the highest scores are enough"
    )


def test_the_guarantee_says_how_many_parts_would_be_needed() -> None:
    assert (
        guarantee_sentence(20, 1, 0.05)
        == "With 95% confidence at most 13.9% of normal parts are rejected, 4.8% on average "
        "(highest of 20 normal parts; 59 would give 5%)"
    )
    assert (
        guarantee_sentence(100, 5, 0.05)
        == "With 95% confidence at most 8.9% of normal parts are rejected, 5.0% on average "
        "(5th highest of 100 normal parts)"
    )
    assert "highest of 1 normal part;" in guarantee_sentence(1, 1, 0.05)


def test_parts_left_out_are_counted_as_if_they_had_been_normal() -> None:
    threshold = threshold_from_normals(np.linspace(0, 1, 28), 0.05, left_out=2)
    assert (threshold.parts, threshold.left_out) == (28, 2)
    assert f"{(1 + 2) / (28 + 2 + 1):.1%}" == "9.7%"
    assert threshold.guarantee.endswith("; 9.7% on average if the 2 left out were normal")
    assert "left out" not in threshold_from_normals([1.0, 2.0]).guarantee


@pytest.mark.parametrize(
    ("text", "rate"),
    [("5%", 0.05), ("5 %", 0.05), (" 0.05 ", 0.05), (".5%", 0.005), ("50%", 0.5), ("0.1", 0.1)],
)
def test_a_rate_is_read_as_written(text: str, rate: float) -> None:
    assert parse_rate(text) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["5", "0", "0%", "-1%", "80%", "abc", "", "nan", "1e-2", "5%%", "5,0%"]
)
def test_a_rate_that_could_mean_anything_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--false-rejects .*such as 5% or 0\.05"):
        parse_rate(text)


def test_ranks_listed_are_the_first_few_and_the_chosen_one() -> None:
    assert operating_ranks(29, 1) == [1, 2, 3, 4, 6]
    assert operating_ranks(3, 1) == [1, 2, 3]
    assert operating_ranks(100, 5) == [1, 2, 3, 4, 5, 6, 8, 12, 16]
    assert operating_ranks(10, 5) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_unusable_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(CalibrationError):
        threshold_from_normals(scores)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(CalibrationError):
        parts_needed(rate)
    with pytest.raises(ConfigError):
        rank_for(20, rate)


@pytest.mark.parametrize("rank", [0, 4])
def test_a_rank_beyond_the_scores_is_refused(rank: int) -> None:
    with pytest.raises(CalibrationError, match="of 3 normal scores does not exist"):
        threshold_at([1.0, 2.0, 3.0], rank, 0.05)


def test_numbers_are_written_as_people_do() -> None:
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 22, 111, 112, 101)
    written = [
        "1st",
        "2nd",
        "3rd",
        "4th",
        "11th",
        "12th",
        "13th",
        "21st",
        "22nd",
        "111th",
        "112th",
        "101st",
    ]
    assert [ordinal(number) for number in numbers] == written
    assert [percent_of(rate) for rate in (0.05, 0.005, 0.125)] == ["5%", "0.5%", "12.5%"]
