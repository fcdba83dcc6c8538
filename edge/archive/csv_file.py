"""Records and audit rows as CSV (RFC 4180), for a spreadsheet.

UTF-8 with a byte order mark, without which Excel takes the bytes for another encoding. A text that
a spreadsheet would run as a formula gets an apostrophe in front: names of parts and notes come from
outside. https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

from edge.archive.query import Row
from edge.station.audit import AuditRow

MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"  # the byte order mark
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
RECORD_COLUMNS = (
    "seq", "id", "part", "n", "enc", "code", "verdict", "reason", "judged_code", "score", "thr",
    "margin", "captured_at", "judged_at", "clock_synced", "judge_ms", "area", "valid", "frames",
    "product", "bundle", "engine", "geometry", "model_state", "thr_from", "thr_parts", "guarantee",
    "images", "images_sha256", "label", "label_note", "label_who", "label_at",
)  # fmt: skip
AUDIT_COLUMNS = ("id", "at", "who", "act", "detail")


def record_lines(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of the file, the head first; times are UTC, ISO 8601."""
    return _lines(RECORD_COLUMNS, map(_cells_of, rows))


def audit_lines(rows: Iterable[AuditRow]) -> Iterator[str]:
    """The lines of the file, the head first; `detail` is JSON."""
    told = ({**vars(row), "detail": json.dumps(row.detail, ensure_ascii=False)} for row in rows)
    return _lines(AUDIT_COLUMNS, told)


def write_lines(file: IO[bytes], lines: Iterable[str]) -> int:
    """Write the lines in UTF-8; returns how many rows there are below the head."""
    count = -1
    for line in lines:
        file.write(line.encode())
        count += 1
    return count


def safe_cell(value: object) -> object:
    """A value as a cell that no spreadsheet runs: numbers stay numbers, None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(FORMULA) else text


def _lines(columns: tuple[str, ...], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    yield MARK + _line(columns)
    for row in rows:
        yield _line([safe_cell(row.get(column)) for column in columns])


def _line(cells: Iterable[object]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow(cells)
    return written.getvalue()


def _cells_of(row: Row) -> dict[str, Any]:
    label, code = row.label, row.code
    said = {} if label is None else {
        "label": label.said, "label_note": label.note, "label_who": label.who, "label_at": label.at
    }  # fmt: skip
    return {**row.fields, "verdict": "" if code is None else code.name, **said, "seq": row.seq}
