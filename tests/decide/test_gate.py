"""Exactly one part per part: whatever its length, and with a flicker of one frame anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.decide.gate import Phase, PresenceGate

EMPTY, PART, TWO = 0.01, 0.3, 0.9


def parts_of(areas: list[float], **settings: int) -> list[list[int]]:
    gate: PresenceGate[int] = PresenceGate(0.1, **settings)
    parts = [part for index, area in enumerate(areas) if (part := gate.feed(area, index)) is not None]
    last = gate.close()
    return [*parts, last] if last else parts


@pytest.mark.parametrize("length", range(5, 21))
def test_a_part_seen_in_5_to_20_frames_is_one_part(length: int) -> None:
    belt = ([EMPTY] * 5 + [PART] * length) * 10 + [EMPTY] * 5
    parts = parts_of(belt)
    assert [len(part) for part in parts] == [length] * 10


def test_an_empty_belt_gives_none() -> None:
    assert parts_of([EMPTY] * 1800) == []


@given(st.lists(st.tuples(st.integers(5, 20), st.integers(0, 19)), min_size=1, max_size=6))
def test_a_dropout_of_one_frame_neither_splits_nor_loses_a_part(lengths: list[tuple[int, int]]) -> None:
    belt = [EMPTY] * 4
    for length, flicker in lengths:
        seen = [PART] * length
        seen[flicker % length] = EMPTY
        belt += seen + [EMPTY] * 4
    assert len(parts_of(belt)) == len(lengths)


@given(st.sets(st.integers(0, 60)))
def test_single_frames_on_an_empty_belt_open_nothing(flickers: set[int]) -> None:
    belt = [EMPTY] * 250
    for flicker in flickers:
        belt[flicker * 4] = PART
    assert parts_of(belt) == []


def test_a_flicker_right_before_or_after_a_part_does_not_double_it() -> None:
    assert len(parts_of([PART, EMPTY, EMPTY, *[PART] * 8, EMPTY, EMPTY, PART, EMPTY, EMPTY])) == 1


def test_alternating_noise_opens_nothing() -> None:
    assert parts_of([PART, EMPTY] * 100) == []


def test_a_part_that_stays_is_decided_once_after_max_frames() -> None:
    gate: PresenceGate[int] = PresenceGate(0.1, max_frames=30)
    events = [(index, part) for index in range(500) if (part := gate.feed(PART, index)) is not None]
    assert [(index, len(part)) for index, part in events] == [(29, 30)]
    assert gate.phase is Phase.LEAVING
    assert gate.is_between_parts


def test_two_parts_that_touch_are_one_view() -> None:
    assert len(parts_of([EMPTY] * 3 + [PART] * 4 + [TWO] * 6 + [PART] * 4 + [EMPTY] * 3)) == 1


def test_only_too_large_is_a_part_too() -> None:
    assert len(parts_of([EMPTY] * 3 + [TWO] * 6 + [EMPTY] * 3)) == 1


def test_a_lost_camera_ends_an_open_part_and_nothing_else() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    assert gate.lose("lost") is None
    for _ in range(3):
        gate.feed(PART, "seen")
    assert gate.lose("lost") == ["seen", "seen", "seen", "lost"]
    assert gate.lose("lost") is None
    assert gate.feed(PART, "the same part") is None
    assert gate.close() is None


def test_a_blind_station_says_so_once_until_it_sees_an_empty_view() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    said = [part for _ in range(100) if (part := gate.feed_blind("nan")) is not None]
    assert said == [["nan"] * 3]
    for _ in range(2):
        gate.feed(EMPTY, "")
    assert gate.phase is Phase.EMPTY


def test_one_blind_frame_on_an_empty_belt_is_no_part() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    assert gate.feed_blind("nan") is None
    assert [gate.feed(EMPTY, "") for _ in range(5)] == [None] * 5
    assert gate.close() is None


def test_a_blind_frame_completes_an_open_part_at_once() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    for _ in range(4):
        gate.feed(PART, "seen")
    assert gate.feed_blind("nan") == ["seen"] * 4 + ["nan"]
    assert gate.feed(PART, "seen") is None


def test_a_part_decided_under_one_bundle_is_not_decided_again_under_the_next() -> None:
    before: PresenceGate[int] = PresenceGate(0.1, max_frames=5)
    assert any(before.feed(PART, number) for number in range(5))
    after: PresenceGate[int] = PresenceGate(0.2)
    after.follow(before)
    assert [after.feed(PART, number) for number in range(40)] == [None] * 40
    assert after.feed(EMPTY, 0) is None
    assert after.feed(EMPTY, 0) is None
    assert after.phase is Phase.EMPTY
