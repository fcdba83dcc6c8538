"""The audit table, read without writing to its file: who changed what OK means, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge.archive.filters import time_range
from edge.archive.reading import has_table, reading
from edge.station.audit import AuditRow, row_of


@dataclass(frozen=True)
class ActFilter:
    """Which rows. Whatever is left out, or empty, restricts nothing.

    since, until: with their time zone: since <= at < until. acts: such as `install`.
    before_id: only earlier rows, to go on after a page. limit: the newest this many; None: all.
    """

    since: datetime | None = None
    until: datetime | None = None
    acts: tuple[str, ...] = ()
    before_id: int | None = None
    limit: int | None = 100


def read_acts(root: Path, asked: ActFilter) -> list[AuditRow]:
    """The rows that match, newest first; empty where nothing has happened yet.

    Raises: StorageError if the database cannot be read or is damaged.
    """
    first, last = time_range(asked.since, asked.until)
    values: list[object] = [first, last]
    text = "SELECT id, at, who, act, detail FROM audit WHERE at >= ? AND at < ?"
    if asked.acts:
        text += f" AND act IN ({', '.join('?' * len(asked.acts))})"
        values += asked.acts
    if asked.before_id is not None:
        text += " AND id < ?"
        values.append(asked.before_id)
    with reading(root) as connection:
        if connection is None or not has_table(connection, "audit"):
            return []
        limit = -1 if asked.limit is None else asked.limit
        rows = connection.execute(f"{text} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [row_of(row) for row in rows]
