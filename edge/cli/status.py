"""`edge status`."""

from __future__ import annotations

from pathlib import Path

from edge.cli.root import root_option


def status(root: Path = root_option()) -> None:
    """One screen: product, engine, threshold and its guarantee; camera, broker and why not, disk,
    clock, last verdict.

    It needs no running service, and no broker: what runs is asked through a file.
    """
    from edge.install.status import operating_lines, status_lines
    from edge.runtime.status_facts import live_lines
    from edge.station.store import Store

    store = Store(root)
    with store.acting():  # SQLite changes the owner of files beside a database that it reads
        lines = status_lines(store)
        if store.active_product() is not None:
            lines += [*live_lines(store), *operating_lines(store)]
    for line in lines:
        print(line)
