"""Every verdict on disk before it is on the wire: SQLite in WAL mode, synchronous FULL.

Tables of line.sqlite that belong to this module (the audit table in the same file is edge/bundle/audit.py's):

    records   seq, the record as JSON without `replay`, when it was committed, whether it was ever handed to the broker
              (`attempted`), when the broker acknowledged it (`sent_at`)
    counters  `seq`, the last number given out, and `dropped`, unsent records that the bound removed

Sequence numbers are given out inside the transaction that commits the record, so they are contiguous and survive
every crash. When the disk is full that transaction fails, and yet the part must be told UNKNOWN `storage` under a
number that is never given out again. Such numbers are kept in `line.seq`, a block that is laid down when the outbox is
created and only ever overwritten in place, which needs no free space. Its records wait in memory and are committed, in
order, with the next commit that succeeds.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.database import open_database, remedy_for
from edge.errors import StorageError
from edge.files import sync_directory

log = logging.getLogger(__name__)

Fields = dict[str, Any]
SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY, fields TEXT NOT NULL, committed_at REAL NOT NULL,
    attempted INTEGER NOT NULL DEFAULT 0, sent_at REAL);
CREATE INDEX IF NOT EXISTS records_unsent ON records (seq) WHERE sent_at IS NULL;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counters VALUES ('seq', 0), ('dropped', 0);
"""
BUSY_S = 1.0                    # another process writes its audit row; longer than that and the part is UNKNOWN
BLOCK_BYTES = 4096              # one disk block: overwritten in place, never grown
UNWRITTEN_LIMIT = 1000          # parts that wait in memory for a full disk
DELETE_BATCH = 500              # rows per retention transaction: a verdict's commit never waits for more


@dataclass(frozen=True)
class Waiting:
    """A record that the broker has not acknowledged. replay: it may already have arrived once."""

    seq: int
    fields: Fields
    replay: bool


class Outbox:
    """The records of one station. Thread-safe: each thread has its own connection."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`.

        Raises: StorageError if it cannot be opened, or is not a database.
        """
        self.path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._commit_lock = threading.Lock()
        self._unwritten: list[tuple[int, Fields]] = []
        with self._as_storage_error("open"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection().executescript(SCHEMA)
            self._reserve = _ReserveBlock(path.with_suffix(".seq"))
            self._last = max(self._counter("seq"), self._reserve.read())

    def commit(self, build: Callable[[int], Fields]) -> Fields:
        """Give out the next number, build the record with it, and have it on disk when this returns.

        Args:
            build: the record's fields from its sequence number; called once, inside the transaction.
        Raises: StorageError if the disk did not take it; call `commit_failed` for the part then.
        """
        with self._commit_lock, self._as_storage_error("commit to"):
            fields = build(self._last + 1)
            with self._transaction() as connection:
                self._insert(connection, [*self._unwritten, (self._last + 1, fields)])
                connection.execute("UPDATE counters SET value = ? WHERE name = 'seq'", (self._last + 1,))
            self._last += 1
            self._unwritten.clear()
            return fields

    def commit_failed(self, build: Callable[[int], Fields]) -> Fields:
        """A number for a part whose record the disk did not take; the record waits in memory for the next commit.

        Raises: StorageError if even the reserved block cannot be written: then nothing may be published, because the
            number could be given out again.
        """
        with self._commit_lock, self._as_storage_error("write beside"):
            self._reserve.write(self._last + 1)
            self._last += 1
            fields = build(self._last)
            if len(self._unwritten) < UNWRITTEN_LIMIT:
                self._unwritten.append((self._last, fields))
            return fields

    def unsent(self, after: int, limit: int) -> list[Waiting]:
        """At most `limit` records with a number above `after` that were never acknowledged, lowest first.

        They are marked on disk as attempted, in one transaction, before this returns. `replay` is True for those that
        an earlier call had returned already, in this process or in one before it.
        """
        with self._as_storage_error("read"):
            rows = self._connection().execute(
                "SELECT seq, fields, attempted FROM records WHERE sent_at IS NULL AND seq > ? ORDER BY seq LIMIT ?",
                (after, limit),
            ).fetchall()
            fresh = [(seq,) for seq, _, attempted in rows if not attempted]
            if fresh:
                with self._transaction() as connection:
                    connection.executemany("UPDATE records SET attempted = 1 WHERE seq = ?", fresh)
            return [Waiting(seq, json.loads(fields), replay=bool(attempted)) for seq, fields, attempted in rows]

    def mark_sent(self, seqs: Sequence[int]) -> None:
        """The broker has acknowledged these: note it, in one transaction."""
        if not seqs:
            return
        with self._as_storage_error("mark in"), self._transaction() as connection:
            now_s = time.time()
            connection.executemany("UPDATE records SET sent_at = ? WHERE seq = ?", [(now_s, seq) for seq in seqs])

    def probe(self) -> None:
        """See that the disk takes a durable write now; commits the records that wait in memory, if any do.

        Raises: StorageError if it does not.
        """
        with self._commit_lock, self._as_storage_error("write to"):
            with self._transaction() as connection:
                self._insert(connection, self._unwritten)
                connection.execute("UPDATE counters SET value = ? WHERE name = 'seq'", (self._last,))
            self._unwritten.clear()

    def counts(self) -> dict[str, int]:
        """For the state message: the last number, unsent records, and unsent ones that the bound has dropped so far."""
        with self._as_storage_error("read"):
            waiting = self._connection().execute("SELECT count(*) FROM records WHERE sent_at IS NULL").fetchone()[0]
            return {"seq": self._last, "waiting": waiting + len(self._unwritten), "dropped": self._counter("dropped")}

    def retain(self, max_age_s: float, max_records: int) -> int:
        """Remove what is older or more than the bound, oldest first; returns how many unsent records that dropped."""
        dropped = 0
        with self._as_storage_error("clean"):
            while batch := self._expired(max_age_s, max_records):
                dropped += self._delete(batch)
        if dropped:
            log.warning("the bound of age and size dropped %d records that were never acknowledged", dropped)
        return dropped

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database now, from a thread whose wait no part notices."""
        with self._as_storage_error("checkpoint"):
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the connections of every thread; the outbox must not be used afterwards."""
        with self._as_storage_error("close"):
            for connection in self._connections:
                connection.close()

    def _insert(self, connection: sqlite3.Connection, rows: Sequence[tuple[int, Fields]]) -> None:
        """REPLACE: a commit that failed on its last sync may be on disk all the same; what was published counts."""
        now_s = time.time()
        connection.executemany(
            "INSERT OR REPLACE INTO records (seq, fields, committed_at) VALUES (?, ?, ?)",
            [(seq, json.dumps(row, allow_nan=False), now_s) for seq, row in rows],
        )

    def _expired(self, max_age_s: float, max_records: int) -> list[tuple[int, bool]]:
        """The oldest rows beyond the bound, at most a batch: (seq, whether it was never acknowledged)."""
        rows = self._connection().execute(
            "SELECT seq, sent_at IS NULL FROM records WHERE committed_at < ?"
            " OR seq <= (SELECT seq FROM records ORDER BY seq DESC LIMIT 1 OFFSET ?) ORDER BY seq LIMIT ?",
            (time.time() - max_age_s, max_records, DELETE_BATCH),
        ).fetchall()
        return [(seq, bool(unsent)) for seq, unsent in rows]

    def _delete(self, batch: list[tuple[int, bool]]) -> int:
        dropped = sum(unsent for _, unsent in batch)
        with self._transaction() as connection:
            connection.executemany("DELETE FROM records WHERE seq = ?", [(seq,) for seq, _ in batch])
            connection.execute("UPDATE counters SET value = value + ? WHERE name = 'dropped'", (dropped,))
        return dropped

    def _counter(self, name: str) -> int:
        row = self._connection().execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return int(row[0])

    def _connection(self) -> sqlite3.Connection:
        """This thread's connection. Opened for any thread, because close() runs in one of them for all."""
        if not hasattr(self._local, "connection"):
            connection = open_database(self.path, BUSY_S)
            self._connections.append(connection)
            connection.execute("PRAGMA wal_autocheckpoint = 4000")   # a fallback: housekeeping calls checkpoint()
            self._local.connection = connection
        found: sqlite3.Connection = self._local.connection
        return found

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:        # a full disk may have rolled it back already
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _as_storage_error(self, act: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"cannot {act} {self.path}: {error}. {remedy_for(error)}") from error


class _ReserveBlock:
    """One number in a preallocated disk block that is overwritten in place, so that a full disk still takes it."""

    def __init__(self, path: Path) -> None:
        created = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if created or os.fstat(self._descriptor).st_size < BLOCK_BYTES:
            self.write(0)
            sync_directory(path.parent)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self) -> int:
        """The last number written; 0 if none was. The digits are written twice: torn bytes do not agree."""
        first, second, *_ = [*os.pread(self._descriptor, BLOCK_BYTES, 0).split(), b"0", b"0"]
        return int(first) if first == second and first.isdigit() else 0

    def write(self, number: int) -> None:
        block = f"{number}\n{number}\n".encode().ljust(BLOCK_BYTES, b" ")
        os.pwrite(self._descriptor, block, 0)
        os.fsync(self._descriptor)
