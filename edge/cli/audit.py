"""`edge audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import root_option
from edge.cli.records import csv_option, since_option, until_option, write_csv
from edge.usage import example

if TYPE_CHECKING:
    from edge.station.audit import AuditRow

LISTED = 50
DETAIL_LIMIT = 200  # characters of the detail in the list
EXAMPLE = example(
    "edge audit --since 2026-11-01",
    "edge audit --act install --act rollback",
    "edge audit --csv audit.csv",
)


def audit(
    since: str | None = since_option(),
    until: str | None = until_option(),
    act: list[str] = typer.Option(
        [], help="Such as install or 'calibrate model'; may be repeated.", metavar="ACT"
    ),
    limit: int | None = typer.Option(
        None, help=f"The newest this many; default: {LISTED}, for a file all.", min=1, metavar="N"
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object per line."),
    csv: Path | None = csv_option(),
    root: Path = root_option(),
) -> None:
    """Who changed what OK means, and when: the rows of the audit table, the newest first.

    What each act means is in docs/troubleshooting.md.
    """
    import json

    from edge.archive.acts import ActFilter, read_acts
    from edge.archive.csv_file import audit_lines
    from edge.archive.filters import parse_moment
    from edge.station.store import Store

    asked = ActFilter(
        since=None if since is None else parse_moment(since, "--since"),
        until=None if until is None else parse_moment(until, "--until", is_end=True),
        acts=tuple(act),
        limit=limit if limit is not None or csv is not None else LISTED,
    )
    store = Store(root)
    with store.acting():  # SQLite changes the owner of files beside a database that it reads
        rows = read_acts(root, asked)
    if csv is not None:
        write_csv(csv, store, audit_lines(rows))
        return
    if not rows and not as_json:
        print(f"no such row under {root}")
    for row in rows:
        print(json.dumps(vars(row)) if as_json else _line_of(row))


def _line_of(row: AuditRow) -> str:
    import json

    from edge.errors import on_one_line

    detail = json.dumps(row.detail, ensure_ascii=False)
    if len(detail) > DETAIL_LIMIT:
        detail = f"{detail[: DETAIL_LIMIT - 3]}..."
    return on_one_line(f"{row.id:>6} {row.at} {row.who}: {row.act} {detail}")
