"""The audit table: every act that changes what OK means, in the order it happened. Rows are only ever added.

It lives in line.sqlite beside the records (edge/line/outbox.py), so that a copy of that one file answers both questions
of a quality manager: what was decided, and under which rules.
"""

from __future__ import annotations

import getpass
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge.database import open_database, remedy_for
from edge.errors import StorageError
from edge.files import make_folder

PLACE = Path("var/lib/edge/line.sqlite")
BUSY_S = 10.0            # `edge run` holds the database for milliseconds; longer is a fault
SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, who TEXT NOT NULL, act TEXT NOT NULL, detail TEXT NOT NULL)
"""


@dataclass(frozen=True)
class AuditRow:
    """One act. at: UTC, ISO 8601 with milliseconds. detail: what it acted on, flat."""

    id: int
    at: str
    who: str
    act: str
    detail: dict[str, Any]


def now_utc() -> str:
    """The wall clock as UTC, ISO 8601, milliseconds: 2026-01-31T12:00:00.000Z."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def current_user() -> str:
    """Who runs this command: the person behind sudo where there is one, else the account, else its number."""
    if name := os.environ.get("SUDO_USER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):   # a container's uid without an entry in passwd
        return f"uid {os.getuid()}"


def append_audit(root: Path, act: str, detail: Mapping[str, Any], who: str | None = None) -> AuditRow:
    """Append one row; it is on disk when this returns.

    Raises: StorageError if the database cannot be written (disk full, permissions, not a database).
    """
    at, who = now_utc(), who or current_user()
    text = json.dumps(dict(detail), ensure_ascii=False, allow_nan=False)
    with _database(root) as connection:
        connection.execute(SCHEMA)
        insert = "INSERT INTO audit (at, who, act, detail) VALUES (?, ?, ?, ?)"
        cursor = connection.execute(insert, (at, who, act, text))
    return AuditRow(int(cursor.lastrowid or 0), at, who, act, dict(detail))


def read_audit(root: Path) -> list[AuditRow]:
    """Every row, oldest first; empty where nothing has happened yet. Raises: StorageError if it is not a database."""
    if not (root / PLACE).exists():
        return []
    with _database(root) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'audit'").fetchone()
        rows = connection.execute("SELECT id, at, who, act, detail FROM audit ORDER BY id").fetchall() if known else []
    return [AuditRow(row[0], row[1], row[2], row[3], json.loads(row[4])) for row in rows]


@contextmanager
def _database(root: Path) -> Iterator[sqlite3.Connection]:
    path = root / PLACE
    try:
        make_folder(path.parent)
        with closing(open_database(path, BUSY_S)) as connection:
            yield connection
    except (sqlite3.Error, OSError) as error:
        raise StorageError(f"cannot use the audit table in {path}: {error}. {remedy_for(error)}") from error
