"""page.sqlite: who may use the page, who does, and wrong passwords. Readable for the service's
account alone; secrets are in it only as hashes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge.database import Database
from edge.errors import ConfigError
from edge.files import make_folder

DATA = Path("var/lib/edge")
FOLDER = DATA / "page"
PLACE = FOLDER / "page.sqlite"
MODE, FOLDER_MODE = 0o600, 0o700
BUSY_S = 2.0  # a statement waits this long for another process
SCHEMA = (
    # secret: "code", "password" or "token"; until_s: seconds since 1970, of a code
    """CREATE TABLE IF NOT EXISTS users (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, secret TEXT NOT NULL, salt BLOB NOT NULL,
        hash BLOB NOT NULL, until_s REAL, made_at TEXT NOT NULL) WITHOUT ROWID""",
    # key: SHA-256 of the session's id; times: seconds since the boot
    """CREATE TABLE IF NOT EXISTS sessions (
        key BLOB PRIMARY KEY, name TEXT NOT NULL, boot TEXT NOT NULL, made_s REAL NOT NULL,
        seen_s REAL NOT NULL, proved_s REAL NOT NULL) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS tries (
        name TEXT PRIMARY KEY, boot TEXT NOT NULL, wrong INTEGER NOT NULL, until_s REAL NOT NULL)
        WITHOUT ROWID""",
)


def open_vault(root: Path) -> Database:
    """The database, made now if there is none.

    Raises: ConfigError if other accounts can read it, StorageError if it cannot be used.
    """
    path = root / PLACE
    make_folder(path.parent, FOLDER_MODE)
    _make_empty(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path}: other accounts can read or change it: chmod 600 it")
    vault = Database(path, BUSY_S)
    with vault.errors("use"):
        if vault.connection().execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            with vault.transaction() as connection:
                for table in SCHEMA:
                    connection.execute(table)
    return vault


def _make_empty(path: Path) -> None:
    """An empty file is an empty database; what SQLite lays beside it takes its mode."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    except FileExistsError:
        return
    os.close(descriptor)
