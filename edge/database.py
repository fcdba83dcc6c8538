"""line.sqlite, opened the same way by everything that writes to it: WAL, synchronous FULL."""

from __future__ import annotations

import logging
import os
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
LOG_LIMIT_BYTES = 8 << 20  # a write-ahead log that grew larger is cut back to this
CHECKPOINT_PAGES = 4000  # a fallback: housekeeping moves the log into the database much earlier
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
    "no such function": "Install SQLite 3.38 or later, or one that was built with JSON",
    "interrupted": "Look at its tables and triggers: some are not as `edge` makes them",
    "locked": "Wait until the other process has finished, or stop it first",
}
# Errors after which the connection is kept. After any other it is replaced, because a connection
# that was opened while the disk failed stays read-only for its life. A full disk: closing could
# give up the space that the log already has. A file that was moved away: closing would remove the
# log that now lies in its place.
PASSING = ("locked", "full", "moved away")


def remedy_for(error: sqlite3.Error | OSError) -> str:
    """What to do about a database that cannot be used, as a sentence without its full stop."""
    return next(
        (remedy for words, remedy in REMEDIES.items() if words in str(error)),
        "Free space or repair the disk",
    )


def make_empty(path: Path) -> None:
    """Make an empty file, which is an empty database, unless there is a file: so its mode does not
    depend on the umask. Raises: OSError.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)


def open_database(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode, for any thread, one at a time; a commit is on disk.

    SQLite does not wait for another connection that switches a new file to WAL: it answers "locked"
    at once, whatever the timeout. This step is therefore repeated here.

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
    """Switch to WAL. An empty file also gets its page size and the right to shrink, which SQLite
    fixes with the first page.
    """
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()


class Database:
    """One file, a connection for each thread, and one writer at a time. After an error a thread
    gets a new connection.

    The writers of this process take turns by the lock `writing`. SQLite's own waiting retries at
    growing intervals, so that the commit of a part could starve beside a thread that deletes a
    million rows. Code that keeps counts in memory about the rows takes `writing` around the
    transaction and the change of its counts.
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
        """This thread's connection, opened at the first call.

        Raises: sqlite3.Error if that fails; OSError if the file was moved away or replaced since it
            was first opened: data written to a file without a name would be lost with the process.
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
        """All or nothing; on disk when the block ends.

        durable False: a power cut may undo it, killing the process does not.
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
        """Turn errors of SQLite and the disk into a StorageError: what failed, why, what to do."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            if not any(words in str(error) for words in PASSING):
                self._forget()
            raise StorageError(f"cannot {act} {self.path}: {error}. {remedy_for(error)}") from error

    def close(self) -> None:
        """Close the connections of all threads, which may not be used afterwards."""
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
        with suppress(sqlite3.Error):  # it is closed because it fails
            connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None without a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
