"""The `trainer` command: one file per verb; whatever is heavy is imported inside the verb's
function.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import typer
from typer.core import TyperGroup

from edge.errors import EdgeError
from edge.files import DISK_FULL, sentence_of
from edge.usage import GROUP, example
from trainer.cli import (
    benchmark,
    campaign,
    evaluate,
    export,
    keygen,
    pretrain,
    release,
    synthesize,
    train,
)


@dataclass(frozen=True)
class Verb:
    """A verb as `trainer --help` lists it: what runs it, a summary that fits on one line, and an
    example.
    """

    name: str
    run: Callable[..., None] | typer.Typer
    summary: str
    example: str


VERBS = (  # in the order of use
    Verb(
        "synthesize",
        synthesize.synthesize,
        "Make RGB-D parts with defects, to try things out.",
        "trainer synthesize parts --products washer",
    ),
    Verb(
        "pretrain",
        pretrain.app,
        "Pretrain an encoder on normal images, once for all.",
        "trainer pretrain pdn parts --out pdn.pth",
    ),
    Verb(
        "train",
        train.train,
        "Train a detector on images of good parts.",
        "trainer train mats parts/washer --out runs/washer",
    ),
    Verb(
        "evaluate",
        evaluate.evaluate,
        "Judge images with a run, and write its report.",
        "trainer evaluate runs/washer",
    ),
    Verb(
        "keygen",
        keygen.keygen,
        "Make the keys that a line's bundles are signed with.",
        "trainer keygen line",
    ),
    Verb(
        "export",
        export.export,
        "Make a signed bundle of a run, for the station.",
        "trainer export runs/washer --product washer --version 1.0.0 --key line.key",
    ),
    Verb(
        "release",
        release.app,
        "Keep a repository of bundles for `edge update`.",
        "trainer release init updates --keys keys",
    ),
    Verb(
        "benchmark",
        benchmark.benchmark,
        "Train and evaluate systems on whole data sets.",
        "trainer benchmark --out bench --data mvtec=sets/mvtec",
    ),
    Verb(
        "campaign",
        campaign.campaign,
        "Train, evaluate and export many products.",
        "trainer campaign products.toml --out runs/products --runner local:8",
    ),
)


class _InOrderOfUse(TyperGroup):
    """Lists the verbs as VERBS does: typer puts groups of commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return [verb.name for verb in VERBS]


app = typer.Typer(
    name="trainer", cls=_InOrderOfUse, **GROUP, add_completion=False, pretty_exceptions_enable=False
)
for _verb in VERBS:
    _words: dict[str, Any] = {"short_help": _verb.summary, "epilog": example(_verb.example)}
    if isinstance(_verb.run, typer.Typer):
        app.add_typer(_verb.run, name=_verb.name, **_words)
    else:
        app.command(_verb.name, **_words)(_verb.run)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"rgbd-inspection {metadata.version('rgbd-inspection')}")
        raise typer.Exit


@app.callback(
    epilog=example(
        "trainer train mats parts/washer --out runs/washer",
        "trainer evaluate runs/washer",
        "trainer export runs/washer --product washer --version 1.0.0 --key line.key",
    )
)
def _describe(
    version: bool = typer.Option(
        False,
        "--version",
        help="Print the version and exit.",
        callback=_print_version,
        is_eager=True,
    ),
) -> None:
    """Train a detector on good parts, evaluate it, and export it as a signed bundle."""
    del version


class ToStderr(logging.Handler):
    """Writes to stderr as it is now: a bar that is shown puts such lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError, TypeError):  # a line that cannot be told ends no training
            self.handleError(record)


def run_command() -> None:
    """Run the command line; what the user can act on is one sentence on stderr and exit code 1.

    That is an EdgeError, and whatever the operating system refuses. A bug keeps its traceback.
    """
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[ToStderr()],
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
