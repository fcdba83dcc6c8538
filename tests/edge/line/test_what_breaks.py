"""Whatever breaks inside the line comes back by itself, is said once, and holds up nothing behind
it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from edge.background import keep_running
from edge.errors import StorageError
from edge.line.connection import Connection
from edge.line.outbox import Outbox
from edge.line.records import RecordChannel
from edge.line.verdicts import VerdictChannel
from tests.support.broker import wait_until
from tests.support.fake_broker import FakeBroker
from tests.support.line import PREFIX, build, drain, started, tell, wait_problem, wait_ready


def break_once(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> threading.Event:
    """The next call raises what nobody expects; returns what tells that it did."""
    works, broken = getattr(owner, name), threading.Event()

    def breaks(*args: Any, **options: Any) -> Any:
        if broken.is_set():
            return works(*args, **options)
        broken.set()
        raise AttributeError("a bug")

    monkeypatch.setattr(owner, name, breaks)
    return broken


def test_a_thread_that_breaks_begins_again_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls = iter([KeyError("x"), KeyError("x"), KeyError("x")])

    def work() -> None:
        for error in calls:
            raise error

    keep_running(logging.getLogger("edge"), work, threading.Event(), pause_s=0.0)
    assert caplog.text.count("failed and starts again") == 1
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (VerdictChannel, "_beat"),
        (RecordChannel, "_work"),
        (Connection, "open"),
        (paho.Client, "loop_stop"),
    ],
)
def test_a_bug_in_a_thread_of_the_line_is_not_the_end_of_it(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    broken = break_once(monkeypatch, owner, name)
    with FakeBroker() as broker, started(broker.port, outbox) as line:
        if owner is paho.Client:
            wait_ready(line)
            line._verdicts.link.connection._socket.shutdown(2)  # type: ignore[union-attr]
        wait_until(broken.is_set, 60, "the bug was not met")
        wait_ready(line)
        tell(line, outbox)
        drain(outbox, 60)
        wait_until(
            lambda: line.counters.verdicts_sent == 1 or tell(line, outbox) is None,
            60,
            "no verdict came back",
        )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_librarys_thread_that_breaks_on_a_packet_ends_its_connection(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection would stand for ever: nothing is read from it, and nothing comes back."""
    with FakeBroker() as broker, started(broker.port, outbox) as line:
        wait_ready(line)
        broken = break_once(monkeypatch, Connection, "_note_message")
        wait_until(broken.is_set, 60, "no message came")
        wait_until(lambda: len(broker.connects) > 2, 60, "the connection was not made anew")
        wait_ready(line)


def test_a_connection_that_is_half_dead_is_left_without_a_verdict_on_its_way(
    outbox: Outbox,
) -> None:
    """Bytes leave and none come: TCP alone would take ten seconds, in which every part is
    rejected.
    """
    delivers = [True]
    with FakeBroker(delivers=lambda _: delivers[0]) as broker, started(broker.port, outbox) as line:
        wait_ready(line)
        made = len(broker.connects)
        delivers[0] = False
        wait_until(lambda: len(broker.connects) > made, 60, "the connection was not made anew")
        assert line.counters.verdicts_sent == 0
        delivers[0] = True
        wait_ready(line)


@pytest.mark.parametrize("denied", ["verdict", "verdict/code"])
def test_only_what_comes_back_ends_a_trouble_with_verdicts(
    outbox: Outbox, caplog: pytest.LogCaptureFixture, denied: str
) -> None:
    """One of two topics that is discarded: said once however often the station connects anew, ever
    less often.
    """
    allowed = [False]
    broker = FakeBroker(delivers=lambda one: allowed[0] or not one.topic.endswith(f"/{denied}"))
    with broker, started(broker.port, outbox) as line:
        for round_number in range(1, 3):
            wait_ready(line)
            tell(line, outbox, deadline_s=1.3)
            wait_problem(line, f"the broker discards {PREFIX}/{denied}")
            assert line._verdicts._discards == round_number, "the pause does not grow"
        assert caplog.text.count("the broker discards") == 1
        assert "again, after" not in caplog.text
        allowed[0] = True
        wait_ready(line)
        tell(line, outbox)
        wait_until(
            lambda: "verdicts come back again, after 2 failures" in caplog.text,
            60,
            "the end was not told",
        )


def test_a_record_that_is_damaged_on_the_disk_holds_up_none_behind_it(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        outbox.commit(build)
    with sqlite3.connect(tmp_path / "line.sqlite") as other:
        other.execute("UPDATE records SET fields = '{\"seq\":' WHERE seq = 2")
    with FakeBroker() as broker, started(broker.port, outbox):
        drain(outbox, 60)
        assert len(broker.of("record")) == 2
    assert outbox.counts() == {"seq": 3, "waiting": 0, "dropped": 1}
    assert caplog.text.count("damaged and cannot be sent") == 1


def test_a_database_that_is_moved_away_takes_no_record_and_is_used_again_once_it_is_back(
    tmp_path: Path, outbox: Outbox
) -> None:
    """What is written to a file without a name is lost with the process, and said to be on the disk
    until then.
    """
    outbox.commit(build)
    path = tmp_path / "line.sqlite"
    path.rename(tmp_path / "away")
    for act in (lambda: outbox.commit(build), outbox.probe, lambda: outbox.unsent(0, 9)):
        with pytest.raises(StorageError, match=r"moved away or replaced.* Put it back"):
            act()
    assert outbox.is_failing
    assert not path.exists(), "no second database is made behind the first one's back"
    assert outbox.commit_failed(build)["seq"] == 2
    (tmp_path / "away").rename(path)
    outbox.probe()
    assert [one.seq for one in outbox.unsent(0, 9)] == [1, 2]


def test_a_late_heartbeat_does_not_hide_a_late_verdict(outbox: Outbox) -> None:
    """The heartbeat left first and is late first: the verdict behind it still ends the
    connection.
    """
    stalled = [False]
    with (
        FakeBroker(delivers=lambda _: not stalled[0]) as broker,
        started(broker.port, outbox) as line,
    ):
        wait_ready(line)
        stalled[0], beats = True, len(broker.of("heartbeat"))
        wait_until(lambda: len(broker.of("heartbeat")) > beats, 60, "no heartbeat")
        connects = len(broker.connects)
        assert tell(line, outbox)
        wait_until(lambda: len(broker.connects) > connects, 60, "the connection was not given up")
