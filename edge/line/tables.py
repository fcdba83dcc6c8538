"""Tables of line.sqlite that belong to the outbox (the audit table in the same file is edge/bundle/audit.py's).

    records   seq, the record as JSON without `replay`, when it was committed (wall clock, whether that was
              synchronized, and powered-on seconds; null before these were counted), whether it may have been handed to
              the broker (`attempted`), when the broker acknowledged it (`sent_at`)
    counters  `seq`, a number that was given out; `sent_through`, up to which nothing is unsent; `waiting`, how many
              records are unsent; `dropped`, how many unsent ones were lost. All as of the last time they were written:
              at the end, by a probe, and with each deletion
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from edge.line.reserve import Reserve
from edge.runtime.clock import PoweredClock, Stamp

log = logging.getLogger(__name__)

RECORDS = """CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, fields TEXT NOT NULL, committed_at REAL NOT NULL,
    attempted INTEGER NOT NULL DEFAULT 0, sent_at REAL, powered_s REAL, synced INTEGER NOT NULL DEFAULT 0)"""
COUNTERS = "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
ADDED = {"powered_s": "REAL", "synced": "INTEGER NOT NULL DEFAULT 0"}   # columns that older stations do not have yet
COUNT_LIMIT = 20_000            # records that may be unsent and are counted one by one at the start


@dataclass(frozen=True)
class Unwritten:
    """A record on its way into the table."""

    seq: int
    fields: dict[str, Any]
    kept: Stamp

    def as_json(self) -> list[Any]:
        """For edge.line.reserve."""
        return [self.seq, self.fields, self.kept.powered_s, self.kept.wall_s, self.kept.synced]

    @classmethod
    def from_json(cls, value: list[Any]) -> Unwritten:
        """What `as_json` gave."""
        return cls(value[0], value[1], Stamp(*value[2:]))


@dataclass
class Counters:
    """What the outbox knows without reading: see the table. Changed under the database's lock `writing`."""

    seq: int
    sent_through: int
    waiting: int
    dropped: int

    def write(self, connection: sqlite3.Connection) -> None:
        """Into the table. `written` differs each time: SQLite writes no page whose bytes stay the same."""
        rows = {**vars(self), "written": time.monotonic_ns()}
        connection.executemany(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            list(rows.items()),
        )

    def after_sent(self, connection: sqlite3.Connection, marked: int) -> tuple[int, int]:
        """(sent_through, waiting) once `marked` more records are acknowledged, as the transaction sees the table."""
        lowest = connection.execute(
            "SELECT seq FROM records WHERE seq > ? AND sent_at IS NULL ORDER BY seq LIMIT 1", (self.sent_through,)
        ).fetchone()
        if lowest is not None:
            return lowest[0] - 1, max(1, self.waiting - marked)
        return _last_row(connection, self.sent_through), 0


def prepare(connection: sqlite3.Connection, reserve: Reserve, clock: PoweredClock) -> Counters:
    """Make the tables, or bring older ones up to date, and take over what waits in `reserve`; inside a transaction."""
    connection.execute(RECORDS)
    connection.execute(COUNTERS)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(records)")}
    for name in ADDED.keys() - columns:
        connection.execute(f"ALTER TABLE records ADD COLUMN {name} {ADDED[name]}")
    told = dict(connection.execute("SELECT name, value FROM counters"))
    newest = connection.execute("SELECT powered_s FROM records ORDER BY seq DESC LIMIT 1").fetchone()
    clock.advance_to((newest and newest[0]) or 0.0)
    counters = _counted(connection, told)
    known = max(counters.seq, _last_row(connection, 0))
    counters.waiting += _take_over(connection, reserve, counters)
    counters.seq = max(known, reserve.number)
    lost = counters.seq - max(known, _last_row(connection, 0))
    if lost:
        log.error("%d records were told and lost with the process that kept them for a full disk", lost)
    counters.dropped += lost
    counters.write(connection)
    return counters


def insert(connection: sqlite3.Connection, rows: Iterable[Unwritten], attempted: bool) -> None:
    """REPLACE: a commit that failed on its last sync may be on disk all the same; what was published counts."""
    connection.executemany(
        "INSERT OR REPLACE INTO records (seq, fields, committed_at, attempted, powered_s, synced)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(one.seq, _text_of(one.fields), one.kept.wall_s, attempted, one.kept.powered_s, one.kept.synced)
         for one in rows],
    )  # fmt: skip


def stamp_of(row: tuple[float | None, float, int], clock: PoweredClock) -> Stamp:
    """From powered_s, committed_at and synced: a record without powered-on seconds is as old as their count."""
    powered_s, committed_at, synced = row
    return Stamp(clock.began_s if powered_s is None else powered_s, committed_at, bool(synced))


def _text_of(fields: dict[str, Any]) -> str:
    return json.dumps(fields, allow_nan=False, separators=(",", ":"))


def _last_row(connection: sqlite3.Connection, otherwise: int) -> int:
    last = connection.execute("SELECT max(seq) FROM records").fetchone()[0]
    return otherwise if last is None else int(last)


def _counted(connection: sqlite3.Connection, told: dict[str, int]) -> Counters:
    """What is unsent: counted one by one unless that may take long, then as it was told plus what came after."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records_unsent'").fetchone():
        told = _replace_index(connection, told)
    counters = Counters(told.get("seq", 0), told.get("sent_through", 0), told.get("waiting", 0), told.get("dropped", 0))
    is_short = _last_row(connection, 0) - counters.sent_through <= COUNT_LIMIT
    after = counters.sent_through if is_short or "waiting" not in told else counters.seq
    later = connection.execute("SELECT count(*) FROM records WHERE seq > ? AND sent_at IS NULL", (after,)).fetchone()[0]
    counters.waiting = later + (counters.waiting if after > counters.sent_through else 0)
    return counters


def _replace_index(connection: sqlite3.Connection, told: dict[str, int]) -> dict[str, int]:
    """Older stations had an index of what is unsent, which cost a page with each record."""
    waiting, lowest = connection.execute("SELECT count(*), min(seq) FROM records WHERE sent_at IS NULL").fetchone()
    connection.execute("DROP INDEX records_unsent")
    last = _last_row(connection, 0)
    through = last if lowest is None else lowest - 1
    return {**told, "seq": max(told.get("seq", 0), last), "sent_through": through, "waiting": waiting}


def _take_over(connection: sqlite3.Connection, reserve: Reserve, counters: Counters) -> int:
    """Records that the table does not have as they were told; returns how many more are unsent."""
    added = 0
    for one in map(Unwritten.from_json, reserve.records()):
        row = connection.execute("SELECT fields FROM records WHERE seq = ?", (one.seq,)).fetchone()
        if row is not None and row[0] == _text_of(one.fields):
            continue
        insert(connection, [one], attempted=False)
        counters.sent_through = min(counters.sent_through, one.seq - 1)
        added += row is None
    return added
