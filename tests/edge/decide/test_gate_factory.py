"""Which gate a station gets, and that every gate can take the place of another."""

from __future__ import annotations

import numpy as np
import pytest

from edge.decide.gate import Gate
from edge.decide.gate_factory import new_gate
from edge.decide.motion import Sighting
from edge.decide.verdict import DecisionRule
from edge.sections import DecisionConfig

RULE = DecisionRule(np.float32(1), min_area=0.1, max_area=0.5, min_valid=0.0)
CONFIG = DecisionConfig(min_frames=3, max_frames=6)
NOTHING, SEEN = Sighting(0, 0.0), Sighting(0, 0.3)


def gate(each_frame: bool = False, starts_unsure: bool = False) -> Gate[str]:
    return new_gate(RULE, CONFIG, each_frame, starts_unsure)


def lengths(of: Gate[str], shown: list[Sighting]) -> list[int]:
    return [len(part.frames) for one in shown for part in of.feed(one, "frame")]


def test_limits_come_from_the_rule_and_counts_from_the_configuration() -> None:
    shown = [*[NOTHING] * 2, *[SEEN] * 4, *[NOTHING] * 2, *[SEEN] * 9]
    assert lengths(gate(), shown) == [4, 6]


def test_stills_are_parts_one_by_one_also_empty_and_blind_ones() -> None:
    stills = gate(each_frame=True)
    assert lengths(stills, [NOTHING, SEEN, SEEN]) == [1, 1, 1]
    assert [part.frames for part in stills.feed_blind("dark")] == [("dark",)]
    assert (stills.lose("gone"), stills.close(), stills.under(RULE) is stills) == ([], [], True)


def test_what_a_live_camera_shows_first_may_have_been_decided_before() -> None:
    shown = [*[SEEN] * 9, *[NOTHING] * 2, *[SEEN] * 4, *[NOTHING] * 2]
    assert lengths(gate(starts_unsure=True), shown) == [4]


@pytest.mark.parametrize("each_frame", [False, True])
def test_a_gate_under_another_rule_goes_on(each_frame: bool) -> None:
    before = gate(each_frame)
    lengths(before, [SEEN] * 6)  # decided, and still in view
    after = before.under(DecisionRule(np.float32(1), min_area=0.35, max_area=0.5, min_valid=0.0))
    assert after.is_between_parts
    assert lengths(after, [Sighting(0, 0.4)] * 3) == ([1, 1, 1] if each_frame else [])
    assert lengths(after, [SEEN] * 2 + [Sighting(0, 0.4)] * 6) == [1] * 8 if each_frame else [6]


def test_a_part_is_open_from_its_first_frame_until_it_is_decided() -> None:
    one = gate()
    seen = []
    for sighting in [NOTHING, SEEN, SEEN, SEEN, NOTHING, NOTHING]:
        one.feed(sighting, "frame")
        seen.append(one.is_between_parts)
    assert seen == [True, False, False, False, False, True]
