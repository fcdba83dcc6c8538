"""What the pages and the JSON interface read of the archive: rows and what is known about each.

The archive's modules are imported when a page of records is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.archive.filters import RecordFilter
    from edge.archive.query import Row
    from edge.station.audit import AuditRow

PICTURES = ("overlay.png", "color.png", "map.png")  # what a browser may ask for
CHUNK = 500  # records that are read at once for a file
OK_MEANS = (  # acts that change what OK means (edge/station/audit.py)
    "trust",
    "distrust",
    "install",
    "installed",
    "install abandoned",
    "rollback",
    "rolled back",
    "rollback abandoned",
    "select",
    "calibrate geometry",
    "calibrate expected",
    "calibrate model",
    "calibrate undo",
    "threshold",
    "fallback",
)
DENIED = " not in effect"  # edge.station.claims


@dataclass(frozen=True)
class PartView:
    """One record with the pictures that are kept of it, the best first."""

    row: Row
    pictures: tuple[str, ...]


def views(root: Path, rows: Sequence[Row]) -> list[PartView]:
    """Of each row."""
    return [PartView(row, pictures_of(root, row)) for row in rows]


def pictures_of(root: Path, row: Row) -> tuple[str, ...]:
    """Those of PICTURES that are kept of a part."""
    from edge.archive.pictures import picture_names

    names = picture_names(root, row)
    return tuple(name for name in PICTURES if name in names)


def in_chunks(root: Path, asked: RecordFilter) -> Iterator[Row]:
    """All records that match, newest first: for a file that is sent while it is read.

    Each step reads by a connection of its own, since it may run in another thread than the last.
    """
    from edge.archive.query import read_records

    left = asked.limit
    while left is None or left > 0:
        size = CHUNK if left is None else min(CHUNK, left)
        rows = read_records(root, replace(asked, limit=size))
        if not rows:
            return
        yield from rows
        left = None if left is None else left - len(rows)
        asked = replace(asked, before_seq=rows[-1].seq)


def in_blocks(lines: Iterator[str]) -> Iterator[str]:
    """The same text in larger pieces: each piece that is sent costs a change of threads. The first
    is read at once, while an error can still be told.
    """
    first = "".join(islice(lines, CHUNK))
    rest = iter(lambda: "".join(islice(lines, CHUNK)), "")
    return chain([first], rest)


def ok_acts() -> tuple[str, ...]:
    """Every act that changes what OK means, and the rows which say that one is not in effect."""
    return (*OK_MEANS, *(f"{act}{DENIED}" for act in OK_MEANS))


def calibrations_of(root: Path, row: Row) -> dict[str, AuditRow | None]:
    """Who made the site state that a part was judged with: the audit rows, by `geometry` and
    `model_state`; None where the table has no row of it. A key without a site state is left out.
    """
    from edge.archive.acts import ActFilter, read_acts
    from edge.station.site_digest import digest_in_row

    wanted = {key: row.text(key) for key in ("geometry", "model_state") if row.text(key)}
    if not wanted:
        return {}
    acts = ("calibrate geometry", "calibrate expected", "calibrate model", "calibrate undo")
    found: dict[str, AuditRow | None] = dict.fromkeys(wanted)
    for act in read_acts(root, ActFilter(acts=acts, limit=None)):
        digest = digest_in_row(act.act, act.detail)
        for key, value in wanted.items():
            if digest == value and found[key] is None:
                found[key] = act
        if all(found.values()):
            break
    return found
