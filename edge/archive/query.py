"""The records of line.sqlite, read while `edge run` writes them: filtered, paged, counted.

No index is added to the table, which belongs to the outbox: an index costs a page of flash memory
with each record. A question walks through the table in windows of numbers, newest first, so that no
statement runs for longer than tens of milliseconds and memory is bounded, whatever the table holds.
"""

from __future__ import annotations

import math
import sqlite3
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.archive.filters import IS_JSON, IS_RECORD, RecordFilter, condition_of
from edge.archive.filters import field as column
from edge.archive.labels import Label, read_labels
from edge.archive.reading import has_table, reading
from edge.line.expiry import LAST_NUMBER
from edge.line.tables import read_fields
from edge.types import Code

if TYPE_CHECKING:  # records are listed without arrays
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Counts",
    "Histogram",
    "RecordFilter",
    "Row",
    "count_by",
    "count_records",
    "find_record",
    "histogram",
    "iterate_records",
    "read_numbers",
    "read_records",
]

WINDOW = 4000  # numbers that one statement looks at: at most about 4 MB of text
BINS = 40
LARGEST = sys.float_info.max
BEYOND = 3.0  # a histogram ends at this many thresholds: its last bin has what lies higher


@dataclass(frozen=True)
class Row:
    """One record. The database belongs to the service's account: what a record says is checked
    before anything follows from it.

    fields: as docs/mqtt.md has them, without `replay`. label: what was said last, None for nothing.
    """

    seq: int
    fields: Mapping[str, Any]
    label: Label | None = None

    def text(self, key: str) -> str:
        """A text of the record; empty where there is none."""
        value = self.fields.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> float | None:
        """A finite number of the record; None where there is none."""
        value = self.fields.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return value if abs(value) <= LARGEST else None  # not for NaN

    @property
    def code(self) -> Code | None:
        """OK, NG or UNKNOWN; None for a record that says neither."""
        value = self.number("code")
        return next((code for code in Code if code == value), None)


@dataclass(frozen=True)
class Counts:
    """How many records: in all, by code, by reason, and by day in this station's time zone.

    by_day: code to count by date, the earliest first. unreadable: rows that are no record.
    """

    total: int = 0
    by_code: dict[int, int] = field(default_factory=dict)
    by_reason: dict[str, int] = field(default_factory=dict)
    by_day: dict[str, dict[int, int]] = field(default_factory=dict)
    unreadable: int = 0


@dataclass(frozen=True)
class Histogram:
    """How many parts by score.

    edges: bins + 1, ascending; a score beyond an end counts in the bin at that end. counts: by
    code, one number per bin. unscored: parts without a score. thresholds: those that were applied.
    """

    edges: tuple[float, ...]
    counts: dict[int, tuple[int, ...]]
    unscored: int
    thresholds: tuple[float, ...]


def read_records(root: Path, asked: RecordFilter) -> list[Row]:
    """The records that match, newest first, at most `asked.limit`.

    Empty where nothing was recorded yet.
    Raises: StorageError if the database cannot be read or is damaged.
    """
    return list(iterate_records(root, asked))


def find_record(root: Path, seq: int) -> Row | None:
    """The record of one number. Raises: StorageError."""
    found = read_records(root, RecordFilter(before_seq=seq + 1, limit=1))
    return found[0] if found and found[0].seq == seq else None


def iterate_records(root: Path, asked: RecordFilter) -> Iterator[Row]:
    """As `read_records`, one after the other, so that a million take no memory."""
    labels = read_labels(root)
    with reading(root) as connection:
        if connection is None or not has_table(connection, "records"):
            return
        _lay_labels(connection, labels)
        found = (_with_label(row, labels) for row in _rows(connection, asked))
        yield from islice(found, asked.limit)


def count_records(root: Path, asked: RecordFilter) -> Counts:
    """Count the records that match; `limit` is not looked at.

    Raises: StorageError.
    """
    by_code: Counter[int] = Counter()
    by_reason: Counter[str] = Counter()
    by_day: dict[str, Counter[int]] = {}
    unreadable = 0
    for (code, reason, day), count in count_by(root, asked, "code", "reason", "day").items():
        if code not in tuple(Code):
            unreadable += count
            continue
        by_code[code] += count
        by_reason[str(reason)] += count
        by_day.setdefault(str(day or "unknown"), Counter())[code] += count
    days = {day: dict(by_day[day]) for day in sorted(by_day)}
    return Counts(by_code.total(), dict(by_code), dict(by_reason), days, unreadable)


def count_by(root: Path, asked: RecordFilter, *keys: str) -> Counter[tuple[Any, ...]]:
    """How many of the records that match have which values of these keys; `limit` is not looked at.

    keys: of a record, or `day`: the date on which the part was judged, in this station's time zone.
    A row that is no record has None for each of them. Raises: StorageError.
    """
    found: Counter[tuple[Any, ...]] = Counter()
    columns = ", ".join(f"CASE WHEN {IS_JSON} THEN {_expression(key)} END" for key in keys)
    numbers = ", ".join(str(number + 1) for number in range(len(keys)))
    every = replace(asked, limit=None)
    for rows in _windows(root, f"{columns}, count(*)", every, f"GROUP BY {numbers}"):
        for *values, count in rows:
            found[tuple(values)] += count
    return found


def read_numbers(root: Path, asked: RecordFilter, *keys: str) -> NDArray[np.float64]:
    """These keys of the records that match, newest first, at most `asked.limit`.

    Returns: (n, len(keys)); NaN where a record has no such number.
    Raises: StorageError.
    """
    import numpy as np

    flat, left = array("d"), asked.limit
    values = ", ".join(f"CASE WHEN {IS_JSON} THEN {_expression(key)} END" for key in keys)
    for rows in _windows(root, f"seq, {IS_RECORD}, {values}", asked, "ORDER BY seq DESC"):
        found = [numbers for _, is_record, *numbers in rows if is_record][:left]
        for numbers in found:
            flat.extend(map(_number, numbers))
        left = None if left is None else left - len(found)
        if left == 0:
            break
    return np.frombuffer(flat, np.float64).reshape(-1, len(keys))


def histogram(root: Path, asked: RecordFilter, bins: int = BINS) -> Histogram | None:
    """The scores of the records that match, at most of `asked.limit`; None where none has a score.

    Raises: StorageError.
    """
    import numpy as np

    read = read_numbers(root, asked, "score", "code", "thr")
    is_scored = np.isfinite(read[:, 0])
    scores, codes, thresholds = read[is_scored].T
    if not len(scores):
        return None
    applied = np.unique(thresholds[np.isfinite(thresholds)])
    low, high = float(scores.min()), float(scores.max())
    if len(applied) and applied[-1] > 0:
        high = min(high, BEYOND * float(applied[-1]))
    low = min(low, high)
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    counts = {
        int(code): tuple(np.histogram(np.clip(scores[codes == code], low, high), edges)[0].tolist())
        for code in Code
    }
    unscored = int(np.count_nonzero(~is_scored))
    return Histogram(tuple(edges.tolist()), counts, unscored, tuple(applied.tolist()))


def _rows(connection: sqlite3.Connection, asked: RecordFilter) -> Iterator[Row]:
    for rows in _windows_of(connection, "seq, fields", asked, "ORDER BY seq DESC"):
        for seq, text in rows:
            fields = read_fields(text)
            if fields is not None:
                yield Row(seq, fields)


def _with_label(row: Row, labels: Mapping[int, Label]) -> Row:
    """A label of a part that had this number before the database was deleted is not its own."""
    label = labels.get(row.seq)
    is_own = label is not None and label.judged_at == row.text("judged_at")
    return replace(row, label=label) if is_own else row


def _windows(
    root: Path, columns: str, asked: RecordFilter, tail: str
) -> Iterator[list[tuple[Any, ...]]]:
    labels = read_labels(root) if asked.labels else {}
    with reading(root) as connection:
        if connection is None or not has_table(connection, "records"):
            return
        _lay_labels(connection, labels)
        yield from _windows_of(connection, columns, asked, tail)


def _windows_of(
    connection: sqlite3.Connection, columns: str, asked: RecordFilter, tail: str
) -> Iterator[list[tuple[Any, ...]]]:
    """What matches in each window of numbers, the highest first.

    With a limit `columns` begins with seq: a window is gone on with where the limit cut it.
    """
    condition, values = condition_of(asked)
    limit = "" if asked.limit is None else f"LIMIT {asked.limit}"
    text = (
        f"SELECT {columns} FROM records WHERE seq > ? AND seq <= ? AND {condition} {tail} {limit}"
    )
    end = LAST_NUMBER if asked.before_seq is None else min(asked.before_seq - 1, LAST_NUMBER)
    while True:
        newest = connection.execute(
            "SELECT max(seq) FROM records WHERE seq <= ?", (end,)
        ).fetchone()[0]
        if newest is None:
            return
        end = newest - WINDOW
        rows = connection.execute(text, (end, newest, *values)).fetchall()
        yield rows
        if rows and len(rows) == asked.limit:
            end = rows[-1][0] - 1


def _lay_labels(connection: sqlite3.Connection, labels: Mapping[int, Label]) -> None:
    """For the condition about labels, in memory: others may write to their file meanwhile."""
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(
        "CREATE TEMP TABLE labelled (seq INTEGER PRIMARY KEY, judged_at TEXT, said TEXT)"
    )
    rows = [(one.seq, one.judged_at, one.said) for one in labels.values()]
    connection.executemany("INSERT INTO labelled VALUES (?, ?, ?)", rows)


def _expression(key: str) -> str:
    if key == "day":
        return f"date({column('judged_at')}, 'localtime')"
    if not key.isidentifier():
        raise ValueError(f"{key!r} is no key of a record")
    return column(key)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
