"""Many frames, one verdict, and every doubt towards UNKNOWN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.decide.aggregate import STATION_FAULTS, aggregate, highest_of, mean_of, shows_two_parts
from edge.decide.motion import Sighting
from edge.decide.verdict import unjudged
from edge.types import Code, Judgment, Reason

THRESHOLD = np.float32(0.5)


def judged(score: float) -> Judgment:
    ng = np.float32(score) > THRESHOLD
    return Judgment(
        Code.NG if ng else Code.OK,
        Reason.ANOMALY if ng else Reason.NORMAL,
        np.float32(score),
        THRESHOLD,
    )


def test_the_median_frame_decides_and_its_score_was_measured() -> None:
    frames = [judged(score) for score in (0.9, 0.1, 0.2, 0.3, 0.05)]
    judgment, index = aggregate(frames)
    assert (judgment.code, judgment.score, index) == (Code.OK, np.float32(0.2), 2)


def test_an_even_number_takes_the_higher_middle() -> None:
    judgment, _ = aggregate([judged(score) for score in (0.1, 0.4, 0.6, 0.9)])
    assert (judgment.code, judgment.score) == (Code.NG, np.float32(0.6))


@pytest.mark.parametrize("fault", STATION_FAULTS)
def test_a_station_fault_in_one_frame_is_unknown(fault: Reason) -> None:
    judgment, _ = aggregate([judged(0.1)] * 10 + [unjudged(fault)] + [judged(0.1)] * 5)
    assert (judgment.code, judgment.reason, judgment.score) == (Code.UNKNOWN, fault, None)


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ([Reason.NO_DEPTH] * 1, Reason.NORMAL),
        ([Reason.NO_DEPTH] * 3, Reason.NORMAL),
        ([Reason.NO_DEPTH] * 4, Reason.NO_DEPTH),
        ([Reason.TOO_LARGE] * 1, Reason.NORMAL),
        ([Reason.TOO_LARGE] * 2, Reason.TOO_LARGE),
        ([Reason.NO_PART] * 40, Reason.NORMAL),
        ([Reason.PARTIAL] * 40, Reason.NORMAL),
    ],
)
def test_unjudged_views_beside_four_good_ones(reasons: list[Reason], expected: Reason) -> None:
    judgment, _ = aggregate([judged(0.1)] * 4 + [unjudged(reason) for reason in reasons])
    assert judgment.reason is expected


def test_nothing_but_absence_is_no_part() -> None:
    assert aggregate([unjudged(Reason.NO_PART)] * 3)[0].reason is Reason.NO_PART


def test_the_highest_score_can_decide_instead() -> None:
    judgment, index = aggregate([judged(score) for score in (0.1, 0.9, 0.2)], highest_of)
    assert (judgment.code, index) == (Code.NG, 1)


def test_a_mean_score_is_compared_anew() -> None:
    frames = [judged(score) for score in (0.4, 0.45, 0.95)]
    judgment, index = aggregate(frames, mean_of)
    assert (judgment.code, judgment.score, index) == (Code.NG, np.float32(0.6), 1)
    assert frames[1].code is Code.OK


@given(
    st.lists(
        st.one_of(st.floats(0, 1, width=32).map(judged), st.sampled_from(Reason).map(unjudged)),
        min_size=1,
    )
)
@example([judged(0.0), unjudged(Reason.NORMAL)])
def test_ok_needs_a_strict_majority_of_judged_views_with_a_good_median(
    frames: list[Judgment],
) -> None:
    judgment, index = aggregate(frames)
    assert frames[index] is judgment
    if judgment.code is Code.OK:
        scores = [float(frame.score) for frame in frames if frame.score is not None]
        absent = (Reason.NO_PART, Reason.PARTIAL)
        blind = [frame for frame in frames if frame.score is None and frame.reason not in absent]
        assert len(scores) > len(blind)
        assert np.median(scores) <= 0.5


def sightings(places: list[float], area: float = 0.3) -> list[Sighting]:
    return [
        Sighting(number, area, place, 100.0, (900.0, 900.0, 0.0))
        for number, place in enumerate(places)
    ]


DENT_THEN_GOOD = [judged(0.9)] * 5 + [judged(0.1)] * 8


def test_a_dent_and_a_good_part_that_took_its_place_are_two_parts() -> None:
    assert aggregate(DENT_THEN_GOOD)[0].code is Code.OK, "the median alone would pass the dent"
    jitter = [0.1 * (-1) ** n for n in range(13)]
    moved = [300.0 + wobble + (3.0 if n >= 5 else 0.0) for n, wobble in enumerate(jitter)]
    assert shows_two_parts(DENT_THEN_GOOD, sightings(moved), [])
    assert shows_two_parts(DENT_THEN_GOOD, sightings([300.0] * 13), [5]), (
        "an empty frame between them"
    )
    larger = [*sightings([300.0] * 5), *[Sighting(5 + n, 0.33, 300.0, 100.0) for n in range(8)]]
    assert shows_two_parts(DENT_THEN_GOOD, larger, [])
    assert shows_two_parts(DENT_THEN_GOOD, sightings([300.0] * 13), []), (
        "the score alone, at a stroke"
    )


def test_one_part_whose_verdict_wavers_stays_one_part() -> None:
    steady = sightings([300.0 + 20.0 * n for n in range(13)])
    drifting = [judged(0.7 - 0.03 * n) for n in range(13)]
    assert {frame.code for frame in drifting} == {Code.OK, Code.NG}
    assert not shows_two_parts(drifting, steady, []), "a score that drifts over the threshold"
    glint = [judged(0.9)] * 2 + [judged(0.1)] * 11
    assert not shows_two_parts(glint, steady, []), "two frames in which something shone"
    stopped = sightings([300.0 + 20.0 * min(n, 6) for n in range(13)])
    assert not shows_two_parts([judged(0.1)] * 13, stopped, []), (
        "a belt that stops changes no verdict"
    )
    assert not shows_two_parts([judged(0.1)] * 13, sightings([300.0] * 13), [5]), (
        "nor does a flicker"
    )


GOOD_TWICE = [judged(0.1)] * 13


def test_two_good_parts_at_rest_one_after_the_other_are_two_parts() -> None:
    wobble = [0.3 * (-1) ** n for n in range(13)]
    exchanged = [300.0 + w + (20.0 if n >= 5 else 0.0) for n, w in enumerate(wobble)]
    assert shows_two_parts(GOOD_TWICE, sightings(exchanged), [])
    assert not shows_two_parts(GOOD_TWICE, sightings([300.0 + w for w in wobble]), [])


def test_a_belt_that_starts_stops_or_shakes_shows_one_part() -> None:
    for speeds in (
        [0.0] * 5 + [8.0, 20.0, 30.0, 30.0, 30.0],
        [30.0] * 4 + [15.0, 5.0] + [0.0] * 5,
        [30.0] * 10,
    ):
        places = np.cumsum([100.0, *speeds]).tolist()
        assert not shows_two_parts([judged(0.1)] * len(places), sightings(places), [])
    shaken = [300.0 + 2.0 * (-1) ** n for n in range(13)]
    assert not shows_two_parts(GOOD_TWICE, sightings(shaken), [])
    numbers = [n + (3 if n >= 6 else 0) for n in range(13)]
    missing = [Sighting(number, 0.3, 100.0 + 10.0 * number, 100.0) for number in numbers]
    assert not shows_two_parts(GOOD_TWICE, missing, []), "frames that the engine did not see"
