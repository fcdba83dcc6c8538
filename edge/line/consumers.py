"""Further readers of the outbox: every dialect but MQTT has a cursor of its own.

MQTT may acknowledge records in any order, so `records` has a mark for each of them
(edge/line/outbox.py). Another consumer acknowledges in the order of the numbers: one row in the
table `consumers` tells up to which number it was given every record. That table is made with the
first such consumer, so that the file of a station with MQTT alone stays as it is.

The cursor is written without a sync of its own. If a power cut undoes it, records are sent again;
so every record that an earlier process has left counts as a replay.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable

from edge.database import Database
from edge.line.expiry import Expiry
from edge.line.tables import Counters, Unwritten, Waiting, read_fields

log = logging.getLogger(__name__)

TABLE = "CREATE TABLE IF NOT EXISTS consumers (name TEXT PRIMARY KEY, through INTEGER NOT NULL)"


def read_cursors(connection: sqlite3.Connection) -> dict[str, int]:
    """The registered consumers, and up to which number each was given every record."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'consumers'").fetchone():
        return {}
    return dict(connection.execute("SELECT name, through FROM consumers"))


def write_cursor(connection: sqlite3.Connection, name: str, through: int) -> None:
    """Register the consumer there, or move its cursor there."""
    connection.execute(
        "INSERT INTO consumers VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET through ="
        " excluded.through",
        (name, through),
    )


class Consumer:
    """One registered consumer; made by Outbox.consumer. For one thread at a time."""

    def __init__(
        self,
        name: str,
        database: Database,
        cursors: dict[str, int],
        counters: Counters,
        unwritten: list[Unwritten],
        expiry: Expiry,
        end: Callable[[], int],
    ) -> None:
        """cursors, counters, unwritten: the outbox's own, which change under `database.writing`.

        end: the lowest number that may still change, and is not to be handed over.
        """
        self._end = end
        self.name = name
        self._database, self._expiry = database, expiry
        self._cursors, self._counters, self._unwritten = cursors, counters, unwritten
        self._handed_through = counters.seq  # by an earlier call, or perhaps by an earlier process
        self._damaged: set[int] = set()  # logged already

    @property
    def waiting(self) -> int:
        """At most how many records it has not acknowledged; those that retention has dropped count
        until a later one is acknowledged.
        """
        return self._counters.seq - self._cursors[self.name]

    def unsent(self, after: int, limit: int) -> list[Waiting]:
        """At most `limit` records with a number above `after` that it has not acknowledged, lowest
        first.

        `replay` is True for those that an earlier call, in this process or in one before it, may
        have returned. A row that is damaged is logged and left out.

        Raises: StorageError.
        """
        while True:
            rows = self._rows(after, limit)
            found = [
                Waiting(seq, fields, seq <= self._handed_through)
                for seq, text in rows
                if (fields := read_fields(text)) is not None
            ]
            self._tell_damaged({seq for seq, _ in rows} - {one.seq for one in found})
            if found or not rows or after > self._cursors[self.name]:
                break
            self.mark_sent_through(rows[-1][0])  # all damaged: those behind them must leave
        self._handed_through = max([self._handed_through, *(one.seq for one in found)])
        return found

    def mark_sent_through(self, seq: int) -> None:
        """Note that it was given every record up to this number, which a power cut may undo.

        Raises: StorageError.
        """
        with self._database.errors("mark in"), self._database.writing:
            before = self._cursors[self.name]
            if seq <= before:
                return
            with self._database.transaction(durable=False) as connection:
                write_cursor(connection, self.name, seq)
            self._cursors[self.name] = seq
            self._expiry.has_sent(before + 1)

    def _rows(self, after: int, limit: int) -> list[tuple[int, str]]:
        """(seq, text) of the next records in the table, lowest first."""
        with self._database.writing:
            first = max(after, self._cursors[self.name]) + 1
            # a record whose verdict was published, and that waits for the disk, may still replace
            # the row of its number
            end = self._unwritten[0].seq if self._unwritten else self._counters.seq + 1
            end = min(end, self._end())
        with self._database.errors("read"):
            return (
                self._database.connection()
                .execute(
                    "SELECT seq, fields FROM records WHERE seq >= ? AND seq < ? ORDER BY seq"
                    " LIMIT ?",
                    (first, end, limit),
                )
                .fetchall()
            )

    def _tell_damaged(self, seqs: set[int]) -> None:
        if new := sorted(seqs - self._damaged):
            self._damaged.update(new)
            log.error(
                "records %s in %s are damaged and cannot be sent to %s",
                new,
                self._database.path,
                self.name,
            )
