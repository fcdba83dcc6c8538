"""`edge status`."""

from __future__ import annotations

from pathlib import Path

import typer


def status(root: Path = typer.Option(Path("/"), help="Root of the station.")) -> None:
    """What judges on this station: product, engine, threshold and its guarantee. Needs no running service."""
    from edge.bundle.status import status_lines
    from edge.bundle.store import Store

    for line in status_lines(Store(root)):
        print(line)
