"""The audit table: every act that changes what OK means, in the order it happened. Rows are only
ever added.

It lives in line.sqlite beside the records (edge/line/outbox.py), so that a copy of that one file
answers both questions of a quality manager: what was decided, and under which rules.
"""

from __future__ import annotations

import json
import pwd
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge.database import make_empty, open_database, remedy_for
from edge.errors import StorageError
from edge.files import is_there, make_folder, sentence_of
from edge.schema import parse_json
from edge.station.account import acting_for, real_uid
from edge.station.links import require_plain

PLACE = Path("var/lib/edge/line.sqlite")
LOGIN_UID = Path("/proc/self/loginuid")
NO_LOGIN = 0xFFFFFFFF  # a service, or a kernel without audit
BUSY_S = 10.0  # `edge run` holds the database for milliseconds; longer is a fault
# For one row: the database is the account's, who may have added triggers that never end.
WORK_S, STEPS = 30.0, 100_000  # steps of SQLite between two looks at the clock
SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, who TEXT NOT NULL, act TEXT NOT NULL,
    detail TEXT NOT NULL)
"""


@dataclass(frozen=True)
class AuditRow:
    """One act. at: UTC, ISO 8601 with milliseconds. detail: what it acted on, one level deep.

    The database belongs to the service's account: what a row says is text, and checked before
    anything follows from it.
    """

    id: int
    at: str
    who: str
    act: str
    detail: dict[str, Any]


def now_utc() -> str:
    """The wall clock as UTC, ISO 8601, milliseconds: 2026-01-31T12:00:00.000Z."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def current_user() -> str:
    """Who runs this command, as the kernel knows it: the account, and who logged in where that is
    someone else (sudo).

    Never from the environment, which anybody may set.
    """
    account, login = real_uid(), _login_uid()
    name = account_name(account)
    return name if login in (None, account) else f"{name} (login {account_name(login)})"


def account_name(uid: int) -> str:
    """The name of an account; its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's uid without an entry in passwd
        return f"uid {uid}"


def _login_uid() -> int | None:
    """The account that logged in, which sudo and su do not change; None where the kernel keeps
    none.
    """
    try:
        uid = int(LOGIN_UID.read_text())
    except (OSError, ValueError):
        return None
    return None if uid == NO_LOGIN else uid


def append_audit(
    root: Path, act: str, detail: Mapping[str, Any], who: str | None = None
) -> AuditRow:
    """Append one row; it is on disk when this returns.

    Raises: StorageError if the database cannot be written (disk full, permissions, not a database).
    """
    at, who = now_utc(), who or current_user()
    text = json.dumps(dict(detail), ensure_ascii=False, allow_nan=False)
    with _database(root) as connection:
        ends_s = time.monotonic() + WORK_S
        connection.set_progress_handler(lambda: time.monotonic() > ends_s, STEPS)
        connection.execute(SCHEMA)
        insert = "INSERT INTO audit (at, who, act, detail) VALUES (?, ?, ?, ?)"
        cursor = connection.execute(insert, (at, who, act, text))
    return AuditRow(int(cursor.lastrowid or 0), at, who, act, dict(detail))


def read_audit(root: Path) -> list[AuditRow]:
    """Every row, oldest first; empty where nothing has happened yet.

    Raises: StorageError if it is not a database.
    """
    if not is_there(root / PLACE):
        return []
    with _database(root) as connection:
        known = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'audit'"
        ).fetchone()
        rows = (
            connection.execute("SELECT id, at, who, act, detail FROM audit ORDER BY id").fetchall()
            if known
            else []
        )
    return [row_of(row) for row in rows]


def row_of(row: Sequence[Any]) -> AuditRow:
    """From id, at, who, act and detail as the table has them."""
    return AuditRow(row[0], str(row[1]), str(row[2]), str(row[3]), _detail(row[4]))


def _detail(text: object) -> dict[str, Any]:
    """The detail of a row; a text that is no JSON object comes under the key `unreadable`."""
    try:
        detail = parse_json(text.encode()) if isinstance(text, str) else None
    except ValueError:
        detail = None
    return detail if isinstance(detail, dict) else {"unreadable": str(text)}


@contextmanager
def _database(root: Path) -> Iterator[sqlite3.Connection]:
    path = root / PLACE
    try:
        with acting_for(root, PLACE.parent):
            make_folder(path.parent)
            require_plain(files=database_files(root))
            make_empty(path)
            with closing(open_database(path, BUSY_S)) as connection:
                connection.text_factory = lambda data: data.decode(errors="replace")
                yield connection
    except OSError as error:
        raise StorageError(f"cannot use the audit table in {path}: {sentence_of(error)}") from error
    except sqlite3.Error as error:
        raise StorageError(
            f"cannot use the audit table in {path}: {error}. {remedy_for(error)}"
        ) from error


def database_files(root: Path) -> list[Path]:
    """line.sqlite and what SQLite and the outbox lay beside it."""
    path = root / PLACE
    return [
        path,
        *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")),
        path.with_suffix(".seq"),
    ]
