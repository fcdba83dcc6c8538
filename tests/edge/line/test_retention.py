"""Which records go: by powered-on age, in the order of numbers, the unsent last; never because the
clock was wrong.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.line.outbox import Outbox
from tests.support.line import fields
from tests.support.machine import DAY_S, NOW_S, Machine

LIMIT_S = 90 * DAY_S
JAN_1970_S, YEAR_2038_S = 300.0, 2_150_000_000.0


@pytest.fixture
def outbox(tmp_path: Path, machine: Machine) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "line.sqlite")
    yield opened
    opened.close()


def left_in(outbox: Outbox) -> list[int]:
    return [row[0] for row in outbox._connection().execute("SELECT seq FROM records ORDER BY seq")]


@pytest.mark.parametrize(
    "wrong_s", [JAN_1970_S, YEAR_2038_S, NOW_S + 3600], ids=["1970", "2038", "an hour ahead"]
)
@pytest.mark.parametrize("synced", [False, True], ids=["not synced", "falsely synced"])
def test_records_outlive_a_wrong_clock(
    outbox: Outbox, machine: Machine, wrong_s: float, synced: bool
) -> None:
    outbox.commit(fields)
    machine.wall_s, machine.synced = wrong_s, synced
    outbox.commit(fields)
    assert outbox.retain(LIMIT_S, 10**6) == 0
    machine.wall_s, machine.synced = NOW_S, True
    assert outbox.retain(LIMIT_S, 10**6) == 0
    assert left_in(outbox) == [1, 2]


def test_age_counts_the_days_that_the_station_was_on(tmp_path: Path, machine: Machine) -> None:
    machine.synced = False
    outbox = Outbox(tmp_path / "line.sqlite")
    outbox.commit(fields)
    machine.run(80 * DAY_S)
    outbox.commit(fields)
    outbox.probe()
    outbox.clock.persist(0)
    machine.reboot(off_s=300 * DAY_S)
    outbox.close()
    again = Outbox(tmp_path / "line.sqlite")
    assert again.retain(LIMIT_S, 10**6) == 0, "it was off, not old"
    machine.run(11 * DAY_S)
    assert again.retain(LIMIT_S, 10**6) == 1
    assert left_in(again) == [2]
    again.close()


def test_two_believed_wall_clocks_make_an_age_smaller_never_larger(
    outbox: Outbox, machine: Machine
) -> None:
    outbox.commit(fields)
    machine.up_s += 100 * DAY_S
    machine.wall_s += 10 * DAY_S
    assert outbox.retain(LIMIT_S, 10**6) == 0
    machine.synced = False
    assert outbox.retain(LIMIT_S, 10**6) == 1


def test_a_date_in_the_future_holds_nothing_else_back(outbox: Outbox, machine: Machine) -> None:
    machine.wall_s = YEAR_2038_S
    outbox.commit(fields)
    machine.wall_s = NOW_S
    outbox.commit(fields)
    machine.run(100 * DAY_S)
    outbox.commit(fields)
    assert outbox.retain(LIMIT_S, 10**6) == 1
    assert left_in(outbox) == [1, 3]
    assert outbox.retain(LIMIT_S, 1) == 1, "the size bound rules in any case"


@pytest.mark.parametrize("damage", ["missing", "damaged", "old"])
def test_a_lost_counter_deletes_nothing_early_and_counts_on(
    tmp_path: Path, machine: Machine, damage: str
) -> None:
    path, counter = tmp_path / "line.sqlite", tmp_path / "line.clock"
    outbox = Outbox(path)
    old = counter.read_bytes()
    outbox.commit(fields)
    machine.run(50 * DAY_S)
    outbox.commit(fields)
    outbox.close()
    counter.write_bytes({"damaged": b"?" * 4096, "old": old}.get(damage, b""))
    if damage == "missing":
        counter.unlink()
    machine.reboot(off_s=DAY_S)
    machine.synced = False
    again = Outbox(path)
    assert again.retain(LIMIT_S, 10**6) == 0
    machine.run(45 * DAY_S)
    assert again.retain(LIMIT_S, 10**6) == 1, "the newest record tells how far the count was"
    assert left_in(again) == [2]
    again.close()


def older_database(path: Path, sent: int, unsent: int, attempted: int) -> None:
    """As older versions left it."""
    with closing(sqlite3.connect(path)) as old:
        old.executescript("""
            PRAGMA journal_mode = WAL;
            CREATE TABLE records (seq INTEGER PRIMARY KEY, fields TEXT NOT NULL,
                committed_at REAL NOT NULL,
                attempted INTEGER NOT NULL DEFAULT 0, sent_at REAL);
            CREATE INDEX records_unsent ON records (seq) WHERE sent_at IS NULL;
            CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
            INSERT INTO counters VALUES ('seq', 0), ('dropped', 7);
        """)
        for seq in range(1, sent + unsent + 1):
            row = (
                seq,
                f'{{"seq": {seq}}}',
                JAN_1970_S,
                seq <= sent + attempted,
                1.0 if seq <= sent else None,
            )
            old.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?)", row)
        old.execute("UPDATE counters SET value = ? WHERE name = 'seq'", (sent + unsent,))
        old.commit()


def test_an_older_database_loses_nothing_and_its_records_count_from_now(
    tmp_path: Path, machine: Machine
) -> None:
    path = tmp_path / "line.sqlite"
    older_database(path, sent=3, unsent=4, attempted=1)
    (tmp_path / "line.seq").write_bytes(b"7\n7\n".ljust(4096))
    outbox = Outbox(path)
    assert outbox.counts() == {"seq": 7, "waiting": 4, "dropped": 7}
    assert outbox.retain(LIMIT_S, 10**6) == 0
    assert left_in(outbox) == list(range(1, 8))
    assert [(one.seq, one.replay) for one in outbox.unsent(0, 9)] == [
        (4, True),
        (5, False),
        (6, False),
        (7, False),
    ]
    assert outbox.commit(fields)["seq"] == 8
    outbox.close()
    machine.run(91 * DAY_S)
    again = Outbox(path)
    again.commit(fields)
    assert again.retain(LIMIT_S, 10**6) == 5
    assert left_in(again) == [9]
    again.close()


def test_an_older_database_that_was_sent_has_nothing_waiting(
    tmp_path: Path, machine: Machine
) -> None:
    older_database(tmp_path / "line.sqlite", sent=3, unsent=0, attempted=0)
    outbox = Outbox(tmp_path / "line.sqlite")
    assert outbox.counts() == {"seq": 3, "waiting": 0, "dropped": 7}
    assert outbox.unsent(0, 9) == []
    outbox.close()


def test_the_size_bound_takes_acknowledged_records_first_whatever_their_number(
    outbox: Outbox,
) -> None:
    for _ in range(10):
        outbox.commit(fields)
    outbox.unsent(0, 10)
    assert outbox.retain(LIMIT_S, 10) == 0
    outbox.mark_sent([1, 4, 5, 9])
    assert outbox.retain(LIMIT_S, 8) == 0
    assert left_in(outbox) == [2, 3, 5, 6, 7, 8, 9, 10]
    outbox.mark_sent([2])
    assert outbox.retain(LIMIT_S, 4) == 1, "3 was never acknowledged"
    assert left_in(outbox) == [6, 7, 8, 10]
    assert outbox.counts() == {"seq": 10, "waiting": 4, "dropped": 1}


def test_the_bound_of_bytes_shrinks_the_file_in_steps_between_which_parts_are_committed(
    outbox: Outbox, tmp_path: Path
) -> None:
    for _ in range(60):
        outbox.commit(lambda seq: {**fields(seq), "ballast": "x" * 50_000})
    outbox.mark_sent(list(range(1, 51)))
    outbox.checkpoint()
    assert (tmp_path / "line.sqlite").stat().st_size > 2_800_000
    for _ in outbox.retain_in_steps(LIMIT_S, max_bytes=1_000_000):
        outbox.commit(fields)
    outbox.checkpoint()
    assert (tmp_path / "line.sqlite").stat().st_size <= 1_000_000
    assert outbox.counts()["dropped"] == 0, "what was acknowledged made room enough"
    assert len(outbox.unsent(0, 1000)) == outbox.counts()["waiting"]


def test_counts_are_right_after_a_restart_without_a_goodbye(
    tmp_path: Path, machine: Machine
) -> None:
    first = Outbox(tmp_path / "line.sqlite")
    for _ in range(20):
        first.commit(fields)
    first.mark_sent([1, 2, 3, 7])
    again = Outbox(tmp_path / "line.sqlite")
    assert again.counts() == first.counts() == {"seq": 20, "waiting": 16, "dropped": 0}
    again.mark_sent([seq for seq in range(1, 21) if seq not in (1, 2, 3, 7)])
    assert again.counts()["waiting"] == 0
    first.close()
    again.close()


def test_a_long_backlog_is_not_counted_one_by_one(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.line.tables.COUNT_LIMIT", 10)
    first = Outbox(tmp_path / "line.sqlite")
    for _ in range(30):
        first.commit(fields)
    first.mark_sent([1, 2])
    first.probe()
    first.commit(fields)
    again = Outbox(tmp_path / "line.sqlite")
    assert again.counts()["waiting"] == 29
    first.close()
    again.close()
