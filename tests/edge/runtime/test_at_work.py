"""In which order a station at work is started."""

from __future__ import annotations

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

    monkeypatch.setattr(factory, "DIALECTS", {"none": make})
    script = [lambda: before_the_first_frame.extend(lines[0].published), *frames_of([EMPTY])]
    new_service(station, script, ScriptedEngine([{}])).run()
    assert before_the_first_frame == ["link", ""]
