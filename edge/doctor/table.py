"""The rows as people and programs read them."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from edge.doctor.finding import Row, State
from edge.errors import on_one_line
from edge.station.audit import now_utc

STATES: tuple[State, ...] = get_args(State)
WIDEST = 100  # columns
MARK = "-> "


def table_lines(rows: Sequence[Row]) -> list[str]:
    """A row per finding, its remedy below it; last, how many there are of each."""
    width = max((len(row.name) for row in rows), default=0)
    counts = Counter(row.finding.state for row in rows)
    total = ", ".join(f"{counts[state]} {state}" for state in STATES)
    return [line for row in rows for line in _lines(row, width)] + [total]


def _lines(row: Row, width: int) -> Iterator[str]:
    found = row.finding
    head = f"{found.state:<7}  {row.name:<{width}}  "
    yield from _wrapped(head, found.said, len(head))
    if found.remedy:
        yield from _wrapped(" " * len(head) + MARK, found.remedy, len(head) + len(MARK))


def _wrapped(head: str, text: str, indent: int) -> list[str]:
    columns = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    return textwrap.wrap(
        on_one_line(text),
        max(columns, indent + 30),
        initial_indent=head,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [head.rstrip()]


def to_json(rows: Sequence[Row], root: Path) -> str:
    """One object: `rows` with name, state, said and remedy; `at` is UTC."""
    told = [
        {"name": row.name, "state": row.finding.state, "said": row.finding.said,
         "remedy": row.finding.remedy}
        for row in rows
    ]  # fmt: skip
    said = {"schema": 1, "at": now_utc(), "root": str(root), "rows": told}
    return json.dumps(said, ensure_ascii=False, indent=2)


def is_anything_wrong(rows: Sequence[Row]) -> bool:
    """Whether something is to be mended."""
    return any(row.finding.state == "wrong" for row in rows)
