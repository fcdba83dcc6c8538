"""How far an engine's answers are from float32's: ranks, maps, noise, verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edge.errors import EngineError
from edge.proof.compare import (
    AT_THRESHOLD,
    Responses,
    compare_maps,
    fit_noise,
    furthest,
    image_auroc,
    left_out_unlike,
    rank_correlation,
    spread_of,
    unlike,
)
from edge.proof.measures import Count


def responses(scores: list[float], maps: NDArray[Any] | None = None) -> Responses:
    default = np.array(scores, np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    return Responses(
        default if maps is None else maps.astype(np.float32), np.array(scores, np.float32)
    )


# Ranks and maps


@given(
    arrays(np.float32, st.integers(3, 40), elements=st.integers(0, 8).map(float)),
    st.integers(0, 2**32 - 1),
)
def test_rank_correlation_is_scipys_with_ties(scores: NDArray[np.float32], seed: int) -> None:
    other = np.random.default_rng(seed).permutation(scores)
    if len(set(scores)) > 1:
        assert rank_correlation(scores, other) == pytest.approx(
            spearmanr(scores, other).statistic, abs=1e-9
        )


def test_a_constant_output_has_no_rank_correlation() -> None:
    assert rank_correlation(np.arange(5), np.full(5, 2.0)) == 0
    assert rank_correlation(np.full(5, 2.0), np.full(5, 2.0)) == 1


@given(
    arrays(np.float32, st.integers(2, 40), elements=st.integers(0, 8).map(float)),
    st.integers(0, 2**32 - 1),
)
def test_image_auroc_is_sklearns_with_ties(scores: NDArray[np.float32], seed: int) -> None:
    labels = np.random.default_rng(seed).random(len(scores)) < 0.5
    if 0 < labels.sum() < len(labels):
        assert image_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    else:
        assert image_auroc(labels, scores) is None


def test_map_error_is_a_share_of_float32s_range_and_the_background_does_not_dilute_it() -> None:
    maps = np.zeros((2, 4, 4))
    maps[0, 0, :2] = 10.0  # two judged cells; everything else is background, 0 in both
    candidate = maps.copy()
    candidate[0, 0, 0] = 11.0
    measured = compare_maps(responses([0, 1], maps), responses([0, 1], candidate))
    assert measured.mean_map_error == pytest.approx(0.05)
    assert measured.largest_map_error == pytest.approx(0.1)
    assert (
        compare_maps(responses([0, 1], maps), responses([0, 1], candidate), 100.0).mean_map_error
        < 0.006
    )


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_comparison(bad: float) -> None:
    assert not compare_maps(responses([0, 1]), responses([0, bad])).finite
    maps = np.zeros((2, 4, 4))
    maps[0, 1, 1] = bad
    assert not compare_maps(responses([0, 1]), responses([0, 1], maps)).finite


def test_another_models_engine_is_named() -> None:
    with pytest.raises(EngineError, match=r"maps \(1, 2, 2\), the reference has \(1, 4, 4\)"):
        compare_maps(responses([1.0]), responses([1.0], np.ones((1, 2, 2))))


def test_counts_add_up() -> None:
    assert str(Count(count=1, of=20) + Count(count=2, of=8)) == "3 of 28"


# Noise


SCORES = arrays(np.float64, st.integers(4, 50), elements=st.floats(0, 100), unique=True)


@given(SCORES, st.floats(0.5, 2), st.floats(-50, 50), st.integers(0, 2**32 - 1))
def test_the_line_is_numpys(
    scores: NDArray[np.float64], slope: float, offset: float, seed: int
) -> None:
    if spread_of(scores) < 1e-3:
        return
    candidate = slope * scores + offset + np.random.default_rng(seed).normal(0, 1, len(scores))
    noise = fit_noise(scores, candidate, threshold=50.0)
    expected = np.polynomial.Polynomial.fit(scores, candidate, 1).convert().coef
    assert (noise.offset, noise.slope) == pytest.approx(
        tuple(np.resize(expected, 2)), rel=1e-5, abs=1e-5
    )
    residuals = candidate - (noise.slope * scores + noise.offset)
    rms = np.sqrt((residuals**2).sum() / (len(scores) - 2))
    assert noise.rms * abs(noise.slope) * spread_of(scores) == pytest.approx(
        rms, rel=1e-6, abs=1e-9
    )


def test_a_shift_and_a_scale_are_no_noise() -> None:
    scores = np.linspace(0, 10, 30)
    noise = fit_noise(scores, 1.5 * scores + 7, threshold=10.0)
    assert noise.rms == pytest.approx(0, abs=1e-9)
    assert noise.shift == pytest.approx((1.5 * 10 + 7 - 10) / spread_of(scores))


def test_the_unit_is_the_scores_of_all_parts_where_fewer_are_given() -> None:
    scores = np.linspace(0, 10, 30)
    candidate = scores + np.tile([0.5, -0.5], 15)
    assert fit_noise(scores, candidate, 10.0, 1.0).rms == pytest.approx(0.5, rel=0.05)
    assert fit_noise(scores, candidate, 10.0, 2.0).rms == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("scores", [[3.0], [3.0, 4.0], [2.0] * 10])
def test_what_no_line_can_be_fitted_to_is_shifted_only(scores: list[float]) -> None:
    noise = fit_noise(np.array(scores), np.array(scores) + 1.0, threshold=3.0)
    assert (noise.slope, noise.offset) == (1.0, 1.0)


def test_a_constant_candidate_has_no_spread() -> None:
    assert fit_noise(np.linspace(0, 1, 20), np.full(20, 5.0), 0.9).spread == 0


def test_the_spread_is_half_from_the_16th_to_the_84th_percentile() -> None:
    normal = np.random.default_rng(0).normal(5, 2, 20_000)
    assert spread_of(normal) == pytest.approx(2, rel=0.03)
    assert spread_of(np.array([4.0])) == 0


# Verdicts


def test_each_is_judged_by_its_own_threshold() -> None:
    reference, candidate = np.array([0.0, 4.9, 10.0]), np.array([7.0, 12.2, 17.0])
    assert not unlike(reference, candidate, (5.0, 12.3), 1.0).any()
    assert unlike(reference, candidate, (5.0, 5.0), 1.0).tolist() == [True, True, False]
    assert unlike(reference, candidate, (5.0, 12.1), 1.0).tolist() == [False, True, False]


def test_a_score_at_the_threshold_is_no_change_of_verdict_but_one_beside_it_is() -> None:
    beside = 1.5 * AT_THRESHOLD
    reference = np.array([5.0, 5.0 + AT_THRESHOLD / 2, 5.0 + beside], np.float32)
    candidate = np.array([5.1, 4.9, 4.9], np.float32)
    assert unlike(reference, candidate, (5.0, 5.0), 1.0).tolist() == [False, False, True]


def test_equality_is_decided_in_float32() -> None:
    limit = float(np.float32(0.1))  # 0.1 as float64 lies below float32's 0.1
    assert not unlike(np.float32([limit]), np.float32([limit]), (0.1, limit), 0.0).any()


def test_a_score_that_is_not_finite_is_unlike_wherever_it_stands() -> None:
    assert unlike(np.array([5.0, 1.0]), np.array([np.nan, np.inf]), (5.0, 5.0), 1.0).all()


def test_the_distance_is_float32s_from_its_threshold_in_units_of_s() -> None:
    scores = np.array([1.0, 4.0, 9.0])
    assert furthest(scores, np.array([True, True, False]), 5.0, 2.0) == pytest.approx(2.0)
    assert furthest(scores, np.array([False] * 3), 5.0, 2.0) == 0


@given(SCORES, st.integers(1, 3))
def test_a_shifted_engine_leaves_out_the_same_parts(scores: NDArray[np.float64], rank: int) -> None:
    assert not left_out_unlike(scores, scores, rank, spread_of(scores)).any()
    assert not left_out_unlike(
        np.round(scores), 2 * np.round(scores) + 40, rank, spread_of(scores)
    ).any()


def test_parts_that_change_places_across_the_threshold_are_unlike() -> None:
    reference = np.array([9.0, 7.0, 5.0, 3.0, 1.0])
    candidate = np.array([5.0, 7.0, 9.0, 3.0, 1.0])
    assert left_out_unlike(reference, candidate, 1, 1.0).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]
