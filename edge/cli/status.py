"""`edge status`."""

from __future__ import annotations

from pathlib import Path

from edge.cli.options import root_option
from edge.usage import example

EXAMPLE = example("edge status", "edge status --root ./station")


def status(root: Path = root_option()) -> None:
    """One screen: product, engine, threshold and its guarantee; camera, broker, disk, clock, last
    verdict, and the reason of whatever does not work.

    It needs no broker and no running service: a running one writes its state to a file each second.
    """
    from edge.install.summary import operating_lines, status_lines
    from edge.runtime.status_facts import live_lines
    from edge.station.store import Store

    store = Store(root)
    with store.acting():  # SQLite changes the owner of files beside a database that it reads
        lines = status_lines(store)
        if store.active_product() is not None:
            lines += [*live_lines(store), *operating_lines(store)]
    for line in lines:
        print(line)
