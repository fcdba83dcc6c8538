"""Several consumers read one outbox: each gets every record, none holds up another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.clock import boot_time_s
from edge.line.outbox import Outbox
from tests.support.line import fields

AGE_S = 1e9


def commit(outbox: Outbox, count: int) -> None:
    for _ in range(count):
        outbox.commit(fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "line.sqlite"


@pytest.fixture
def outbox(path: Path) -> Iterator[Outbox]:
    opened = Outbox(path)
    yield opened
    opened.close()


def left_in(outbox: Outbox) -> list[int]:
    return [seq for (seq,) in outbox._connection().execute("SELECT seq FROM records ORDER BY seq")]


def handed(reader: Any, after: int = 0, limit: int = 99) -> list[tuple[int, bool]]:
    return [(one.seq, one.replay) for one in reader.unsent(after, limit)]


def test_each_consumer_gets_every_record_from_its_registration_on(outbox: Outbox) -> None:
    commit(outbox, 2)
    opcua = outbox.consumer("opcua")
    commit(outbox, 3)
    assert (opcua.waiting, outbox.counts()["waiting"]) == (3, 5)
    assert handed(opcua, limit=2) == [(3, False), (4, False)]
    assert handed(opcua, after=4) == [(5, False)]
    assert handed(opcua) == [(3, True), (4, True), (5, True)]
    opcua.mark_sent_through(4)
    assert handed(opcua) == [(5, True)]
    assert handed(outbox) == [(seq, False) for seq in (1, 2, 3, 4, 5)]
    outbox.mark_sent([1, 2, 3, 4, 5])
    assert outbox.counts()["waiting"] == 0
    opcua.mark_sent_through(3)
    assert opcua.waiting == 1, "a cursor never goes back"


def test_after_a_restart_it_goes_on_where_it_was_and_what_was_left_is_a_replay(path: Path) -> None:
    outbox = Outbox(path)
    opcua = outbox.consumer("opcua")
    commit(outbox, 3)
    opcua.unsent(0, 2)
    opcua.mark_sent_through(1)
    outbox._database.close()  # killed
    again = Outbox(path)
    opcua = again.consumer("opcua")
    commit(again, 1)
    assert handed(opcua) == [(2, True), (3, True), (4, False)]
    again.close()


def test_retention_deletes_first_what_every_consumer_was_given(outbox: Outbox) -> None:
    opcua = outbox.consumer("opcua")
    commit(outbox, 10)
    outbox.mark_sent([1, 2, 3, 4, 5, 9])
    opcua.mark_sent_through(3)
    assert outbox.retain(AGE_S, 7) == 0
    assert left_in(outbox) == [4, 5, 6, 7, 8, 9, 10]
    assert outbox.counts() == {"seq": 10, "waiting": 4, "dropped": 0}
    assert outbox.retain(AGE_S, 5) == 2, "OPC UA was not given 4 and 5, which MQTT was"
    assert outbox.counts() == {"seq": 10, "waiting": 4, "dropped": 2}
    opcua.mark_sent_through(9)
    assert outbox.retain(AGE_S, 4) == 0, "the lowest that both were given is 9"
    assert left_in(outbox) == [6, 7, 8, 10]
    assert outbox.retain(AGE_S, 3) == 1
    assert outbox.counts() == {"seq": 10, "waiting": 3, "dropped": 3}


def test_age_drops_what_a_consumer_was_not_given_and_counts_it(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    opcua = outbox.consumer("opcua")
    commit(outbox, 3)
    outbox.mark_sent([1, 2, 3])
    opcua.mark_sent_through(1)
    later_s = boot_time_s() + 1000.0
    monkeypatch.setattr("edge.clock.boot_time_s", lambda: later_s)
    assert outbox.retain(500.0) == 2
    assert outbox.counts() == {"seq": 3, "waiting": 0, "dropped": 2}


def test_a_consumer_that_the_station_has_no_more_keeps_nothing_back(outbox: Outbox) -> None:
    outbox.consumer("opcua")
    commit(outbox, 6)
    outbox.mark_sent([1, 3, 4, 5, 6])
    assert outbox.retain(AGE_S, 5) == 1, "it was not given 1"
    outbox.forget_consumer("opcua")
    assert outbox.retain(AGE_S, 3) == 0
    assert left_in(outbox) == [2, 5, 6]
    assert outbox.consumer("opcua").waiting == 0, "it begins again with the next record"


def test_what_a_full_disk_has_kept_back_reaches_every_consumer_in_order(path: Path) -> None:
    """Row 2 was left by a commit whose last sync failed; what was told under its number counts."""
    outbox = Outbox(path)
    outbox.consumer("opcua")
    commit(outbox, 1)
    outbox.commit_failed(lambda seq: {**fields(seq), "reason": "storage"})
    with outbox._database.transaction() as connection:
        connection.execute("INSERT INTO records (seq, fields, committed_at) VALUES (2, '{}', 0)")
    assert handed(outbox.consumer("opcua")) == [(1, True)]
    commit(outbox, 1)
    said = [(one.seq, one.fields.get("reason")) for one in outbox.consumer("opcua").unsent(0, 9)]
    assert said == [(1, None), (2, "storage"), (3, None)]
    outbox.close()


def test_damaged_records_are_passed_over_and_logged_once(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    opcua = outbox.consumer("opcua")
    commit(outbox, 5)
    outbox._connection().execute("UPDATE records SET fields = '{' WHERE seq IN (2, 4, 5)")
    assert handed(opcua) == [(1, False), (3, False)]
    assert handed(opcua, after=3) == []
    opcua.mark_sent_through(3)
    assert handed(opcua, after=3) == []
    assert opcua.waiting == 0
    assert [line for line in caplog.messages if "damaged" in line] == [
        f"records [2, 4, 5] in {outbox.path} are damaged and cannot be sent to opcua"
    ]


def test_any_number_of_damaged_records_is_passed_over(outbox: Outbox) -> None:
    opcua = outbox.consumer("opcua")
    with outbox._database.transaction() as connection:
        connection.executemany(
            "INSERT INTO records (seq, fields, committed_at) VALUES (?, '{', 0)",
            [(seq,) for seq in range(1, 1201)],
        )
    outbox._counters.seq = 1200
    commit(outbox, 1)
    assert handed(opcua, limit=1) == [(1201, False)]


TODAY = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY, fields TEXT NOT NULL, committed_at REAL NOT NULL,
        attempted INTEGER NOT NULL DEFAULT 0, sent_at REAL, powered_s REAL,
        synced INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    INSERT INTO counters VALUES ('seq', 6), ('sent_through', 2), ('waiting', 2), ('dropped', 7),
        ('expired_through', 1), ('written', 123);
    INSERT INTO records (seq, fields, committed_at, attempted, sent_at, powered_s) VALUES
        (2, '{"seq":2}', 1e9, 1, 1e9, 0.0), (3, '{"seq":3}', 1e9, 1, NULL, 0.0),
        (4, '{"seq":4}', 1e9, 1, 1e9, 0.0), (5, '{"seq":5}', 1e9, 0, NULL, 0.0),
        (6, '{"seq":6}', 1e9, 1, 1e9, 0.0);
"""


@pytest.mark.parametrize("registers", [False, True])
def test_a_file_without_consumers_opens_and_loses_and_repeats_nothing(
    path: Path, registers: bool
) -> None:
    """As the version before left it: 3 in flight, 5 not sent yet."""
    with closing(sqlite3.connect(path)) as before:
        before.executescript(TODAY)
    outbox = Outbox(path)
    if registers:
        assert outbox.consumer("opcua").waiting == 0, "what was there before is not for it"
    assert outbox.counts() == {"seq": 6, "waiting": 2, "dropped": 7}
    assert handed(outbox) == [(3, True), (5, False)]
    assert outbox.retain(AGE_S, 4) == 0
    assert left_in(outbox) == [3, 4, 5, 6]
    assert outbox.commit(fields)["seq"] == 7
    outbox.mark_sent([3, 5])
    assert outbox.counts() == {"seq": 7, "waiting": 1, "dropped": 7}
    assert outbox.find_stamp(1) is not None, "1 expired"
    outbox.close()
    again = Outbox(path)
    assert handed(again) == [(7, False)]
    assert handed(again.consumer("opcua")) == ([(7, True)] if registers else [])
    again.close()


def test_a_station_with_mqtt_alone_has_no_further_table(outbox: Outbox) -> None:
    tables = outbox._connection().execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    assert {name for (name,) in tables} == {"records", "counters"}
