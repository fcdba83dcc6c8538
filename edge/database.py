"""line.sqlite, opened the same way by everyone who writes to it: WAL, synchronous FULL."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

RETRY_S = 0.005
REMEDIES = {        # by what SQLite or the operating system says
    "readonly": "Mount its disk writable, or use the account that it belongs to",
    "Read-only": "Mount its disk writable",
    "Permission": "Use the account that it belongs to",
    "unable to open": "Check that it is a file, its folder is there and this account may write both",
    "not a database": "Move the file away and keep it, a new one is made",
    "malformed": "Move the file away and keep it, a new one is made",
    "locked": "Wait until the other process has finished, or stop it first",
}


def remedy_for(error: sqlite3.Error | OSError) -> str:
    """What to do about a database that cannot be used, as a sentence without its full stop."""
    return next((remedy for words, remedy in REMEDIES.items() if words in str(error)), "Free space or repair the disk")


def open_database(path: Path, busy_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode that any thread may use, one at a time; committed means on disk.

    The switch of a new file to WAL is the one step for which SQLite does not wait (it answers "locked" at once when
    another connection is at it, whatever the timeout), so that it is tried again here.

    Args:
        busy_s: how long a statement waits for another writer.
    Raises: sqlite3.Error if the file cannot be opened, is not a database, or stays locked for busy_s.
    """
    deadline = time.monotonic() + busy_s
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchall()
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
