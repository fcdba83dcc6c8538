"""Many frames, one verdict, and every doubt towards UNKNOWN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.decide.aggregate import STATION_FAULTS, aggregate, highest_of, mean_of
from edge.decide.verdict import unjudged
from edge.types import Code, Judgement, Reason

THRESHOLD = np.float32(0.5)


def judged(score: float) -> Judgement:
    ng = np.float32(score) > THRESHOLD
    return Judgement(Code.NG if ng else Code.OK, Reason.ANOMALY if ng else Reason.NORMAL, np.float32(score), THRESHOLD)


def test_the_median_frame_decides_and_its_score_was_measured() -> None:
    frames = [judged(score) for score in (0.9, 0.1, 0.2, 0.3, 0.05)]
    judgement, index = aggregate(frames)
    assert (judgement.code, judgement.score, index) == (Code.OK, np.float32(0.2), 2)


def test_an_even_number_takes_the_higher_middle() -> None:
    judgement, _ = aggregate([judged(score) for score in (0.1, 0.4, 0.6, 0.9)])
    assert (judgement.code, judgement.score) == (Code.NG, np.float32(0.6))


@pytest.mark.parametrize("fault", STATION_FAULTS)
def test_a_station_fault_in_one_frame_is_unknown(fault: Reason) -> None:
    judgement, _ = aggregate([judged(0.1)] * 10 + [unjudged(fault)] + [judged(0.1)] * 5)
    assert (judgement.code, judgement.reason, judgement.score) == (Code.UNKNOWN, fault, None)


@pytest.mark.parametrize(("reasons", "expected"), [
    ([Reason.NO_DEPTH] * 1, Reason.NORMAL),
    ([Reason.NO_DEPTH] * 3, Reason.NORMAL),
    ([Reason.NO_DEPTH] * 4, Reason.NO_DEPTH),
    ([Reason.TOO_LARGE] * 1, Reason.NORMAL),
    ([Reason.TOO_LARGE] * 2, Reason.TOO_LARGE),
    ([Reason.NO_PART] * 40, Reason.NORMAL),
])
def test_unjudged_views_beside_four_good_ones(reasons: list[Reason], expected: Reason) -> None:
    judgement, _ = aggregate([judged(0.1)] * 4 + [unjudged(reason) for reason in reasons])
    assert judgement.reason is expected


def test_nothing_but_absence_is_no_part() -> None:
    assert aggregate([unjudged(Reason.NO_PART)] * 3)[0].reason is Reason.NO_PART


def test_the_highest_score_can_decide_instead() -> None:
    judgement, index = aggregate([judged(score) for score in (0.1, 0.9, 0.2)], highest_of)
    assert (judgement.code, index) == (Code.NG, 1)


def test_a_mean_score_is_compared_anew() -> None:
    frames = [judged(score) for score in (0.4, 0.45, 0.95)]
    judgement, index = aggregate(frames, mean_of)
    assert (judgement.code, judgement.score, index) == (Code.NG, np.float32(0.6), 1)
    assert frames[1].code is Code.OK


@given(st.lists(st.one_of(st.floats(0, 1, width=32).map(judged), st.sampled_from(Reason).map(unjudged)), min_size=1))
def test_ok_needs_a_strict_majority_of_judged_views_with_a_good_median(frames: list[Judgement]) -> None:
    judgement, index = aggregate(frames)
    assert frames[index] is judgement
    if judgement.code is Code.OK:
        scores = [float(frame.score) for frame in frames if frame.score is not None]
        blind = [frame for frame in frames if frame.score is None and frame.reason is not Reason.NO_PART]
        assert len(scores) > len(blind)
        assert np.median(scores) <= 0.5
