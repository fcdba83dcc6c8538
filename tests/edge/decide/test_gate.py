"""Exactly one part per part: whatever its length, and with a flicker of one frame anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.decide.gate import Part
from edge.decide.motion import Sighting
from edge.decide.presence import Phase, PresenceGate
from edge.decide.verdict import DecisionRule

EMPTY, PART, TWO = 0.01, 0.3, 0.9


def at_rest(area: float, number: int = 0) -> Sighting:
    """A round part in the middle of the view."""
    return Sighting(number, area, 320.0, 240.0, (900.0, 900.0, 0.0))


def parts_of(areas: list[float], **settings: int) -> list[list[int]]:
    gate: PresenceGate[int] = PresenceGate(0.1, max_area=0.5, **settings)
    parts = [
        part for index, area in enumerate(areas) for part in gate.feed(at_rest(area, index), index)
    ]
    return [list(part.frames) for part in (*parts, *gate.close())]


def frames_of(parts: list[Part[str]]) -> list[list[str]]:
    return [list(part.frames) for part in parts]


@pytest.mark.parametrize("length", range(5, 21))
def test_a_part_seen_in_5_to_20_frames_is_one_part(length: int) -> None:
    belt = ([EMPTY] * 5 + [PART] * length) * 10 + [EMPTY] * 5
    parts = parts_of(belt)
    assert [len(part) for part in parts] == [length] * 10


def test_an_empty_belt_gives_none() -> None:
    assert parts_of([EMPTY] * 1800) == []


@given(st.lists(st.tuples(st.integers(5, 20), st.integers(0, 19)), min_size=1, max_size=6))
def test_a_dropout_of_one_frame_neither_splits_nor_loses_a_part(
    lengths: list[tuple[int, int]],
) -> None:
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
    events = [
        (index, part) for index in range(500) for part in gate.feed(at_rest(PART, index), index)
    ]
    assert [(index, len(part.frames)) for index, part in events] == [(29, 30)]
    assert gate.phase is Phase.LEAVING
    assert gate.is_between_parts


def test_two_parts_that_touch_are_one_view() -> None:
    assert len(parts_of([EMPTY] * 3 + [PART] * 4 + [TWO] * 6 + [PART] * 4 + [EMPTY] * 3)) == 1


def test_only_too_large_is_a_part_too() -> None:
    assert len(parts_of([EMPTY] * 3 + [TWO] * 6 + [EMPTY] * 3)) == 1


def test_a_lost_camera_ends_an_open_part_and_nothing_else() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    assert gate.lose("lost") == []
    for _ in range(3):
        gate.feed(at_rest(PART), "seen")
    assert frames_of(gate.lose("lost")) == [["seen", "seen", "seen", "lost"]]
    assert gate.lose("lost") == []
    assert gate.feed(at_rest(PART), "the same part") == []
    assert gate.close() == []


def test_a_blind_station_says_so_once_until_it_sees_an_empty_view() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    said = [part for _ in range(100) for part in gate.feed_blind("nan")]
    assert frames_of(said) == [["nan"] * 3]
    for _ in range(2):
        gate.feed(at_rest(EMPTY), "")
    assert gate.phase is Phase.EMPTY


def test_one_blind_frame_on_an_empty_belt_is_no_part() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    assert gate.feed_blind("nan") == []
    assert [gate.feed(at_rest(EMPTY), "") for _ in range(5)] == [[]] * 5
    assert gate.close() == []


def test_a_blind_frame_completes_an_open_part_at_once() -> None:
    gate: PresenceGate[str] = PresenceGate(0.1)
    for _ in range(4):
        gate.feed(at_rest(PART), "seen")
    assert frames_of(gate.feed_blind("nan")) == [["seen"] * 4 + ["nan"]]
    assert gate.feed(at_rest(PART), "seen") == []


def test_a_part_decided_under_one_bundle_is_not_decided_again_under_the_next() -> None:
    before: PresenceGate[int] = PresenceGate(0.1, max_frames=5)
    assert any(before.feed(at_rest(PART), number) for number in range(5))
    after = before.under(DecisionRule(np.float32(1), 0.2, 1.0, 0.0))
    assert after.min_area == 0.2
    assert [after.feed(at_rest(PART), number) for number in range(40)] == [[]] * 40
    assert after.feed(at_rest(EMPTY), 0) == []
    assert after.feed(at_rest(EMPTY), 0) == []
    assert after.phase is Phase.EMPTY


# --- parts that follow each other closely ---

WIDTH, RADIUS = 640.0, 60.0
DEVIATION2 = RADIUS**2 / 4  # variance of a disc's pixels along any direction
WHOLE = 0.05  # share of the view that one disc covers


def view(centers: list[float], number: int, noise: float = 0.0) -> Sighting:
    """Discs of RADIUS at these places along the belt, cut by a view that is WIDTH long: what the
    graph would say.
    """
    seen = [
        (max(0.0, c - RADIUS), min(WIDTH, c + RADIUS))
        for c in centers
        if -RADIUS < c < WIDTH + RADIUS
    ]
    lengths = [right - left for left, right in seen]
    total = sum(lengths)
    if total == 0:
        return Sighting(number, 0.0)
    u = (
        sum(
            (left + right) / 2 * length for (left, right), length in zip(seen, lengths, strict=True)
        )
        / total
    )
    spread = sum(
        length * ((left + right) / 2 - u) ** 2
        for (left, right), length in zip(seen, lengths, strict=True)
    )
    border = 0.1 * sum(left == 0.0 or right == WIDTH for left, right in seen)
    area = WHOLE * total / (2 * RADIUS)
    return Sighting(
        number,
        area,
        u + noise,
        200.0 - noise,
        (DEVIATION2 + spread / total, DEVIATION2, 0.0),
        border,
    )


def on_a_belt(
    speed: float, spacing: float, parts: int, noise: float = 0.0
) -> list[Part[tuple[float, list[int]]]]:
    """What the gate makes of a belt of discs.

    Its frames: area, numbers of the discs that are wholly in view.
    """
    gate: PresenceGate[tuple[float, list[int]]] = PresenceGate(0.005, 1.3 * WHOLE, 0.01)
    done: list[Part[tuple[float, list[int]]]] = []
    for number in range(int((WIDTH + 2 * RADIUS + spacing * parts) / speed) + 3):
        centers = [number * speed - RADIUS - spacing * part for part in range(parts)]
        whole = [part for part, center in enumerate(centers) if RADIUS <= center <= WIDTH - RADIUS]
        seen = view(centers, number, noise * (1 if number % 2 else -1))
        done += gate.feed(seen, (seen.area, whole))
    return [*done, *gate.close()]


def discs_in(part: Part[tuple[float, list[int]]]) -> list[int]:
    """Those that frames of the part show alone and whole: its verdict rests on them."""
    return sorted(
        {
            disc
            for area, whole in part.frames
            if area <= 1.3 * WHOLE and len(whole) == 1
            for disc in whole
        }
    )


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("speed", [20.0, 45.0, 90.0])
@pytest.mark.parametrize("gap", [0.2, 1.0])
def test_parts_without_an_empty_frame_between_them_are_still_parts_of_their_own(
    speed: float, gap: float, noise: float
) -> None:
    """Never is the view empty for two frames: each disc leaves as the next one comes."""
    spacing = WIDTH + 2 * RADIUS - (1 - gap) * speed
    parts = on_a_belt(speed, spacing, 5, noise)
    assert [(discs_in(part), part.two_parts) for part in parts] == [
        ([disc], False) for disc in range(5)
    ]


@pytest.mark.parametrize("speed", [20.0, 45.0, 90.0, 130.0])
@pytest.mark.parametrize("spacing", [130.0, 200.0, 300.0, 420.0, 560.0, 660.0])
def test_no_part_rests_on_the_frames_of_two_discs(speed: float, spacing: float) -> None:
    """Unless two of its frames show both, which makes it UNKNOWN `too_large`."""
    for part in on_a_belt(speed, spacing, 6):
        too_large = sum(area > 1.3 * WHOLE for area, _ in part.frames)
        assert len(discs_in(part)) <= 1 or part.two_parts or too_large > 1


@pytest.mark.parametrize(
    "speeds",
    [
        [30.0] * 12,
        [30.0] * 4 + [0.0] * 8,
        [0.0] * 5 + [10.0, 20.0, 30.0, 30.0, 30.0],
        [30.0, 20.0, 10.0, 0.0, 0.0, 10.0, 20.0],
    ],
)
def test_a_belt_that_stops_and_starts_splits_no_part(speeds: list[float]) -> None:
    gate: PresenceGate[int] = PresenceGate(0.005, 1.3 * WHOLE, 0.01)
    place, done = 100.0, []
    for number, speed in enumerate(speeds):
        done += gate.feed(view([place], number), number)
        place += speed
    assert [len(part.frames) for part in (*done, *gate.close())] == [len(speeds)]


def test_another_part_at_another_place_after_one_empty_frame_is_another_part() -> None:
    gate: PresenceGate[int] = PresenceGate(0.005, 1.3 * WHOLE, 0.01)
    views = (
        [view([400.0], n) for n in range(5)]
        + [Sighting(5, 0.0)]
        + [view([200.0], 6 + n) for n in range(8)]
    )
    done = [part for number, one in enumerate(views) for part in gate.feed(one, number)]
    assert [list(part.frames) for part in (*done, *gate.close())] == [
        list(range(5)),
        list(range(6, 14)),
    ]


def test_a_part_seen_too_briefly_before_the_next_is_no_part_of_the_next() -> None:
    gate: PresenceGate[int] = PresenceGate(0.005, 1.3 * WHOLE, 0.01)
    views = [view([500.0], 0), view([540.0], 1)] + [view([100.0 + 40 * n], 2 + n) for n in range(6)]
    done = [part for number, one in enumerate(views) for part in gate.feed(one, number)]
    assert [(list(part.frames), part.two_parts) for part in (*done, *gate.close())] == [
        ([0, 1], True),
        (list(range(2, 8)), False),
    ]


def test_a_decided_part_that_another_one_follows_at_once_does_not_hide_it() -> None:
    gate: PresenceGate[int] = PresenceGate(0.005, 1.3 * WHOLE, 0.01, max_frames=5)
    views = [view([300.0], n) for n in range(9)] + [view([80.0], 9 + n) for n in range(9)]
    done = [part for number, one in enumerate(views) for part in gate.feed(one, number)]
    assert [list(part.frames) for part in (*done, *gate.close())] == [
        list(range(5)),
        list(range(9, 14)),
    ]


def test_frames_that_cut_a_part_off_are_not_collected_once_it_was_seen() -> None:
    gate: PresenceGate[list[int]] = PresenceGate(0.005, 1.3 * WHOLE, 0.01)
    done: list[Part[list[int]]] = []
    for number in range(60):
        center = number * 15.0 - RADIUS
        done += gate.feed(
            view([center], number), [number] if RADIUS <= center <= WIDTH - RADIUS else []
        )
    (part,) = [*done, *gate.close()]
    assert sum(not frame for frame in part.frames) <= 8, "only those before it was wholly in view"


def test_what_is_in_view_at_the_start_has_to_leave_first() -> None:
    gate: PresenceGate[int] = PresenceGate(0.1, starts_unsure=True)
    shown = [PART] * 20 + [EMPTY] * 2 + [PART] * 6 + [EMPTY] * 2
    done = [
        part
        for number, area in enumerate(shown)
        for part in gate.feed(at_rest(area, number), number)
    ]
    assert [list(part.frames) for part in done] == [list(range(22, 28))]
