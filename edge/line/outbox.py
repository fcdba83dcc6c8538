"""Every verdict on disk before it is on the wire: SQLite in WAL mode, synchronous FULL.

Sequence numbers are given out inside the transaction that commits the record, so they are
contiguous (but for answers without a record, while parts are shown to a calibration) and survive
every crash. When the disk is full that transaction fails, and yet the PLC
must get UNKNOWN `storage` for the part, under a number that is never given out again. Such a number
and its record go to `line.seq` (edge/line/reserve.py), which needs no free space. They are
committed, in order, with the next transaction that succeeds, in this process or a later one.

How much is written to the disk per record is bounded, because a station makes a million records and
flash memory wears: one transaction commits it, marks it as attempted where the line is about to
take it, and touches one page of the table as a rule. The acknowledgement is written without a sync
of its own: if a power cut undoes it, the record is sent again, as a replay.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.clock import PoweredClock, Stamp
from edge.database import Database
from edge.errors import StorageError
from edge.files import make_folder
from edge.line.consumers import TABLE, Consumer, read_cursors, write_cursor
from edge.line.expiry import LAST_NUMBER, Expiry
from edge.line.reserve import Reserve
from edge.line.tables import (
    LONG_AGO,
    Unwritten,
    Waiting,
    insert,
    prepare,
    read_fields,
    replace_fields,
    stamp_of,
)

log = logging.getLogger(__name__)

Fields = dict[str, Any]
# For another process that writes its audit row; if that takes longer the part is UNKNOWN.
BUSY_S = 1.0
UNWRITTEN_LIMIT = 1000  # records that wait for a full disk


class Outbox:
    """The records of one station. Thread-safe: each thread has its own connection."""

    def __init__(self, path: Path, clock: PoweredClock | None = None) -> None:
        """Open or create `path`. clock: stamps the records; by default the one in the same folder.

        Raises: StorageError if it cannot be opened, or is not a database.
        """
        self.path = path
        self.is_failing = False  # the last commit or probe did not work
        self._database = Database(path, BUSY_S)
        self._commit_lock = threading.Lock()
        self._room = 0  # how many records the line takes as soon as they are committed
        # marked as attempted at their commit, and not handed over since
        self._presumed: set[int] = set()
        # committed, and still to be settled: they and those behind them are not handed over
        self._open: set[int] = set()
        try:
            with self._database.errors("open"):
                make_folder(path.parent)
                self._reserve = Reserve(path.with_suffix(".seq"))
                self.clock = clock or PoweredClock(path.parent)
                with self._database.transaction() as connection:
                    self._counters, self._unwritten = prepare(connection, self._reserve, self.clock)
                    self._cursors = read_cursors(connection)
        except StorageError:
            self._database.close()
            raise
        self._expiry = Expiry(self._database, self._counters, self._cursors, self.clock)
        self.clock.persist()
        if self._reserve.holds_records or self._unwritten:
            self._take_over()

    @property
    def unwritten(self) -> int:
        """How many records of published verdicts the database has not taken yet."""
        return len(self._unwritten)

    def commit(self, build: Callable[[int], Fields]) -> Fields:
        """Give out the next number, build the record with it, and have it on disk when this
        returns.

        Args:
            build: the record's fields from its sequence number; called once, before the
                transaction.
        Raises: StorageError if the disk did not take it; call `commit_failed` for the part then.
        """
        with self._commit_lock, self._writing("commit to"):
            seq = self._counters.seq + 1
            fields = build(seq)
            presumed = self._room > 0 and not self._unwritten
            if presumed:
                self._presumed.add(seq)
            try:
                self._write([Unwritten(seq, fields, self.clock.now())], attempted=presumed)
            except BaseException:
                self._presumed.discard(seq)
                raise
            self._room -= presumed
            return fields

    def commit_failed(self, build: Callable[[int], Fields]) -> Fields:
        """A number for a part whose record the disk did not take; the record waits for the next
        commit.

        It waits in the reserved space or, where that is full, in memory; one that has no room there
        either is counted as dropped.

        Raises: StorageError if even the reserved space cannot be written: then nothing may be
            published, because the number could be given out again.
        """
        with self._commit_lock, self._database.errors("write beside"):
            seq = self._counters.seq + 1
            one = Unwritten(seq, build(seq), self.clock.now())
            has_room = len(self._unwritten) < UNWRITTEN_LIMIT
            self._reserve.write(seq, one.as_json() if has_room else None)
            self._counters.seq = seq
            if has_room:
                self._unwritten.append(one)
            else:
                self._drop(1)
            return one.fields

    def open(self, build: Callable[[int], Fields]) -> Fields:
        """As `commit`, for a record that `settle` will replace: until then neither it nor a later
        one is handed to anybody. A process that ends before leaves it as it is.

        Raises: StorageError if the disk did not take it; then the number was not given out.
        """
        with self._commit_lock, self._writing("commit to"):
            seq = self._counters.seq + 1
            fields = build(seq)
            with self._database.writing:
                self._open.add(seq)
            try:
                self._write([Unwritten(seq, fields, self.clock.now())], attempted=False)
            except BaseException:
                self._open.discard(seq)
                raise
            return fields

    def take_number(self, count: int = 1) -> int:
        """A number for an answer that has no record: it is on disk when this returns, and is never
        given out again. count: take that many, the last of which is returned.

        Raises: StorageError if the disk did not take it; then it was not given out.
        """
        counters = self._counters
        with self._commit_lock, self._writing("write to"):
            seq = counters.seq + count
            taken = replace(counters, seq=seq)
            self._write([], attempted=False, and_also=taken.write)
            counters.seq = seq
            return seq

    def settle(self, fields: Fields) -> None:
        """Have the record of `fields["seq"]`, which `open` has committed, replaced by `fields` on
        disk when this returns. `release` lets it leave.

        Raises: StorageError if the disk did not take it: the record is what it was.
        """
        database = self._database
        with (
            self._commit_lock,
            self._writing("settle in"),
            database.writing,
            database.transaction() as connection,
        ):
            replace_fields(connection, fields)

    def release(self, seq: int) -> None:
        """The record is final, as it is on disk: it may be handed over. Waits for no disk."""
        self._open.discard(seq)

    def probe(self) -> None:
        """Check that the disk takes a durable write now; commits the records that wait for the
        disk, if any.

        Raises: StorageError if it does not.
        """
        with self._commit_lock, self._writing("write to"):
            self._write([], attempted=False, and_also=self._counters.write)

    def unsent(self, after: int, limit: int) -> list[Waiting]:
        """At most `limit` records with a number above `after` that were never acknowledged, lowest
        first.

        They are marked on disk as attempted, in one transaction, before this returns. `replay` is
        True for those that an earlier call may have returned already, in this process or in one
        before it. A row that is no JSON any more (a damaged disk) is logged, counted as dropped,
        and never tried again: the records behind it must leave.
        """
        with self._database.errors("read"):
            rows = (
                self._connection()
                .execute(
                    "SELECT seq, fields, attempted FROM records WHERE seq > ? AND seq < ? AND"
                    " sent_at IS NULL ORDER BY seq LIMIT ?",
                    (max(after, self._counters.sent_through), self._end(), limit),
                )
                .fetchall()
            )
            fresh = [(seq,) for seq, _, attempted in rows if not attempted]
            if fresh:
                with self._database.transaction() as connection:
                    connection.executemany("UPDATE records SET attempted = 1 WHERE seq = ?", fresh)
            self._room = limit - len(rows)
            read = {seq: read_fields(text) for seq, text, _ in rows}
            found = [
                Waiting(seq, fields, bool(attempted) and seq not in self._presumed)
                for seq, _, attempted in rows if (fields := read[seq]) is not None
            ]  # fmt: skip
            self._presumed.difference_update(read)
        if damaged := [seq for seq, fields in read.items() if fields is None]:
            log.error(
                "records %s in %s are damaged and cannot be sent: they count as dropped",
                damaged,
                self.path,
            )
            self.mark_sent(damaged)
            self._drop(len(damaged))
        return found

    def mark_sent(self, seqs: Sequence[int]) -> None:
        """Note that the broker has acknowledged these, in one transaction, which a power cut may
        undo.
        """
        if not seqs:
            return
        counters = self._counters
        with self._database.errors("mark in"), self._database.writing:
            with self._database.transaction(durable=False) as connection:
                now_s = time.time()
                marked = connection.executemany(
                    "UPDATE records SET sent_at = ? WHERE seq = ? AND sent_at IS NULL",
                    [(now_s, seq) for seq in seqs],
                ).rowcount
                through, waiting = counters.after_sent(connection, marked)
            counters.sent_through, counters.waiting = through, waiting
            self._expiry.has_sent(min(seqs))

    def consumer(self, name: str) -> Consumer:
        """A reader beside MQTT, with a cursor of its own: no consumer delays another.

        A name that is new is registered: it is given every record from now on, and from then on
        retention counts a record as dropped that it was not given.

        Raises: StorageError if the disk does not take that.
        """
        with self._commit_lock, self._database.errors("write to"), self._database.writing:
            if name not in self._cursors:
                with self._database.transaction() as connection:
                    connection.execute(TABLE)
                    write_cursor(connection, name, self._counters.seq)
                self._cursors[name] = self._counters.seq
            return Consumer(
                name,
                self._database,
                self._cursors,
                self._counters,
                self._unwritten,
                self._expiry,
                self._end,
            )

    def forget_consumer(self, name: str) -> None:
        """The station no longer has this consumer: records are no longer kept for it.

        Raises: StorageError if the disk does not take that.
        """
        with self._database.errors("write to"), self._database.writing:
            if name in self._cursors:
                with self._database.transaction() as connection:
                    connection.execute("DELETE FROM consumers WHERE name = ?", (name,))
                lowest = self._cursors.pop(name)
                self._expiry.has_sent(lowest + 1)

    def counts(self) -> dict[str, int]:
        """For the state message: the last number, how many records MQTT has not sent, and how many
        were dropped before every consumer had them.

        Kept in memory: nothing is read, however many records there are.
        """
        counters = self._counters
        return {
            "seq": counters.seq,
            "waiting": counters.waiting + self.unwritten,
            "dropped": counters.dropped,
        }

    def retain(
        self, max_age_s: float, max_records: int | None = None, max_bytes: int | None = None
    ) -> int:
        """Remove what is beyond the bounds, all at once; returns how many unsent records that
        dropped.
        """
        return sum(self.retain_in_steps(max_age_s, max_records, max_bytes))

    def retain_in_steps(
        self, max_age_s: float, max_records: int | None = None, max_bytes: int | None = None
    ) -> Iterator[int]:
        """Remove what is beyond the bounds, oldest number first, in steps that take milliseconds
        each.

        Age removes whatever is older. The other bounds remove acknowledged records first, then
        unsent ones.

        Args:
            max_age_s: see edge.clock.age_s.
            max_records, max_bytes: how many, and how large the database file; None: no such bound.
        Yields: how many unsent records the step dropped; a commit never waits for more than one
            step.
        """
        before = self._counters.dropped
        try:
            with self._database.errors("clean"):
                yield from self._expiry.steps(max_age_s, max_records, max_bytes)
        finally:
            if dropped := self._counters.dropped - before:
                log.warning(
                    "the bound of age and size dropped %d records that were never acknowledged",
                    dropped,
                )

    def find_stamp(self, seq: int) -> Stamp | None:
        """When this record was committed; LONG_AGO if it was deleted for its age.

        For a record that is gone for another reason, the stamp of the next one that is there, never
        of an older one. None if there is no such record.
        """
        try:
            with self._database.errors("read"):
                row = (
                    self._connection()
                    .execute(
                        "SELECT seq, powered_s, committed_at, synced FROM records WHERE seq >= ?"
                        " ORDER BY seq LIMIT 1",
                        (seq,),
                    )
                    .fetchone()
                )
        except StorageError as error:
            log.warning("the age of a record is not known: %s", error)
            return None
        if (row is None or row[0] != seq) and seq <= self._counters.expired_through:
            return LONG_AGO
        return None if row is None else stamp_of(row[1:], self.clock)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database now, in a thread that may wait without
        delaying a verdict.
        """
        checkpoint = "PRAGMA wal_checkpoint(PASSIVE)"
        with self._database.errors("checkpoint"):
            self._connection().execute(checkpoint).fetchall()
            # what came meanwhile: only then the file shrinks and the log restarts
            with self._database.writing:
                self._connection().execute(checkpoint).fetchall()

    def close(self) -> None:
        """Commit the records that wait, if the disk takes them, and close every thread's
        connection. The outbox is not to be used afterwards.
        """
        try:
            with self._commit_lock, self._writing("write to"):
                self._write([], attempted=False, and_also=self._write_end)
        except StorageError as error:
            name = self.path.with_suffix(".seq").name
            log.error("%d records stay in %s for the next start: %s", self.unwritten, name, error)
        with self._database.errors("close"):
            self._database.close()
        self.clock.persist(every_s=0)

    def _connection(self) -> sqlite3.Connection:
        return self._database.connection()

    def _end(self) -> int:
        """The lowest number that is not to be handed over yet. A copy, since others may change the
        set meanwhile; a record is in it before it is in the table.
        """
        return min(tuple(self._open), default=LAST_NUMBER)

    def _drop(self, records: int) -> None:
        # retention has this lock between reading the number and setting it
        with self._database.writing:
            self._counters.dropped += records

    def _take_over(self) -> None:
        """Commit the records that an earlier process left in the reserve; while the disk is still
        full they wait.
        """
        try:
            self.probe()
        except StorageError as error:
            log.error("%d records wait: %s", self.unwritten, error)

    def _write_end(self, connection: sqlite3.Connection) -> None:
        """Remove the mark of records that were marked ahead and never handed over: they are no
        replay for the next run.
        """
        connection.executemany(
            "UPDATE records SET attempted = 0 WHERE seq = ?", [(seq,) for seq in self._presumed]
        )
        self._counters.write(connection)

    def _write(
        self,
        new: Sequence[Unwritten],
        attempted: bool,
        and_also: Callable[[sqlite3.Connection], None] = lambda _: None,
    ) -> None:
        """Commit the records that wait and then the new ones, in one transaction."""
        counters = self._counters
        with self._database.writing:
            with self._database.transaction() as connection:
                insert(connection, self._unwritten, attempted=False)
                insert(connection, new, attempted)
                and_also(connection)
            counters.seq += len(new)
            counters.waiting += len(new) + len(self._unwritten)
            self._unwritten.clear()
        self._clear_reserve()

    def _clear_reserve(self) -> None:
        """The records in the reserve are in the database now.

        If the reserve cannot be cleared now it is cleared next time: a record in it is not taken
        twice.
        """
        try:
            if self._reserve.holds_records:
                self._reserve.clear()
        except OSError as error:
            log.warning("%s cannot be cleared yet: %s", self.path.with_suffix(".seq"), error)

    @contextmanager
    def _writing(self, act: str) -> Iterator[None]:
        try:
            with self._database.errors(act):
                yield
            self.is_failing = False
        except StorageError:
            self.is_failing = True
            raise
