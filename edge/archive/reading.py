"""The station's databases, opened to read: nothing is written, and `edge run` is not held up.

A reader of a write-ahead log keeps the log from being cut while its statement runs, so that the
statements of this package are short: edge/archive/query.py walks through the records in windows.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edge.database import remedy_for
from edge.errors import StorageError
from edge.files import is_there, sentence_of
from edge.station.audit import PLACE, database_files
from edge.station.links import require_plain

BUSY_S = 10.0  # a writer holds the database for milliseconds; longer is a fault


@contextmanager
def reading(root: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection to line.sqlite that can only read; None where there is no such file yet.

    Raises: StorageError, also for what the body reads, if it cannot be opened or is damaged.
    """
    require_plain(files=database_files(root))
    with read_only(root / PLACE) as connection:
        yield connection


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection to one database that can only read; None where there is no such file.

    Raises: StorageError, also for what the body reads, if it cannot be opened or is damaged.
    """
    if not is_there(path):
        yield None
        return
    try:
        connection, is_alone = _opened(path)
        with closing(connection):
            yield connection
        if is_alone and _has_log(path):
            raise StorageError(
                f"{path} was written to while it was read: do it again while `edge run` is at work"
            )
    except OSError as error:
        raise StorageError(f"cannot read {path}: {sentence_of(error)}") from error
    except sqlite3.Error as error:
        raise StorageError(f"cannot read {path}: {error}. {remedy_for(error)}") from error


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Whether the database has that table. Raises: sqlite3.Error."""
    asked = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(asked, (name,)).fetchone() is not None


def _opened(path: Path) -> tuple[sqlite3.Connection, bool]:
    """(the connection, whether it is blind to what others write meanwhile).

    SQLite needs an index of the log beside the database, and makes it where this account may. Where
    it may not, and nobody has the database open, the file itself is all there is.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    connection = _connected(path, "mode=ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        return connection, False
    except sqlite3.OperationalError as error:
        connection.close()
        if "unable to open" not in str(error) or _has_log(path):
            raise
    except BaseException:
        connection.close()
        raise
    return _connected(path, "immutable=1"), True


def _connected(path: Path, how: str) -> sqlite3.Connection:
    name = f"{path.absolute().as_uri()}?{how}"
    connection = sqlite3.connect(name, uri=True, timeout=BUSY_S, isolation_level=None)
    connection.text_factory = lambda data: data.decode(errors="replace")
    return connection


def _has_log(path: Path) -> bool:
    return is_there(path.with_name(f"{path.name}-wal"))
