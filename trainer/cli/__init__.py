"""The `trainer` command: one file per verb; whatever is heavy is imported inside the verb's
function.
"""

from __future__ import annotations

import logging
import sys

import typer

from edge.errors import EdgeError
from edge.files import DISK_FULL, sentence_of
from trainer.cli import benchmark, evaluate, export, keygen, pretrain, synthesize, train

# No rich markup: `trainer --help` must answer at once.
app = typer.Typer(
    name="trainer",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _describe() -> None:
    """Train a detector on good parts, evaluate it, quantize it, prove it and pack a signed
    bundle.
    """


app.command()(export.export)
app.command()(keygen.keygen)
app.command()(synthesize.synthesize)
app.command()(train.train)
app.command()(evaluate.evaluate)
app.command()(benchmark.benchmark)
app.add_typer(pretrain.app)


def run_command() -> None:
    """Run the command line; what somebody can act on is one sentence on stderr and exit code 1.

    That is an EdgeError, and whatever the operating system refuses. A bug keeps its traceback.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        app()
    except EdgeError as error:
        print(f"trainer: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        full = error.errno in DISK_FULL
        if error.errno is None:
            raise
        more = ". A training or benchmark goes on from its last checkpoint" if full else ""
        print(f"trainer: {sentence_of(error)}{more}", file=sys.stderr)
        sys.exit(1)
