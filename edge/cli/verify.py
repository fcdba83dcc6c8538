"""`edge verify`."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.options import product_option, root_option
from edge.usage import example

EXAMPLE = example("edge verify", "edge verify --root ./station --product washer")


def verify(root: Path = root_option(), product: str | None = product_option()) -> None:
    """Repeat the proof on this machine: every file's digest, then the bundle's frames through every
    engine.

    Exit code 1 if the engine that judges does not decide as the trained model did, or its threshold
    is not the one that is kept. Nothing is written under the root, which may be of another machine
    or read-only.
    """
    from edge.config import read_config
    from edge.install.verify import verify_installed
    from edge.station.store import Store

    store, runtime = Store(root), read_config(root).runtime
    installed = store.installed(product) if product is not None else store.active()
    with store.inside():
        report = verify_installed(store, installed, runtime.threads, runtime.precision)
    for line in report.lines():
        print(line)
    if not report.passed:
        raise typer.Exit(1)
