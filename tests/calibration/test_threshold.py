"""The threshold's promise: the closed form against simulation and the published table."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.threshold import (
    false_reject_rate,
    guarantee_sentence,
    mean_false_reject_rate,
    parts_needed,
    require_promise,
    threshold_from_normals,
)
from edge.errors import CalibrationError

WILKS = [(5, 0.45), (10, 0.26), (20, 0.139), (30, 0.095), (50, 0.058), (100, 0.030)]


@pytest.mark.parametrize(("parts", "rate"), WILKS)
def test_rate_matches_the_wilks_table(parts: int, rate: float) -> None:
    assert false_reject_rate(parts) == pytest.approx(rate, abs=0.006)
    assert 1 - (1 - false_reject_rate(parts)) ** parts == pytest.approx(0.95, abs=1e-12)


@pytest.mark.parametrize(("rate", "parts"), [(0.05, 59), (0.01, 299), (0.001, 2995)])
def test_parts_needed_is_the_smallest_that_holds(rate: float, parts: int) -> None:
    assert parts_needed(rate) == parts
    assert false_reject_rate(parts) <= rate < false_reject_rate(parts - 1)


def test_promise_holds_in_simulation() -> None:
    """Of many stations calibrated with 20 parts, 95 % must keep the promised rate; the mean is 1 / 21."""
    rng = np.random.default_rng(3)
    thresholds = rng.exponential(size=(20_000, 20)).max(axis=1)
    rates = np.exp(-thresholds)                       # of the same exponential parts, those above the threshold
    assert np.mean(rates <= false_reject_rate(20)) == pytest.approx(0.95, abs=0.005)
    assert rates.mean() == pytest.approx(mean_false_reject_rate(20), abs=0.002)


def test_guarantee_is_one_sentence() -> None:
    expected = "no more than 13.9 % of normal parts rejected, with 95 % confidence, from 20 parts"
    assert guarantee_sentence(20) == expected
    result = threshold_from_normals(np.linspace(0, 1.1, 20).tolist())
    assert result.guarantee == expected
    assert result.value == float(np.float32(1.1))
    assert result.parts == 20


def test_ten_parts_cannot_promise_a_thousandth() -> None:
    with pytest.raises(CalibrationError, match=r"10 normal parts .* Show 2995 parts"):
        threshold_from_normals([1.0] * 10, promised_rate=0.001)
    require_promise(59, 0.05)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_unusable_scores_are_refused(scores: list[float]) -> None:
    with pytest.raises(CalibrationError):
        threshold_from_normals(scores)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(CalibrationError):
        parts_needed(rate)
