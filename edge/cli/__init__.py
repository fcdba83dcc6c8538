"""The `edge` command: one file per verb; whatever is heavy is imported inside the verb's function."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import sys
import traceback
from typing import NoReturn

import typer

from edge.cli import bundle, calibrate, inspect, install, run, status, trust, verify
from edge.database import remedy_for
from edge.errors import EdgeError
from edge.files import sentence_of

# No rich markup: `edge --help` must answer at once.
app = typer.Typer(
    name="edge", no_args_is_help=True, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False
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
    """Run the command line; what an operator can act on is one sentence on stderr and exit code 1.

    That is an EdgeError, and whatever the operating system or a database refuses. A bug keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    leave(_exit_code())


def leave(code: int) -> NoReturn:
    """End the process with this code, once what it wrote is out, without taking the interpreter down.

    Taking it down ends the C++ of the libraries in an order of its own: a thread of onnxruntime or librealsense that
    still runs then, or an object of theirs that holds one, ends the process with `terminate called without an active
    exception` and SIGABRT, after all the work was done. Every verb closes what it has to close before it returns (the
    outbox, the images, the line, the camera's process), so nothing is left for the interpreter to do.
    """
    try:
        print(end="", flush=True)
    except OSError as error:                # nobody reads it any more, or a full disk
        code = code or 1
        if error.errno != errno.EPIPE:
            print(f"edge: what it printed cannot be written: {error.strerror}", file=sys.stderr)
    print(end="", file=sys.stderr, flush=True)
    os._exit(code)


def _exit_code() -> int:
    try:
        app()
    except SystemExit as ended:             # how typer returns
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0
    except EdgeError as error:
        print(f"edge: {error}", file=sys.stderr)
        return 1
    except (OSError, sqlite3.DatabaseError) as error:
        if _is_refusal(error):
            print(f"edge: {_said(error)}", file=sys.stderr)
        else:
            traceback.print_exc()
        return 1
    except BaseException:  # noqa: BLE001  nothing may pass `leave` by
        traceback.print_exc()
        return 1
    return 0


def _is_refusal(error: OSError | sqlite3.DatabaseError) -> bool:
    """Whether the system or the database says no, and not a wrong call of them, which is a bug."""
    if isinstance(error, OSError):
        return error.errno is not None
    return isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError


def _said(error: OSError | sqlite3.DatabaseError) -> str:
    if isinstance(error, OSError):
        return sentence_of(error)
    return f"the station's database cannot be used: {error}. {remedy_for(error)}"
