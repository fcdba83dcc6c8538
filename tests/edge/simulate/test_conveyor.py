"""The belt: when parts come, what the encoder counts, and what a stop of feed or machine does."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.simulate.conveyor import STALL_S, Belt, Conveyor, counts_between

CYCLE_S = 0.002


def sensed(belt: Belt, cycles: list[tuple[float, bool]], parts: int = 5) -> list[float]:
    """When parts reached the sensor. cycles: seconds to the next one, and whether it feeds."""
    now_s = 500.0
    conveyor, found = Conveyor(belt, parts, 3, now_s), []
    for after_s, feeds in cycles:
        now_s += after_s
        conveyor.move(now_s)
        if conveyor.brings(feeds):
            found.append(now_s - 500.0)
    assert conveyor.is_over == (len(found) == parts)
    return found


def test_parts_come_at_their_rate_with_their_jitter() -> None:
    belt = Belt(rate_hz=10.0, jitter=0.3)
    found = sensed(belt, [(CYCLE_S, True)] * 5000, 50)
    gaps = [later - earlier for earlier, later in itertools.pairwise(found)]
    assert len(found) == 50
    assert 0.069 < min(gaps) < 0.08
    assert 0.12 < max(gaps) < 0.134
    assert abs(sum(gaps) / len(gaps) - 0.1) < 0.01


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.001, 2.0), st.booleans()), min_size=50, max_size=300),
    st.floats(1, 50),
    st.floats(0, 0.9),
)
def test_two_parts_never_come_closer_than_the_jitter_allows(
    cycles: list[tuple[float, bool]], rate_hz: float, jitter: float
) -> None:
    belt = Belt(rate_hz, jitter)
    moved = itertools.accumulate(min(after_s, STALL_S) for after_s, _ in cycles)
    begun = list(itertools.accumulate(after_s for after_s, _ in cycles))
    own_time = dict(zip(begun, moved, strict=True))
    found = sensed(belt, cycles, 8)
    at_belt = [min(own_time.items(), key=lambda one: abs(one[0] - at_s))[1] for at_s in found]
    least_s = (1 - jitter) / rate_hz
    for earlier, later in itertools.pairwise(at_belt):
        assert later - earlier >= least_s - STALL_S - 1e-6


def test_the_encoder_begins_again_from_0() -> None:
    conveyor = Conveyor(Belt(1.0, first_count=(1 << 32) - 10), 1, 0, 0.0)
    before, after = conveyor.move(0.005), conveyor.move(0.03)
    assert (before, after) == ((1 << 32) - 5, 20)
    assert counts_between(before, after) == 25
