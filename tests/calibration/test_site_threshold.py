"""The threshold of a few parts: its formula, and what it rejects on simulated sites."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.sentences import guarantee_of, next_parts_sentence, percent, to_prove_sentence
from calibration.site_threshold import SiteThreshold, TrainerScores, shrunk, site_threshold
from edge.errors import CalibrationError

RATE = 0.01
TRAINED = np.random.default_rng(0).lognormal(0, 0.3, 200)


def test_the_formula_by_hand() -> None:
    trainer = TrainerScores.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (trainer.mean, trainer.deviation) == (3.0, pytest.approx(math.sqrt(2.5)))
    assert trainer.tail(0.2) == pytest.approx(2 / math.sqrt(2.5))  # the highest: ceil(6 * 0.8) = 5
    site = shrunk(np.array([3.0, 5.0]), trainer)
    assert site.location == pytest.approx(0.5 * 4 + 0.5 * 3)
    v = (8 * 2.5 + 1 * 2.0) / 9
    assert site.scale == pytest.approx(math.sqrt(v * (1 + 1 / 4)))
    own = site_threshold([3.0, 5.0], trainer, 0.2)
    assert own.value == np.float32(3.5 + math.sqrt(v * 1.25) * 2 / math.sqrt(2.5))
    assert not own.is_rank
    higher = site_threshold([3.0, 9.0], trainer, 0.2)
    assert (higher.value, higher.is_rank) == (9.0, True)


def test_the_trainers_quantile_is_an_order_statistic() -> None:
    trainer = TrainerScores.of(np.arange(199.0))
    for rate in (0.005, 0.01, 0.05, 0.2):
        place = math.ceil(200 * (1 - rate))  # from below
        assert trainer.tail(rate) == pytest.approx(
            (place - 1 - trainer.mean) / trainer.deviation
        ), rate
    assert TrainerScores.of([1.0, 2.0]).tail(0.01) == pytest.approx(0.5**0.5)  # the highest it has


@given(
    scores=st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=30),
    rate=st.sampled_from([0.001, 0.01, 0.05, 0.2, 0.5]),
)
@settings(max_examples=200, deadline=None)
def test_it_is_never_below_the_rank_that_is_promised(scores: list[float], rate: float) -> None:
    own = site_threshold(scores, TrainerScores.of(TRAINED), rate)
    assert sum(np.float32(score) > np.float32(own.value) for score in scores) < own.rank
    assert own.rank == max(1, math.floor(rate * (len(scores) + 1) + 1e-9))
    assert np.float32(own.value) == own.value
    assert 0 < own.expected <= 1


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(CalibrationError, match="not finite"):
        site_threshold([1.0, math.nan], TrainerScores.of(TRAINED), RATE)


def test_equal_scores_in_training_have_no_tail() -> None:
    own = site_threshold([2.0, 3.0], TrainerScores.of([1.0] * 8), RATE)
    assert own.value == 3.0


def rejected(
    count: int, moved: float, scaled: float, scores_at_most: bool = False
) -> NDArray[np.float64]:
    """Rates of false rejects of many sites, whose scores are the trainer's, moved by some of their
    deviations and scaled.
    """
    rng = np.random.default_rng(1)
    trainer, rates = TrainerScores.of(TRAINED), []
    for _ in range(400):
        drawn = rng.lognormal(0, 0.3, count + 4000)
        site = trainer.mean + scaled * (drawn - trainer.mean) + moved * trainer.deviation
        if scores_at_most:
            threshold = site[:count].max()
        else:
            threshold = site_threshold(site[:count], trainer, RATE).value
        rates.append(float((site[count:] > threshold).mean()))
    return np.array(rates)


@pytest.mark.parametrize("count", [5, 10, 20])
@pytest.mark.parametrize(("moved", "scaled"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.5)])
def test_it_rejects_far_fewer_than_the_highest_score_would(
    count: int, moved: float, scaled: float
) -> None:
    """The trainer's scores make five parts reject as few as fifty alone would."""
    shrunk_to_trainer = rejected(count, moved, scaled)
    highest = rejected(count, moved, scaled, scores_at_most=True)
    assert highest.mean() == pytest.approx(1 / (count + 1), rel=0.2)
    assert shrunk_to_trainer.mean() < (0.08 if scaled > 1 else 0.035)
    assert np.quantile(shrunk_to_trainer, 0.95) < np.quantile(highest, 0.95)


def test_the_expected_rate_is_the_one_asked_for_where_the_quantile_judges() -> None:
    own = site_threshold([1.0, 1.1, 0.9, 1.2, 1.0], TrainerScores.of(TRAINED), 0.05)
    assert not own.is_rank
    assert own.expected == pytest.approx(0.05, abs=0.005)
    higher = site_threshold([1.0, 1.1, 0.9, 1.2, 9.0], TrainerScores.of(TRAINED), 0.05)
    assert higher.is_rank
    assert higher.expected < 0.05


# --- what it says ---

OF_RANK = SiteThreshold(3.0, 10, 1, is_rank=True, false_rejects=0.05, expected=0.021)
ABOVE = SiteThreshold(4.0, 20, 2, is_rank=False, false_rejects=0.1, expected=0.095)


def test_both_sentences() -> None:
    assert guarantee_of(OF_RANK, is_proven=True, trainer_parts=64) == (
        "With 95% confidence at most 25.9% of normal parts are rejected, 9.1% on average (highest"
        " of 10 normal parts shown on site, which fitted nothing). Estimated with the scores of 64"
        " parts in training, moved and scaled to these: 2.1%"
    )
    measured = guarantee_of(ABOVE, is_proven=False, trainer_parts=64, left_out=1)
    assert measured.startswith("Measured, not proven: at most 21.6% of normal parts are rejected")
    assert (
        "(above the 2nd highest of 20 normal parts shown on site, each scored without" in measured
    )
    assert "; 13.6% on average if the 1 left out were normal. Estimated" in measured


def test_how_many_will_be_rejected_and_how_many_parts_would_prove_less() -> None:
    assert next_parts_sentence(OF_RANK) == (
        "In the next 1,000 normal parts about 91 false rejects by these 10 alone (90%: 206), about"
        " 21 by the estimate"
    )
    assert "at most about 95 false rejects by these 20" in next_parts_sentence(ABOVE)
    assert to_prove_sentence() == (
        "Normal parts that fit nothing: 59 prove 5%, 299 prove 1%, 2,995 prove 0.1%"
    )
    assert [percent(rate) for rate in (0.2589, 0.01, 0.0005)] == ["25.9%", "1.0%", "0.05%"]
