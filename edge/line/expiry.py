"""Retention of the records: deletes those that are too old, then those beyond the bounds of number
and size, in steps so small that a commit can wait for one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from edge.clock import PoweredClock, age_s
from edge.database import Database
from edge.line.tables import Counters, stamp_of

STEP_RECORDS = 500  # deleted, or looked at, in one transaction
STEP_LEAST = 3  # fewer records might empty no page
STEP_PAGES = 500  # given back to the file system in one transaction
STEP_S = 0.01  # or fewer, if they take that long
LAST_NUMBER = (1 << 63) - 1  # of an SQLite row
UNDELIVERED = "(sent_at IS NULL OR seq > ?)"  # to MQTT, or to a consumer with a cursor


class Expiry:
    """Deletes records of one outbox. For one thread at a time, but for `has_sent`."""

    def __init__(
        self,
        database: Database,
        counters: Counters,
        cursors: Mapping[str, int],
        clock: PoweredClock,
    ) -> None:
        """cursors: of the consumers beside MQTT, by name: each was given every record up to there.

        They change, as the counters do, under the database's lock `writing`.
        """
        self._database, self._counters, self._clock = database, counters, clock
        self._cursors = cursors
        self._unsent_through = 0  # no delivered record has a number up to this one

    def has_sent(self, seq: int) -> None:
        """Records from this number on may have been delivered meanwhile."""
        self._unsent_through = min(self._unsent_through, seq - 1)

    def steps(
        self, max_age_s: float, max_records: int | None, max_bytes: int | None
    ) -> Iterator[int]:
        """One transaction after the other; yields how many unsent records each has dropped."""
        yield from self._expire(max_age_s)
        if max_records is not None:
            yield from self._reduce(self._count(max_records) - max_records)
        while max_bytes is not None and (excess := self._used_bytes() - max_bytes) > 0:
            before = self._used_bytes()
            one = max(1, before // max(1, self._span()))
            yield from self._reduce(min(STEP_RECORDS, STEP_LEAST + excess // one))
            if self._used_bytes() >= before:
                break
        if max_bytes is not None:
            yield from self._shrink(max_bytes)

    def _expire(self, max_age_s: float) -> Iterator[int]:
        """Powered-on seconds grow with the numbers, so that the first record that is too young for
        them ends it.
        """
        after, now = 0, self._clock.now()
        while True:
            rows = self._database.connection().execute(
                f"SELECT seq, {UNDELIVERED}, powered_s, committed_at, synced"
                " FROM records WHERE seq > ? ORDER BY seq LIMIT ?",
                (self._delivered_through(), after, STEP_RECORDS),
            ).fetchall()  # fmt: skip
            stamps = [stamp_of(row[2:], self._clock) for row in rows]
            old = [
                row[:2]
                for row, kept in zip(rows, stamps, strict=True)
                if age_s(kept, now) > max_age_s
            ]
            if old:
                yield self._delete(old, expired_through=old[-1][0])
            if len(rows) < STEP_RECORDS or now.powered_s - stamps[-1].powered_s <= max_age_s:
                return
            after = rows[-1][0]

    def _reduce(self, records: int) -> Iterator[int]:
        """Delete this many records: delivered ones, then the others."""
        while records > 0 and (
            rows := self._next_sent(min(records, STEP_RECORDS)) or self._lowest(records)
        ):
            records -= len(rows)
            yield self._delete(rows)

    def _next_sent(self, limit: int) -> list[tuple[int, int]]:
        """The lowest records that every consumer was given.

        What was found to have none is not looked at again.
        """
        while True:
            with self._database.writing:  # so that nothing is acknowledged below while this looks
                rows = (
                    self._database.connection()
                    .execute(
                        f"SELECT seq, {UNDELIVERED} FROM records WHERE seq > ? ORDER BY seq"
                        " LIMIT ?",
                        (self._delivered_through(), self._unsent_through, STEP_RECORDS),
                    )
                    .fetchall()
                )
                found = [row for row in rows if not row[1]][:limit]
                if found or not rows:
                    return found
                self._unsent_through = rows[-1][0]

    def _lowest(self, limit: int) -> list[tuple[int, int]]:
        return (
            self._database.connection()
            .execute(
                f"SELECT seq, {UNDELIVERED} FROM records ORDER BY seq LIMIT ?",
                (self._delivered_through(), min(limit, STEP_RECORDS)),
            )
            .fetchall()
        )

    def _delete(self, rows: list[tuple[int, int]], expired_through: int = 0) -> int:
        """(seq, whether it looked undelivered) each; returns how many undelivered ones are gone."""
        counters = self._counters
        with self._database.writing:
            with self._database.transaction(durable=False) as connection:
                seqs = [(seq,) for seq, _ in rows]
                lost = [self._look(connection, seq) for seq, undelivered in rows if undelivered]
                dropped = sum(undelivered for _, undelivered in lost)
                connection.executemany("DELETE FROM records WHERE seq = ?", seqs)
                left = replace(
                    counters,
                    waiting=counters.waiting - sum(unsent for unsent, _ in lost),
                    dropped=counters.dropped + dropped,
                    expired_through=max(counters.expired_through, expired_through),
                )
                left.write(connection)
            counters.waiting, counters.dropped = left.waiting, left.dropped
            counters.expired_through = left.expired_through
        return dropped

    def _look(self, connection: sqlite3.Connection, seq: int) -> tuple[int, int]:
        """(unsent over MQTT, undelivered to some consumer) of one record, 0 or 1 each."""
        row: tuple[int, int] | None = connection.execute(
            f"SELECT sent_at IS NULL, {UNDELIVERED} FROM records WHERE seq = ?",
            (self._delivered_through(), seq),
        ).fetchone()
        return row or (0, 0)

    def _delivered_through(self) -> int:
        """Every consumer beside MQTT was given the records up to this number."""
        with self._database.writing:
            return min(self._cursors.values(), default=LAST_NUMBER)

    def _shrink(self, max_bytes: int) -> Iterator[int]:
        """Return free pages to the file system while the file is larger than max_bytes."""
        while (free := self._ask("freelist_count")) and self._ask("page_count") * self._ask(
            "page_size"
        ) > max_bytes:
            with self._database.transaction(durable=False) as connection:
                # One page each: Python's sqlite3 takes only the first step of a statement without
                # rows. A page in use is moved, for which SQLite looks through its list of free
                # ones.
                end_s = time.monotonic() + STEP_S
                for _ in range(min(free, STEP_PAGES)):
                    connection.execute("PRAGMA incremental_vacuum(1)")
                    if time.monotonic() > end_s:
                        break
            yield 0
            # a file of an older version does not shrink: its free pages are used again
            if self._ask("freelist_count") >= free:
                return

    def _count(self, bound: int) -> int:
        """How many records there are, counted only if the span of their numbers exceeds the bound;
        else that span.
        """
        span = self._span()
        if span <= bound:
            return span
        return int(
            self._database.connection().execute("SELECT count(*) FROM records").fetchone()[0]
        )

    def _span(self) -> int:
        """From the lowest to the highest number, both counted."""
        # min and max in one SELECT would scan the table
        ends = "SELECT (SELECT min(seq) FROM records), (SELECT max(seq) FROM records)"
        first, last = self._database.connection().execute(ends).fetchone()
        return 0 if first is None else int(last - first + 1)

    def _used_bytes(self) -> int:
        return (self._ask("page_count") - self._ask("freelist_count")) * self._ask("page_size")

    def _ask(self, pragma: str) -> int:
        return int(self._database.connection().execute(f"PRAGMA {pragma}").fetchone()[0])
