"""The `edge` command: one file per verb; whatever is heavy is imported inside the verb's function."""

from __future__ import annotations

import logging
import sys

import typer

from edge.cli import bundle, calibrate, inspect, install, run, status, trust, verify
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
app.command()(trust.trust)
app.command()(verify.verify)
app.add_typer(bundle.app, name="bundle")
app.add_typer(calibrate.app, name="calibrate")


def run_command() -> None:
    """Run the command line; what an operator can act on is one sentence on stderr and exit code 1.

    That is an EdgeError, and whatever the operating system refuses about a file. A bug keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        app()
    except EdgeError as error:
        print(f"edge: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"edge: {sentence_of(error)}", file=sys.stderr)
        sys.exit(1)
