"""The harness of the played PLC itself: every promise that it watches is seen to be broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from edge.simulate.link import Acked, Told
from edge.simulate.referee import History, Sensed, judge
from edge.types import Code
from tests.endurance.cell_rig import BEHIND_S, Wrongs
from tests.support.played import RULES

AT_S = 100.0


class Run:
    """Three parts that were told, each with its record."""

    def __init__(self) -> None:
        self.history = History()
        for n in (1, 2, 3):
            at_s, part = AT_S + n, f"P{n}"
            self.history.sensed.append(Sensed(part, n, at_s, True, Code.OK))
            self.history.heard.append(Acked(part, n, True, "", 10 + n, at_s + 0.01))
            self.history.heard.append(Told(part, n, 10 + n, 1, "normal", at_s + 0.05))
        kept = {10 + n: {"part": f"P{n}", "n": n, "code": 1} for n in (1, 2, 3)}
        archive = SimpleNamespace(kept=kept, doubled=[], changed=[])
        self.rig: Any = SimpleNamespace(archive=archive, complaints=[], spans=[])

    def wrongs(self) -> list[str]:
        played: Any = SimpleNamespace(findings=judge(self.history, RULES))
        return Wrongs(self.rig, played).all()


def drop_record(run: Run) -> None:
    del run.rig.archive.kept[12]


def other_record(run: Run) -> None:
    run.rig.archive.kept[12]["part"] = "P3"


def other_code(run: Run) -> None:
    run.rig.archive.kept[12]["code"] = 2


def wrong_frames(run: Run) -> None:
    run.history.sensed[1] = replace(run.history.sensed[1], expected=Code.NG)


def never_answer(run: Run) -> None:
    run.history.heard.pop()


def answer_twice(run: Run) -> None:
    run.history.heard.append(run.history.heard[-1])


def double(run: Run) -> None:
    run.rig.archive.doubled.append("s1-11")


def test_a_run_in_which_all_was_kept_has_nothing_wrong() -> None:
    assert Run().wrongs() == []


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (drop_record, "1 without one record that says the same: ['P2 n=2']"),
        (other_record, "1 without one record that says the same: ['P2 n=2']"),
        (other_code, "1 without one record that says the same: ['P2 n=2']"),
        (wrong_frames, "1 judged by the frames of another part: ['P2 n=2']"),
        (never_answer, "1 accepted, never answered, and no fault near: ['P3 n=3']"),
        (answer_twice, "1 answered twice: P3 n=3"),
        (double, "1 records doubled: ['s1-11']"),
    ],
)
def test_a_broken_promise_is_told(breaks: Callable[[Run], None], said: str) -> None:
    run = Run()
    breaks(run)
    assert run.wrongs() == [said]


@pytest.mark.parametrize(("ended_s", "excused"), [(AT_S, True), (AT_S + 3 - BEHIND_S - 0.1, False)])
def test_a_verdict_may_be_lost_near_a_fault_only(ended_s: float, excused: bool) -> None:
    run = Run()
    never_answer(run)
    run.rig.spans.append(("broker killed", ended_s - 1, ended_s))
    assert (run.wrongs() == []) == excused
