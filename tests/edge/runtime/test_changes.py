"""A change beside what judges: when it is resolved, offered, refused, and never tried twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from edge.errors import EngineError
from edge.runtime import changes as module
from edge.runtime.active import ActiveBundle
from edge.runtime.changes import Changes
from edge.runtime.current import CurrentBundle
from tests.support.active import Closable, make_active
from tests.support.broker import wait_until


class Disk:
    """What is active by its fingerprint, and what comes of resolving it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, active: ActiveBundle) -> None:
        self.fingerprint: Any = active.fingerprint
        self.answers: list[ActiveBundle | Exception] = []
        self.load: Callable[[Any], Any] | None = None  # what the resolving was given
        monkeypatch.setattr(module, "fingerprint_of", lambda _: self.fingerprint)
        monkeypatch.setattr(module, "resolve_active", self._resolve)

    def activate(self, fingerprint: object, answer: ActiveBundle | Exception) -> None:
        self.fingerprint = fingerprint
        self.answers.append(answer)

    def _resolve(self, _: object, load: Callable[[Any], Any]) -> ActiveBundle:
        self.load = load
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: str = "") -> None:
        self.running = make_active("1", refused=refused)
        self.disk = Disk(monkeypatch, self.running)
        self.current = CurrentBundle(self.running)
        self.changes = Changes(
            None,  # type: ignore[arg-type]  # the disk above is asked
            lambda installed: ("loaded", installed),  # type: ignore[arg-type,return-value]
            self.current,
        )

    def follow(self) -> None:
        """Until nothing is to be done."""
        self.changes.follow()
        wait_until(
            lambda: self.changes.follow() or not self.changes.is_opening, 60, "it is not resolved"
        )


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_nothing_is_opened_while_nothing_changes(rig: Rig) -> None:
    rig.changes.follow()
    assert not rig.changes.is_opening
    assert rig.current.latest is rig.running


def test_a_change_waits_until_the_engine_thread_takes_it(rig: Rig) -> None:
    second = make_active("2")
    rig.disk.activate(("2",), second)
    rig.follow()
    assert (rig.current.get(), rig.current.latest) == (rig.running, second)
    rig.follow()
    assert rig.disk.answers == [], "it is resolved once"


def test_it_is_settled_once_what_is_active_judges_or_is_refused(rig: Rig) -> None:
    assert rig.changes.is_settled
    second = make_active("2")
    rig.disk.activate(("2",), second)
    assert not rig.changes.is_settled, "seen by nobody yet"
    rig.follow()
    assert not rig.changes.is_settled, "it waits"
    rig.current.take()
    assert rig.changes.is_settled
    rig.disk.activate(("3",), EngineError("no device"))
    assert not rig.changes.is_settled
    rig.follow()
    assert rig.changes.is_settled


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (EngineError("no device"), "no device"),
        (KeyError("map"), "KeyError: 'map'"),
        (RecursionError("too\ndeep"), "RecursionError: too deep"),
    ],
)
def test_a_change_that_fails_is_said_once_and_not_tried_again(
    rig: Rig, caplog: pytest.LogCaptureFixture, error: Exception, why: str
) -> None:
    rig.disk.activate(("2",), error)
    for _ in range(5):
        rig.follow()
    assert rig.changes.refused == why
    assert rig.current.latest is rig.running
    assert rig.running.fingerprint == ("1",), "nothing is written into what judges"
    assert caplog.text.count("the change is not taken up, the station goes on as it was: ") == 1


def test_what_was_refused_is_tried_again_when_it_changes_and_said_until_then(rig: Rig) -> None:
    rig.disk.activate(("2",), EngineError("no device"))
    rig.follow()
    rig.disk.activate(("2", "mended"), make_active("2", fingerprint=("2", "mended")))
    rig.changes.follow()
    assert (rig.changes.is_opening, rig.changes.refused) == (True, "no device")
    rig.follow()
    assert (rig.changes.refused, rig.current.is_waited_for) == ("", True)


def test_back_to_what_judges_is_a_change_that_keeps_its_engine(rig: Rig) -> None:
    rig.disk.activate(("2",), EngineError("no device"))
    rig.follow()
    rig.disk.activate(("1",), make_active("1", engine=rig.running.engine))
    rig.follow()
    assert rig.changes.refused == ""
    assert rig.disk.load is not None
    assert rig.disk.load(rig.running.installed) is rig.running.proven
    other = make_active("3").installed
    assert rig.disk.load(other) == ("loaded", other)


def test_a_fallback_at_the_start_is_told_until_a_change_is_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rig = Rig(monkeypatch, refused="the active one is damaged")
    rig.changes.follow()
    assert rig.changes.refused == "the active one is damaged"
    rig.disk.activate(("2",), make_active("2"))
    rig.follow()
    assert rig.changes.refused == ""


def test_a_change_that_is_overtaken_gives_its_engine_back(rig: Rig) -> None:
    second, third = make_active("2"), make_active("3")
    for active in (second, third):
        rig.disk.activate(active.fingerprint, active)
        rig.follow()
    engines = [one.engine for one in (rig.running, second, third)]
    assert [isinstance(one, Closable) and one.closed for one in engines] == [False, True, False]


def test_one_that_hangs_is_said_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released: list[bool] = []
    monkeypatch.setattr(module, "OPEN_LIMIT_S", 0.0)
    monkeypatch.setattr(
        module,
        "resolve_active",
        lambda *_: wait_until(lambda: released, 60, "never released") or make_active("2"),
    )
    rig.disk.fingerprint = ("2",)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            rig.changes.follow()
    released.append(True)
    rig.follow()
    assert caplog.text.count("an engine is not open after") == 1
    assert rig.current.is_waited_for, "late is better than never"
