"""line.sqlite, opened the same way by everyone who writes to it: WAL, synchronous FULL."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.errors import StorageError

log = logging.getLogger(__name__)

RETRY_S = 0.005
PAGE_BYTES = 1024  # about one record: a commit writes whole pages, and larger ones wear the disk
LOG_LIMIT_BYTES = 8 << 20  # a write-ahead log that had to grow beyond is cut back to this
CHECKPOINT_PAGES = 4000  # a fallback: housekeeping moves the log into the database long before
REMEDIES = {  # by what SQLite or the operating system says
    "readonly": "Mount its disk writable, or use the account that it belongs to",
    "Read-only": "Mount its disk writable",
    "Permission": "Use the account that it belongs to",
    "unable to open": (
        "Check that it is a file, its folder is there and this account may write both"
    ),
    "not a database": "Move the file away and keep it, a new one is made",
    "malformed": "Move the file away and keep it, a new one is made",
    "moved away": "Put it back, or restart `edge run`, which makes a new one",
    "locked": "Wait until the other process has finished, or stop it first",
}
# What passes by itself. After any other error the connection is not used again: one that was opened
# while the disk failed stays read-only for its life. A full disk is no reason either: closing could
# cost the log the space it has. Nor is a file that was moved away: closing would remove the log
# that now lies in its place.
PASSING = ("locked", "full", "moved away")


def remedy_for(error: sqlite3.Error | OSError) -> str:
    """What to do about a database that cannot be used, as a sentence without its full stop."""
    return next(
        (remedy for words, remedy in REMEDIES.items() if words in str(error)),
        "Free space or repair the disk",
    )


def open_database(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, one at a time; committed means on
    disk.

    The switch of a new file to WAL is the one step for which SQLite does not wait (it answers
    "locked" at once when another connection is at it, whatever the timeout), so that it is tried
    again here.

    Args:
        busy_s: how long a statement waits for another writer.
    Raises: sqlite3.Error if the file cannot be opened, is not a database, or stays locked for
        busy_s.
    """
    deadline = time.monotonic() + busy_s
    connection = sqlite3.connect(
        path, timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        while True:
            try:
                _begin_log(connection)
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_S)
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_log(connection: sqlite3.Connection) -> None:
    """WAL; an empty file also gets its page size and may shrink (SQLite fixes both with the first
    page).
    """
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()


class Database:
    """One file, a connection for each thread, and one writer at a time. After an error a thread
    gets a new connection.

    The writers of this process wait for each other here: SQLite's own waiting asks again ever more
    seldom, so that a part's commit could starve beside a thread that deletes a million rows.
    `writing` is the lock: code that keeps numbers in memory about what is written takes it for the
    transaction and the change of the numbers together.
    """

    def __init__(self, path: Path, busy_s: float) -> None:
        """busy_s: how long a statement waits for the writer of another process.

        Nothing is opened yet.
        """
        self.path, self._busy_s = path, busy_s
        self._local = threading.local()
        self._all: set[sqlite3.Connection] = set()
        self._all_lock = threading.Lock()
        self._file: tuple[int, int] | None = None  # device and inode, once it was opened
        self.writing = threading.RLock()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, opened if it has none.

        Raises: sqlite3.Error if that fails; OSError if another file lies there than the one that
            was opened first, or none: what is written to a file without a name is lost when the
            process ends.
        """
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if self._file is not None and self._file != _identity(self.path):
            raise FileNotFoundError("it was moved away or replaced while this process has it open")
        if found is None:
            found = open_database(self.path, self._busy_s)
            found.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}").fetchall()
            found.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT_BYTES}").fetchall()
            with self._all_lock:
                self._all.add(found)
            self._file = self._file or _identity(self.path)
            self._local.connection = found
        return found

    @contextmanager
    def transaction(self, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All or nothing, on disk when it ends.

        durable False: a power cut may undo it, a killed process does not.
        """
        with self.writing:
            connection = self.connection()
            if not durable:
                connection.execute("PRAGMA synchronous = NORMAL")
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have rolled it back already
                    connection.execute("ROLLBACK")
                raise
            finally:
                if not durable:
                    connection.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def errors(self, act: str) -> Iterator[None]:
        """What SQLite or the disk refuses becomes a StorageError: cannot `act` which file, why,
        and what to do.
        """
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if not any(words in str(error) for words in PASSING):
                self._forget()
            raise StorageError(f"cannot {act} {self.path}: {error}. {remedy_for(error)}") from error

    def close(self) -> None:
        """Close the connections of every thread; nothing may be asked of them afterwards."""
        with self._all_lock:
            for connection in self._all:
                connection.close()
            self._all.clear()

    def _forget(self) -> None:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            return
        self._local.connection = None
        with self._all_lock:
            self._all.discard(connection)
        with suppress(sqlite3.Error):  # it is given up because it fails
            connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None where no file is."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
