"""`edge status`."""

from __future__ import annotations

from pathlib import Path

from edge.cli.root import root_option


def status(root: Path = root_option()) -> None:
    """What judges on this station: product, engine, threshold and its guarantee. Needs no running service."""
    from edge.bundle.status import status_lines
    from edge.bundle.store import Store

    for line in status_lines(Store(root)):
        print(line)
