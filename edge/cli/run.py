"""`edge run`: camera to one verdict per part on MQTT, until stopped."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.options import root_option
from edge.usage import example

EXAMPLE = example(
    "edge run", "edge run --root ./station --source line.db3 --once    # without the camera"
)


def run(
    root: Path = root_option(),
    source: Path | None = typer.Option(
        None,
        help="Images or a .db3 recording to play instead of the configured camera.",
        readable=False,
        metavar="PATH",
    ),
    max_parts: int | None = typer.Option(
        None, min=1, help="End after this many parts.", metavar="N"
    ),
    once: bool = typer.Option(
        False, "--once", help="Play files once and end; without it they are played forever."
    ),
) -> None:
    """Judge every part that passes the camera and publish one verdict per part, until stopped.

    Broker, camera and retention are set in etc/edge/station.toml. SIGTERM or Ctrl-C ends the
    station cleanly with exit code 0.
    """
    from edge.runtime.stopping import StopSignals

    signals = StopSignals()
    signals.install()  # before anything that takes time: asked to stop, it ends with 0
    from edge.runtime.run import run_station

    parts = run_station(root, source=source, max_parts=max_parts, once=once, signals=signals)
    typer.echo(f"{parts} parts decided", err=True)
