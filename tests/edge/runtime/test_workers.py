"""Threads of which none goes on without the others, and the request to stop them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from edge.errors import DataError
from edge.runtime.stopping import StopRequest, StopSignals
from edge.runtime.workers import BROKEN, Workers
from tests.support.broker import wait_until


def started(**works: Callable[[], None]) -> Workers:
    workers = Workers(works, threading.Event())
    workers.start()
    return workers


def raises(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_one_that_ends_is_noticed_and_no_failure() -> None:
    hold = threading.Event()
    workers = started(short=lambda: None, long=lambda: hold.wait(60) and None)
    assert workers.wait_ended(60)
    assert workers.failure is None
    assert not workers.join("long", time.monotonic())
    assert workers.is_alive("long")
    hold.set()
    assert workers.join("long", time.monotonic() + 60)


def test_the_first_failure_is_kept_as_it_was_raised() -> None:
    error = DataError("0003_color.png is damaged")
    workers = started(only=raises(error))
    assert workers.wait_ended(60)
    assert workers.failure is error


def test_what_follows_from_the_first_failure_does_not_replace_it() -> None:
    first = threading.Event()

    def follows() -> None:
        first.wait(60)
        wait_until(lambda: workers.failure is not None, 60, "the first is not noted")
        raise DataError("it has gone meanwhile")

    def fails() -> None:
        first.set()
        raise DataError("the first")

    workers = Workers({"fails": fails, "follows": follows}, threading.Event())
    workers.start()
    for name in ("fails", "follows"):
        assert workers.join(name, time.monotonic() + 60)
    assert str(workers.failure) == "the first"


def test_a_bug_shows_its_traceback_and_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda about: shown.append(about.exc_type))
    workers = started(only=raises(ZeroDivisionError()))
    assert workers.wait_ended(60)
    assert workers.join("only", time.monotonic() + 60)
    assert shown == [ZeroDivisionError]
    assert str(workers.failure) == BROKEN


def test_one_that_was_asked_to_end_is_no_news() -> None:
    stopping = threading.Event()
    workers = Workers({"only": lambda: stopping.wait(60) and None}, stopping)
    workers.start()
    stopping.set()
    assert workers.join("only", time.monotonic() + 60)
    assert not workers.wait_ended(0.0)


def test_a_signal_reaches_the_threads_when_the_main_loop_looks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signals = StopSignals()
    request = StopRequest(signals)
    assert not request.is_asked()
    signals.number = 15
    with caplog.at_level(logging.INFO, "edge.runtime.stopping"):
        assert not request.event.is_set()
        assert request.is_asked()
        assert request.event.is_set()
        assert request.is_asked()
    assert caplog.text.count("SIGTERM: stopping") == 1
