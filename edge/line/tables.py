"""Tables of line.sqlite that belong to the outbox (the audit table in the same file is
edge/station/audit.py's).

records   seq, the record as JSON without `replay`, when it was committed (wall clock, whether that
          was synchronized, and powered-on seconds; null before these were counted), whether it may
          have been handed to the broker (`attempted`), when the broker acknowledged it (`sent_at`)
counters  `seq`, a number that was given out; `sent_through`, up to which nothing is unsent;
          `waiting`, how many records are unsent; `dropped`, how many unsent ones were lost;
          `expired_through`, the highest number that was deleted for its age. All as of the last
          time they were written: at the end, by a probe, and with each deletion
"""

from __future__ import annotations

import json
import logging
import math
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any

from edge.clock import PoweredClock, Stamp
from edge.line.reserve import Reserve

log = logging.getLogger(__name__)

RECORDS = """CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, fields TEXT NOT NULL, committed_at REAL NOT NULL,
    attempted INTEGER NOT NULL DEFAULT 0, sent_at REAL, powered_s REAL,
    synced INTEGER NOT NULL DEFAULT 0)"""
COUNTERS = "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)"
# Columns that older files do not have yet.
ADDED = {"powered_s": "REAL", "synced": "INTEGER NOT NULL DEFAULT 0"}
COUNT_LIMIT = 20_000  # records that may be unsent and are counted one by one at the start


@dataclass(frozen=True)
class Waiting:
    """A record that a consumer has not acknowledged. replay: it may already have arrived once."""

    seq: int
    fields: dict[str, Any]
    replay: bool


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
    """The counters of the table, in memory. Changed under the database's lock `writing`."""

    seq: int
    sent_through: int
    waiting: int
    dropped: int
    expired_through: int = 0

    def write(self, connection: sqlite3.Connection) -> None:
        """Into the table.

        `written` differs each time: SQLite writes no page whose bytes stay the same.
        """
        rows = {**vars(self), "written": time.monotonic_ns()}
        connection.executemany(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value ="
            " excluded.value",
            list(rows.items()),
        )

    def after_sent(self, connection: sqlite3.Connection, marked: int) -> tuple[int, int]:
        """(sent_through, waiting) once `marked` more records are acknowledged, as the transaction
        sees the table.
        """
        lowest = connection.execute(
            "SELECT seq FROM records WHERE seq > ? AND sent_at IS NULL ORDER BY seq LIMIT 1",
            (self.sent_through,),
        ).fetchone()
        if lowest is not None:
            return lowest[0] - 1, max(1, self.waiting - marked)
        return _last_row(connection, self.sent_through), 0


def prepare(
    connection: sqlite3.Connection, reserve: Reserve, clock: PoweredClock
) -> tuple[Counters, list[Unwritten]]:
    """Make the tables, or bring older ones up to date; inside a transaction.

    Nothing is written to tables that are as they should be, so that a station also starts while its
    disk is full.

    Returns: the counters, and the records in `reserve` that the table lacks or has with another
    content.
    """
    connection.execute(RECORDS)
    connection.execute(COUNTERS)
    columns = {row[1] for row in connection.execute("PRAGMA table_info(records)")}
    for name in ADDED.keys() - columns:
        connection.execute(f"ALTER TABLE records ADD COLUMN {name} {ADDED[name]}")
    newest = connection.execute(
        "SELECT powered_s FROM records ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    clock.advance_to((newest and newest[0]) or 0.0)
    counters = _counted(connection)
    known = max(counters.seq, _last_row(connection, 0))
    unwritten = _not_taken(connection, reserve, counters)
    lost = max(0, reserve.number - known) - sum(one.seq > known for one in unwritten)
    if lost:
        log.error(
            "%d records of published verdicts were lost with the process that kept them while the"
            " disk was full",
            lost,
        )
    counters.seq, counters.dropped = max(known, reserve.number), counters.dropped + lost
    return counters, unwritten


def insert(connection: sqlite3.Connection, rows: Iterable[Unwritten], attempted: bool) -> None:
    """Insert or replace: a commit that failed on its last sync may be on disk all the same; the
    record of the published verdict replaces it.
    """
    connection.executemany(
        "INSERT OR REPLACE INTO records (seq, fields, committed_at, attempted, powered_s, synced)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                one.seq,
                _text_of(one.fields),
                one.kept.wall_s,
                attempted,
                one.kept.powered_s,
                one.kept.synced,
            )
            for one in rows
        ],
    )


def replace_fields(connection: sqlite3.Connection, fields: dict[str, Any]) -> None:
    """Another content for the record of this number."""
    connection.execute(
        "UPDATE records SET fields = ? WHERE seq = ?", (_text_of(fields), fields["seq"])
    )


LONG_AGO = Stamp(-math.inf, 0.0, synced=False)  # older than any bound


def stamp_of(row: tuple[float | None, float, int], clock: PoweredClock) -> Stamp:
    """From powered_s, committed_at and synced. A record without powered-on seconds gets those at
    which counting began.
    """
    powered_s, committed_at, synced = row
    return Stamp(clock.began_s if powered_s is None else powered_s, committed_at, bool(synced))


def read_fields(text: str) -> dict[str, Any] | None:
    """A record from the text of its row; None if that is damaged."""
    try:
        fields = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _text_of(fields: dict[str, Any]) -> str:
    return json.dumps(fields, allow_nan=False, separators=(",", ":"))


def _last_row(connection: sqlite3.Connection, otherwise: int) -> int:
    last = connection.execute("SELECT max(seq) FROM records").fetchone()[0]
    return otherwise if last is None else int(last)


def _counted(connection: sqlite3.Connection) -> Counters:
    """The unsent records are counted one by one unless that may take long; then the stored count is
    used, plus what came after it.
    """
    told = dict(connection.execute("SELECT name, value FROM counters"))
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records_unsent'").fetchone():
        return _replace_index(connection, told)
    counters = Counters(
        **{field.name: told.get(field.name, 0) for field in dataclass_fields(Counters)}
    )
    is_short = _last_row(connection, 0) - counters.sent_through <= COUNT_LIMIT
    after = counters.sent_through if is_short else counters.seq
    later = connection.execute(
        "SELECT count(*) FROM records WHERE seq > ? AND sent_at IS NULL", (after,)
    ).fetchone()[0]
    counters.waiting = later + (0 if is_short else counters.waiting)
    return counters


def _replace_index(connection: sqlite3.Connection, told: dict[str, int]) -> Counters:
    """Replace the index of unsent records that older files have: it cost a page with each
    record.
    """
    waiting, lowest = connection.execute(
        "SELECT count(*), min(seq) FROM records WHERE sent_at IS NULL"
    ).fetchone()
    connection.execute("DROP INDEX records_unsent")
    last = _last_row(connection, 0)
    through = last if lowest is None else lowest - 1
    counters = Counters(max(told.get("seq", 0), last), through, waiting, told.get("dropped", 0))
    counters.write(connection)
    return counters


def _not_taken(
    connection: sqlite3.Connection, reserve: Reserve, counters: Counters
) -> list[Unwritten]:
    """The records in the reserve that are still to be written: a row of the same number with
    another content is replaced.
    """
    found = []
    for one in map(Unwritten.from_json, reserve.records()):
        row = connection.execute(
            "SELECT fields, sent_at IS NULL FROM records WHERE seq = ?", (one.seq,)
        ).fetchone()
        if row is not None and row[0] == _text_of(one.fields):
            continue
        counters.sent_through = min(counters.sent_through, one.seq - 1)
        counters.waiting -= 0 if row is None else row[1]
        found.append(one)
    return found
