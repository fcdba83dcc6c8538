"""The `trainer` command: one file per verb; whatever is heavy is imported inside the verb's function."""

from __future__ import annotations

import errno
import logging
import sys

import typer

from edge.errors import EdgeError
from trainer.cli import benchmark, evaluate, export, keygen, pretrain, synthesize, train

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)

# No rich markup: `trainer --help` must answer at once.
app = typer.Typer(
    name="trainer", no_args_is_help=True, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False
)


@app.callback()
def _describe() -> None:
    """Train a detector on good parts, evaluate it, quantise it, prove it and pack a signed bundle."""


app.command()(export.export)
app.command()(keygen.keygen)
app.command()(synthesize.synthesize)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(benchmark.benchmark)
app.add_typer(pretrain.app)


def run_command() -> None:
    """Run the command line; an EdgeError or a full disk is one sentence on stderr and exit code 1.

    A bug keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        app()
    except EdgeError as error:
        print(f"trainer: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(
            f"trainer: no space left on the disk{where}: free some and give the same command again. A training or"
            " benchmark goes on from its last checkpoint",
            file=sys.stderr,
        )
        sys.exit(1)
