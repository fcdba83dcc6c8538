"""`edge run`: camera to one verdict per part on MQTT, until stopped."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.root import root_option


def run(
    root: Path = root_option(),
    source: Path | None = typer.Option(
        None, help="play these images or this .db3 instead of the configured camera", readable=False
    ),
    max_parts: int | None = typer.Option(None, min=1, help="end after so many parts"),
    once: bool = typer.Option(
        False, help="play a source once and end; without it files are played for ever"
    ),
) -> None:
    """Judge what passes the camera: one verdict per part on MQTT, until stopped."""
    from edge.runtime.stopping import StopSignals

    signals = StopSignals()
    signals.install()  # before anything that takes time: asked to stop, it ends with 0
    from edge.runtime.run import run_station

    parts = run_station(root, source=source, max_parts=max_parts, once=once, signals=signals)
    typer.echo(f"{parts} parts decided", err=True)
