"""No part is judged from the moment at which a pause begins, and it begins between two parts."""

from __future__ import annotations

from edge.runtime.health import Health
from edge.runtime.pause import Pause
from edge.types import Code, Judgment, Reason


def new_pause() -> tuple[Pause, Health]:
    health = Health()
    health.note_frame(Judgment(Code.OK, Reason.NORMAL, None, None))
    return Pause(health), health


def test_it_begins_between_parts_only() -> None:
    pause, health = new_pause()
    assert not pause.begin(lambda: False)
    assert (pause.is_on, health.is_ready) == (False, True)
    assert pause.begin(lambda: True)
    assert (pause.is_on, health.is_ready, health.why) == (True, False, "a command is at work")
    pause.end()
    assert (pause.is_on, health.is_ready) == (False, True)


def test_a_part_that_opens_before_it_has_begun_is_seen() -> None:
    pause, health = new_pause()
    looks = [True, False]
    assert not pause.begin(lambda: looks.pop(0))
    assert (pause.is_on, health.is_ready, looks) == (False, True, [])


def test_one_that_was_asked_for_outlasts_a_command() -> None:
    pause, health = new_pause()
    assert pause.begin(lambda: True)
    pause.is_asked_for = True
    pause.end()
    assert (pause.is_on, health.is_ready) == (True, False)
    assert health.why.startswith("by the command `pause`")
    assert pause.begin(lambda: True)
    pause.end()
    assert pause.is_on


def test_a_session_begins_between_parts_and_keeps_commands_out() -> None:
    pause, health = new_pause()
    assert not pause.begin_session(lambda: False, "parts, by anna")
    assert (pause.is_on, health.is_ready) == (False, True)
    looks = [True, False]
    assert not pause.begin_session(lambda: looks.pop(0), "parts, by anna")
    assert (pause.is_on, health.is_ready, looks) == (False, True, [])
    assert pause.begin_session(lambda: True, "parts, by anna")
    assert (pause.is_on, health.state(), health.why) == (
        True, ("degraded", "calibrating", False), "parts, by anna"
    )  # fmt: skip
    assert not pause.begin(lambda: True)
    pause.end_session()
    assert (pause.is_on, health.is_ready) == (False, True)


def test_a_session_in_a_command_leaves_the_command_at_work() -> None:
    pause, health = new_pause()
    assert pause.begin(lambda: True)
    assert pause.begin_session(lambda: True, "plane, by plc")
    assert health.state()[1] == "calibrating"
    pause.end_session()
    assert (pause.is_on, health.state()[1]) == (True, "paused")
    pause.end()
    assert not pause.is_on
