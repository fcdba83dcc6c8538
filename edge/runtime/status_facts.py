"""Reads what `edge status` shows of a station: configuration, status file, disk, clock, records."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.clock import is_clock_synced
from edge.config import read_config
from edge.runtime.status import Facts, Verdict, lines_of
from edge.runtime.status_file import read_live
from edge.station.store import Store
from edge.types import Code


def live_lines(store: Store) -> list[str]:
    """Station, camera, broker, disk, clock, last verdict, drift: one line each. Raises:
    ConfigError.
    """
    return lines_of(read_facts(store))


def read_facts(store: Store) -> Facts:
    """What there is to show, read without changing anything. Raises: ConfigError."""
    return Facts(
        config=read_config(store.root),
        live=read_live(store),
        free_bytes=_free_bytes(store.data),
        clock_synced=is_clock_synced(),
        last=_last_verdict(store.data / "line.sqlite"),
    )


def _free_bytes(folder: Path) -> int | str:
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder} cannot be looked at ({error.strerror})"


def _last_verdict(path: Path) -> Verdict | str | None:
    try:
        fields = _last_record(path)
        return None if fields is None else _verdict_of(fields)
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        return f"not known, line.sqlite cannot be read: {why}"


def _verdict_of(fields: Mapping[str, Any]) -> Verdict:
    """Raises: ValueError, KeyError, TypeError if these are no fields of a record."""
    is_scored = fields["score"] is not None
    return Verdict(
        part=str(fields["part"]),
        code=Code(fields["code"]),
        reason=str(fields["reason"]),
        score=float(fields["score"]) if is_scored else None,
        threshold=float(fields["thr"]) if is_scored else None,
        judged_at=str(fields["judged_at"]),
    )


def _last_record(path: Path) -> dict[str, Any] | None:
    """Its fields, read without leaving a file beside the database, which belongs to `edge run`.

    Raises: sqlite3.Error, ValueError if it cannot be read.
    """
    if not path.is_file():
        return None
    log_file = path.with_name(f"{path.name}-wal")
    # with an empty log SQLite would make its index file anew
    at_rest = not log_file.exists() or log_file.stat().st_size == 0
    name = f"{path.absolute().as_uri()}?{'immutable=1' if at_rest else 'mode=ro'}"
    with contextlib.closing(sqlite3.connect(name, uri=True, timeout=1.0)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone():
            return None  # so far only the audit's
        row = connection.execute("SELECT fields FROM records ORDER BY seq DESC LIMIT 1").fetchone()
    found: dict[str, Any] | None = None if row is None else json.loads(row[0])
    return found
