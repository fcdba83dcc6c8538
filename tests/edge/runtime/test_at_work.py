"""A station at work: the order in which it is started, and what the line's threads note."""

from __future__ import annotations

import threading

import pytest

from edge.line import factory
from edge.line.base import LineSetup
from edge.line.none import NoLine
from tests.support.fakes import ScriptedEngine, frames_of
from tests.support.service import new_service
from tests.support.station import EMPTY, StationRoot


class Prompt(NoLine):
    """Connects before `start` returns."""

    def __init__(self, setup: LineSetup) -> None:
        super().__init__()
        self._setup = setup
        self.verdict_problem: str | None = "not connected yet"
        self.published: list[str] = []

    def start(self) -> None:
        self.state_changed()
        self.verdict_problem = None
        self._setup.changed()

    def state_changed(self) -> None:
        self.published.append(self._setup.state().reason)


def test_what_changes_while_the_line_is_started_is_published_before_the_first_frame(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Prompt] = []
    before_the_first_frame: list[str] = []

    def make(setup: LineSetup) -> Prompt:
        lines.append(Prompt(setup))
        return lines[0]

    monkeypatch.setattr(factory, "make_no_line", make)
    script = [lambda: before_the_first_frame.extend(lines[0].published), *frames_of([EMPTY])]
    new_service(station, script, ScriptedEngine([{}])).run()
    assert before_the_first_frame == ["link", ""]


class Slow(NoLine):
    """The thread `slow` takes its time between reading a problem and noting it."""

    def __init__(self, setup: LineSetup) -> None:
        super().__init__()
        self.changed = setup.changed
        self.now: str | None = None
        self.is_read, self.may_go_on = threading.Event(), threading.Event()

    @property
    def verdict_problem(self) -> str | None:  # type: ignore[override]
        found = self.now
        if threading.current_thread().name == "slow":
            self.is_read.set()
            self.may_go_on.wait(0.2)
        return found


def test_of_two_threads_of_the_line_the_one_that_read_first_does_not_note_last(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Slow] = []
    reasons: list[str] = []

    def make(setup: LineSetup) -> Slow:
        lines.append(Slow(setup))
        return lines[0]

    def connect() -> None:
        line = lines[0]
        line.now = "not connected yet"
        slow = threading.Thread(target=line.changed, name="slow")
        slow.start()
        line.is_read.wait(60)
        line.now = None
        line.changed()
        line.may_go_on.set()
        slow.join(60)
        reasons.append(service.health.state()[1])

    monkeypatch.setattr(factory, "make_no_line", make)
    service = new_service(station, [connect, *frames_of([EMPTY])], ScriptedEngine([{}]))
    service.run()
    assert reasons == [""]
