"""`edge doctor`."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.options import root_option
from edge.usage import example

EXAMPLE = example(
    "edge doctor",
    "edge doctor --json --root ./station",
    "sudo edge doctor --acceptance board-1.json    # half an hour beside a board",
)


def doctor(
    root: Path = root_option(),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
    acceptance: Path | None = typer.Option(
        None,
        help="Try the whole board, guided and step by step, into this signed file; or go on.",
        readable=False,
        metavar="OUT.json",
    ),
) -> None:
    """One table of what is right, wrong and unknown about this station and its machine, with the
    remedy.

    Nothing is changed, and no running service is needed. With sudo it sees more. The exit code is 1
    if anything is wrong; what is unknown does not count.

    With --acceptance every engine is built and timed, camera, lines and power modes are tried, and
    the power is cut ten times by hand. What is absent is left out and claims nothing. The exit code
    is 0 once every step has passed on a Jetson.
    """
    if acceptance is not None:
        _accept(root, acceptance)
        return
    from edge.doctor.checks import examine
    from edge.doctor.table import is_anything_wrong, table_lines, to_json

    rows = examine(root)
    if as_json:
        print(to_json(rows, root))
    else:
        print("\n".join(table_lines(rows)))
    if is_anything_wrong(rows):
        raise typer.Exit(1)


def _accept(root: Path, out: Path) -> None:
    from edge.doctor.acceptance import accept, is_complete
    from edge.doctor.desk import Terminal

    if not is_complete(accept(root, out, Terminal())):
        raise typer.Exit(1)
