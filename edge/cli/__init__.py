"""The `edge` command: one file per verb; what is heavy is imported inside the verb's function."""

from __future__ import annotations

import logging
import sqlite3
import sys
from typing import NoReturn

import typer
from typer.core import TyperGroup

from edge.cli import (
    audit,
    backup,
    bench,
    bundle,
    calibrate,
    capture,
    doctor,
    inspect,
    install,
    opcua,
    page,
    products,
    records,
    report,
    run,
    simulate,
    status,
    trust,
    update,
    verify,
)
from edge.database import remedy_for
from edge.errors import EdgeError, on_one_line
from edge.files import sentence_of
from edge.usage import GROUP, example


class _InOrderOfUse(TyperGroup):
    """Lists commands in the order in which a station needs them."""

    def list_commands(self, ctx: object) -> list[str]:  # noqa: ARG002  TyperGroup's signature
        """Names of the commands."""
        return [
            "trust", "install", "doctor", "capture", "calibrate", "inspect", "run", "opcua", "page",
            "status", "verify", "bench", "update", "bundle", "products", "records", "audit",
            "report", "backup", "restore", "simulate",
        ]  # fmt: skip


app = typer.Typer(
    name="edge",
    cls=_InOrderOfUse,
    **GROUP,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=example(
        "edge trust line.pub",
        "edge install washer-1.0.0.bundle --station cell7",
        "edge calibrate plane",
        "edge run",
    ),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"edge {version('rgbd-inspection')}")
        raise typer.Exit


@app.callback()
def _describe(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        callback=_print_version,
        is_eager=True,
    ),
) -> None:
    """Judge parts at the line. Commands are listed in the order of use."""


app.add_typer(trust.app, name="trust", short_help="Keys whose bundles this station accepts.")
app.command(
    short_help="Verify a bundle, prove its engines here, make it current.", epilog=install.EXAMPLE
)(install.install)
app.command(short_help="What is right and wrong here, and the remedy.", epilog=doctor.EXAMPLE)(
    doctor.doctor
)
app.command(short_help="Record frames as a data set.", epilog=capture.EXAMPLE)(capture.capture)
app.add_typer(calibrate.app, name="calibrate", short_help="Calibrate this station on site.")
app.command(short_help="Judge images from files or the camera.", epilog=inspect.EXAMPLE)(
    inspect.inspect
)
app.command(short_help="Judge every part and tell the PLC.", epilog=run.EXAMPLE)(run.run)
app.add_typer(opcua.app, name="opcua", short_help="The OPC UA server and its users.")
app.add_typer(page.app, name="page", short_help="The page for people, and its users.")
app.command(short_help="What judges, and what is wrong.", epilog=status.EXAMPLE)(status.status)
app.command(short_help="Repeat the proof on this machine.", epilog=verify.EXAMPLE)(verify.verify)
app.command(short_help="Time each stage on this machine.", epilog=bench.EXAMPLE)(bench.bench)
app.add_typer(update.app, name="update", short_help="Take new bundles, by themselves or a stick.")
app.add_typer(records.app, name="records", short_help="The parts that were judged.")
app.command(short_help="Who changed what OK means.", epilog=audit.EXAMPLE)(audit.audit)
app.add_typer(report.app, name="report", short_help="Signed reports: make, verify.")
app.command(short_help="All that this station has, in one file.", epilog=backup.BACKUP_EXAMPLE)(
    backup.backup
)
app.command(short_help="A station again, from its backup.", epilog=backup.RESTORE_EXAMPLE)(
    backup.restore
)
app.add_typer(simulate.app, name="simulate", short_help="Play the plant around this station.")
app.add_typer(bundle.app, name="bundle", short_help="Installed bundles: list, select, roll back.")
app.add_typer(products.app, name="products", short_help="Installed products and their numbers.")


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
