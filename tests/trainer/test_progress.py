"""A long loop says how far it is: a bar in a terminal, a line every ten seconds on a pipe."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import re
import sys
from contextlib import suppress

import pytest

from trainer import progress as module
from trainer.cli import ToStderr
from trainer.progress import counting, minutes, pace, progress


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_pipe_gets_one_line_every_ten_seconds_with_rate_and_time_left(clock: Clock) -> None:
    pipe = io.StringIO()
    for _ in progress(range(100), "judging images", stream=pipe):
        clock.now_s += 0.5
    lines = pipe.getvalue().splitlines()
    assert lines[0] == "judging images: 20 of 100, 2.0 a second, about 0:40 left"
    assert lines[-1] == "judging images: 100 of 100, 2.0 a second, about 0:00 left"
    assert len(lines) == 5


def test_a_short_loop_writes_nothing_on_a_pipe(clock: Clock) -> None:
    pipe = io.StringIO()
    for _ in progress(iter(range(9)), "judging images", total=9, stream=pipe):
        clock.now_s += 1
    assert pipe.getvalue() == ""


def test_a_pipe_that_nobody_reads_any_more_does_not_end_the_work(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    done = 0
    with os.fdopen(write, "w", buffering=1) as pipe:
        for _ in progress(range(3), "judging images", stream=pipe):
            clock.now_s += 11
            done += 1
        record = logging.LogRecord("a log", logging.INFO, "", 0, "INT8 everywhere", None, None)
        monkeypatch.setattr(sys, "stderr", pipe)
        ToStderr().emit(record)
        monkeypatch.undo()
        with suppress(OSError):
            pipe.close()
    assert done == 3


def test_work_of_unknown_length_is_counted_without_a_time_left(clock: Clock) -> None:
    pipe = io.StringIO()
    with counting("trying plans", stream=pipe) as advance:
        for _ in range(3):
            clock.now_s += 7.5
            advance()
    assert pipe.getvalue() == "trying plans: 2, 7.5 s each\n"


def test_a_terminal_shows_a_bar_with_rate_and_time_left_and_then_takes_it_away() -> None:
    terminal = Terminal()
    for _ in progress(range(400), "judging images", stream=terminal):
        pass
    shown = terminal.getvalue()
    assert "judging images" in shown
    assert re.search(r"400/400.* a second, 0:00 left", shown)
    assert shown.endswith("\x1b[2K"), "the last thing that it writes clears its line"


def test_log_lines_stand_whole_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    log, handler = logging.Logger("a log"), ToStderr()
    log.addHandler(handler)
    for number in progress(range(3), "judging images"):
        log.warning("line %d", number)
    shown = [line.rpartition("\x1b[2K")[2].strip("\r") for line in terminal.getvalue().split("\n")]
    assert [line for line in shown if "line" in line] == ["line 0", "line 1", "line 2"]


def test_a_loop_inside_another_one_is_not_shown(clock: Clock) -> None:
    pipe = io.StringIO()
    for _ in progress(range(2), "outer", stream=pipe):
        for _ in progress(range(10), "inner", stream=pipe):
            clock.now_s += 5
    assert [line.split(":")[0] for line in pipe.getvalue().splitlines()] == ["outer", "outer"]


def test_a_loop_that_is_left_early_lets_the_next_one_show_itself(clock: Clock) -> None:
    with pytest.raises(ZeroDivisionError), counting("first", stream=io.StringIO()):
        raise ZeroDivisionError
    left = progress(range(3), "second", stream=io.StringIO())
    next(left)
    left.close()  # type: ignore[attr-defined]  # it is a generator
    pipe = io.StringIO()
    for _ in progress(range(1), "third", stream=pipe):
        clock.now_s += 11
    assert pipe.getvalue().startswith("third: 1 of 1")


def test_a_child_process_shows_nothing(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    pipe = io.StringIO()
    for _ in progress(range(3), "judging images", stream=pipe):
        clock.now_s += 11
    assert pipe.getvalue() == ""


def test_durations_and_rates_are_written_with_their_units() -> None:
    assert (minutes(0.4), minutes(59.6), minutes(3725)) == ("0:00", "1:00", "62:05")
    assert (pace(30, 10.0), pace(4, 10.0), pace(5, 0.0)[-9:]) == (
        "3.0 a second",
        "2.5 s each",
        " a second",
    )
