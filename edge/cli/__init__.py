"""The `edge` command: one file per verb; whatever is heavy is imported inside the verb's
function.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from typing import NoReturn

import typer

from edge.cli import bundle, calibrate, inspect, install, run, status, trust, verify
from edge.database import remedy_for
from edge.errors import EdgeError, on_one_line
from edge.files import sentence_of

# No rich markup: `edge --help` must answer at once.
app = typer.Typer(
    name="edge",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _describe() -> None:
    """Judge parts at the line: install a signed bundle, calibrate, run, verify."""


app.command()(install.install)
app.command()(run.run)
app.command()(inspect.inspect)
app.command()(status.status)
app.command()(verify.verify)
app.add_typer(trust.app, name="trust")
app.add_typer(bundle.app, name="bundle")
app.add_typer(calibrate.app, name="calibrate")


def run_command() -> NoReturn:
    """Run the command line, and exit: what an operator can act on is one sentence on stderr and
    exit code 1.

    That is an EdgeError, and whatever the operating system or a database refuses. A bug keeps its
    traceback.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        app()
    except EdgeError as error:
        print(f"edge: {on_one_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    except (OSError, sqlite3.DatabaseError) as error:
        if not _is_refusal(error):
            raise
        print(f"edge: {on_one_line(_said(error))}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _is_refusal(error: OSError | sqlite3.DatabaseError) -> bool:
    """Whether the system or the database says no, and not a wrong call of them, which is a bug."""
    if isinstance(error, OSError):
        return error.errno is not None
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _said(error: OSError | sqlite3.DatabaseError) -> str:
    if isinstance(error, OSError):
        return sentence_of(error)
    return f"the station's database cannot be used: {error}. {remedy_for(error)}"
