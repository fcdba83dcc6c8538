"""`edge trust`."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.root import root_option


def trust(
    public_key: Path = typer.Argument(..., help="The .pub file that `trainer keygen` wrote."),
    root: Path = root_option(),
) -> None:
    """Accept bundles signed with this key from now on. Compare the key's number with the one the trainer printed."""
    from edge.bundle.store import Store

    key = Store(root).trust(public_key)
    print(f"{root} trusts key {key.keyid}")
