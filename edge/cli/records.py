"""`edge records`: what was judged, and what people say of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edge.cli.options import root_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge.archive.query import RecordFilter, Row
    from edge.station.store import Store

LISTED = 50
STDOUT = Path("-")

app = typer.Typer(
    help="The parts that were judged: list, filter, label, write as CSV.",
    **GROUP | {"no_args_is_help": False, "invoke_without_command": True},
    epilog=example(
        "edge records --code NG --since 2026-11-29",
        "edge records --part A17 --json",
        "edge records --since 2026-11-01 --until 2026-11-30 --csv november.csv",
        "edge records label 4711 good --note 'only dust'",
    ),
)


def since_option() -> Any:
    """--since, for what is listed by time."""
    return typer.Option(
        None,
        help="From this time on: 2026-11-29, 2026-11-29T06:00 (this station's time zone) or"
        " 2026-11-29T05:00:00Z.",
        metavar="TIME",
    )


def until_option() -> Any:
    """--until, for what is listed by time."""
    return typer.Option(
        None, help="Before this time; a date stands for the end of that day.", metavar="TIME"
    )


def csv_option() -> Any:
    """--csv, for what can be written as a table."""
    return typer.Option(
        None, "--csv", help="Write all of them there, as CSV; - is stdout.", readable=False,
        metavar="FILE",
    )  # fmt: skip


@app.callback()
def records(
    context: typer.Context,
    since: str | None = since_option(),
    until: str | None = until_option(),
    code: list[str] = typer.Option(
        [], help="OK, NG or UNKNOWN; may be repeated.", metavar="CODE"
    ),
    reason: list[str] = typer.Option(
        [], help="Such as anomaly or no_depth; may be repeated.", metavar="REASON"
    ),
    part: str | None = typer.Option(
        None, help="Name of the part; * stands for any characters.", metavar="NAME"
    ),
    product: str | None = typer.Option(
        None, help="Judged as this product.", metavar="PRODUCT"
    ),
    label: list[str] = typer.Option(
        [], help="Labelled good or bad, or none; may be repeated.", metavar="LABEL"
    ),
    score_above: float | None = typer.Option(
        None, help="With a higher score.", metavar="SCORE"
    ),
    limit: int | None = typer.Option(
        None, help=f"The newest this many; default: {LISTED}, for a file all.", min=1, metavar="N"
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object per line."),
    csv: Path | None = csv_option(),
    root: Path = root_option(),
) -> None:  # fmt: skip
    """The parts that were judged, the newest first: number, time, verdict, reason, score, part.

    It reads the records beside a running `edge run` and changes nothing.
    """
    if context.invoked_subcommand is not None:
        return
    from edge.archive.csv_file import record_lines
    from edge.archive.filters import RecordFilter, parse_moment
    from edge.archive.query import iterate_records
    from edge.station.store import Store

    asked = RecordFilter(
        since=None if since is None else parse_moment(since, "--since"),
        until=None if until is None else parse_moment(until, "--until", is_end=True),
        codes=tuple(map(_code_of, code)),
        reasons=tuple(map(_reason_of, reason)),
        part=part,
        product=product,
        labels=tuple(label),
        min_score=_above(score_above),
        limit=limit if limit is not None or csv is not None else LISTED,
    )
    store = Store(root)
    if csv is not None:
        write_csv(csv, store, record_lines(iterate_records(root, asked)))
        return
    with store.acting():  # SQLite changes the owner of files beside a database that it reads
        if as_json:
            _print_json(root, asked)
        else:
            _print_list(root, asked)


@app.command(
    "label",
    short_help="Say that a part was good or bad.",
    epilog=example("edge records label 4711 good", "edge records label 4712 bad --note scratch"),
)
def label_part(
    number: int = typer.Argument(..., help="The part's number, `seq`.", metavar="N"),
    said: str = typer.Argument(
        ..., help="good, bad, or none to take back what was said.", metavar="LABEL"
    ),
    note: str = typer.Option("", help="Why, in a few words.", metavar="TEXT"),
    root: Path = root_option(),
) -> None:
    """Say that a part was good or bad. It counts as a false reject or a miss; no verdict, record or
    threshold changes.
    """
    from edge.archive.labels import add_label

    label = add_label(root, number, said, note)
    print(f"part {label.seq} is labelled {label.said} by {label.who}, {label.at}")


def write_csv(path: Path, store: Store, lines: Iterable[str]) -> None:
    """Write the lines to a file, which is there completely or not at all, or to stdout.

    The file is opened with this account's rights, the database read with those of its own account.
    """
    from edge.archive.csv_file import write_lines
    from edge.files import replaced, require_file_target

    if path == STDOUT:
        with store.acting():
            write_lines(sys.stdout.buffer, lines)
        return
    require_file_target(path, "--csv")
    with replaced(path) as file, store.acting():
        count = write_lines(file, lines)
    print(f"{path}: {count} rows")


def _print_list(root: Path, asked: RecordFilter) -> None:
    from edge.archive.query import read_records

    rows = read_records(root, asked)
    if not rows:
        print(f"no such record under {root}")
    for row in rows:
        print(_line_of(row))
    if rows and len(rows) == asked.limit:
        print(f"the newest {asked.limit}: --limit shows more, --csv writes all")


def _print_json(root: Path, asked: RecordFilter) -> None:
    import json

    from edge.archive.query import iterate_records

    for row in iterate_records(root, asked):
        label = None if row.label is None else vars(row.label)
        print(json.dumps({**row.fields, "label": label}))


def _line_of(row: Row) -> str:
    from edge.errors import on_one_line

    code, score = row.code, row.number("score")
    words = [
        f"{row.seq:>8}",
        f"{row.text('judged_at'):<24}",
        f"{'?' if code is None else code.name:<7}",
        f"{row.text('reason'):<15}",
        f"{'-' if score is None else f'{score:.5g}':>9}",
        row.text("part"),
        "" if row.label is None else f"({row.label.said}: {row.label.who} {row.label.note})",
    ]
    return on_one_line(" ".join(words).rstrip())


def _code_of(text: str) -> int:
    from edge.errors import ConfigError
    from edge.types import Code

    found = [code for code in Code if text.upper() in (code.name, str(code.value))]
    if not found:
        raise ConfigError(f"--code {text}: use {', '.join(code.name for code in Code)}")
    return int(found[0])


def _reason_of(text: str) -> str:
    from edge.errors import ConfigError
    from edge.types import Reason

    known = [reason.value for reason in Reason]
    if text not in known:
        raise ConfigError(f"--reason {text}: use one of {', '.join(known)}")
    return text


def _above(score: float | None) -> float | None:
    import math

    return None if score is None else math.nextafter(score, math.inf)
