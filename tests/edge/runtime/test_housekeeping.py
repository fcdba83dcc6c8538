"""Housekeeping runs beside everything else: it says when the disk is back, and nothing waits for it
or ends it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import StorageError
from edge.line.message import state_message
from edge.line.outbox import Outbox
from edge.runtime import housekeeping as module
from edge.runtime.health import Health
from edge.runtime.housekeeping import Housekeeping
from edge.runtime.notify import Notifier
from edge.sections import RetentionConfig
from tests.support.broker import wait_until
from tests.support.fakes import committed, frames_of
from tests.support.service import new_service
from tests.support.station import BAD, EMPTY, StationRoot


def fields(seq: int) -> dict[str, Any]:
    return {"seq": seq}


@pytest.fixture
def outbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outbox]:
    monkeypatch.setattr(module, "PASS_S", 0.01)
    opened = Outbox(tmp_path / "line.sqlite")
    yield opened
    opened.close()


class Disk:
    """Refuses while `full`, whoever asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full, self.asked = True, 0
        write = Outbox._write

        def refuse(outbox: Outbox, *args: Any, **options: Any) -> None:
            self.asked += 1
            if self.full:
                raise OSError(28, "No space left on device")
            write(outbox, *args, **options)

        monkeypatch.setattr(Outbox, "_write", refuse)


def test_a_storage_fault_clears_itself_without_a_part(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    health, disk = Health(), Disk(monkeypatch)
    with pytest.raises(StorageError):
        outbox.commit(fields)
    outbox.commit_failed(fields)
    health.note_storage(works=False)
    keeping = Housekeeping(outbox, RetentionConfig(), health.note_storage)
    with caplog.at_level(logging.INFO):
        keeping.start()
        wait_until(lambda: disk.asked > 5, 60, "the disk is not asked")
        assert health.state()[:2] == ("fault", "storage")
        disk.full = False
        wait_until(lambda: health.state()[0] == "online", 60, "the fault stays")
        keeping.stop(10)
    assert outbox.counts() == {"seq": 1, "waiting": 1, "dropped": 0}
    assert outbox.unwritten == 0
    assert caplog.text.count("No space left") == 1, "said once, not each second"
    assert "the disk takes records again" in caplog.text


def test_a_disk_that_fails_while_no_part_comes_is_noticed(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_S", 0.05)
    health, disk = Health(), Disk(monkeypatch)
    disk.full = False
    keeping = Housekeeping(outbox, RetentionConfig(), health.note_storage)
    keeping.start()
    wait_until(lambda: disk.asked > 0, 60, "the disk is not asked")
    disk.full = True
    wait_until(lambda: health.state()[1] == "storage", 60, "it was not noticed")
    keeping.stop(10)


def test_a_storage_fault_clears_itself_while_a_lowered_bound_is_still_being_enforced(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, entered = threading.Event(), threading.Event()

    def takes_minutes(*_: object, **__: object) -> Iterator[int]:
        entered.set()
        released.wait(60)
        yield 0

    monkeypatch.setattr(Outbox, "retain_in_steps", takes_minutes)
    health, disk = Health(), Disk(monkeypatch)
    keeping = Housekeeping(outbox, RetentionConfig(), health.note_storage)
    with pytest.raises(StorageError):
        outbox.commit(fields)
    health.note_storage(works=False)
    keeping.start()
    try:
        assert entered.wait(60)
        disk.full = False
        wait_until(lambda: health.state()[0] == "online", 60, "the fault waits for the bound")
    finally:
        released.set()
        keeping.stop(10)


def test_an_error_ends_neither_the_thread_nor_the_watch_over_the_disk(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CLEAN_S", 0.0)
    calls: list[Exception | None] = []

    def broken(*_: object, **__: object) -> Iterator[int]:
        calls.append(None)
        raise (ZeroDivisionError("a bug") if len(calls) % 2 else StorageError("disk I/O error"))
        yield 0

    monkeypatch.setattr(Outbox, "retain_in_steps", broken)
    keeping = Housekeeping(outbox, RetentionConfig(), lambda _: None)
    keeping.start()
    wait_until(lambda: len(calls) > 6, 60, "the thread has ended")
    keeping.stop(10)
    assert "a bug" in caplog.text
    assert "disk I/O error" in caplog.text


def test_a_lowered_bound_is_enforced_while_parts_are_committed(
    outbox: Outbox, tmp_path: Path
) -> None:
    for _ in range(60):
        outbox.commit(lambda seq: {**fields(seq), "ballast": "x" * 50_000})
    outbox.mark_sent(list(range(1, 60)))
    keeping = Housekeeping(outbox, RetentionConfig(gb=0.01), lambda _: None)
    keeping.start()

    def is_small() -> bool:
        outbox.commit(fields)
        return (tmp_path / "line.sqlite").stat().st_size <= 1_100_000

    wait_until(is_small, 60, "the file does not shrink")
    keeping.stop(10)
    assert outbox.counts()["dropped"] == 0


def test_the_station_judges_and_feeds_the_watchdog_while_housekeeping_hangs(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, entered = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> Iterator[int]:
        entered.set()
        released.wait(60)
        yield 0

    monkeypatch.setattr(Outbox, "retain_in_steps", hang)
    shown = frames_of([*[EMPTY] * 3, *[BAD] * 6, *[EMPTY] * 3])
    alive: list[float] = []
    watched = [
        lambda: entered.wait(60),
        shown[0],
        lambda: wait_until(lambda: alive, 60, "no sign of life"),
        *shown[1:],
    ]
    notifier = Notifier("")
    notifier.alive = lambda: alive.append(time.monotonic())  # type: ignore[method-assign]
    service = new_service(station, watched, notifier=notifier)
    try:
        assert service.run() == 1
    finally:
        released.set()
    assert len(committed(station.root)) == 1


def test_the_stations_state_says_what_waits_for_the_disk_until_it_is_back(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PASS_S", 0.01)
    disk = Disk(monkeypatch)
    shown = frames_of([*[EMPTY] * 3, *[BAD] * 6, *[EMPTY] * 3])
    told: list[dict[str, Any]] = []

    def note_state() -> None:
        wait_until(lambda: service.health.parts == 1, 60, "no part was decided")
        told.append(json.loads(state_message(service.at_work.report.state())))

    def free_disk() -> None:
        disk.full = False
        wait_until(
            lambda: service.health.state()[1] != "storage",
            60,
            "the fault stays although no part comes",
        )
        told.append(json.loads(state_message(service.at_work.report.state())))

    service = new_service(station, [*shown, note_state, free_disk])
    service.run()
    keys = ("state", "reason", "ready", "records_unwritten", "records_waiting")
    seen = [tuple(one[key] for key in keys) for one in told]
    assert seen == [("fault", "storage", False, 1, 1), ("online", "", True, 0, 1)]
    assert [(one["code"], one["reason"]) for one in committed(station.root)] == [(3, "storage")]
