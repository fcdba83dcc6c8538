"""`trainer keygen`: the key pair that bundles are signed with."""

from __future__ import annotations

from pathlib import Path

import typer


def keygen(
    name: Path = typer.Argument(
        ...,
        metavar="NAME",
        help="Where to write: NAME.key and NAME.pub, for example `line`.",
        readable=False,
    ),
) -> None:
    """Make the key pair that a line's bundles are signed with.

    NAME.key signs and stays on this workstation (mode 0600, back it up). NAME.pub goes to every
    station: `edge trust NAME.pub`. An existing key is never overwritten.
    """
    from edge.bundle.key_files import generate_key, read_public_key

    key, public = generate_key(name)
    print(f"wrote {key} (keep it secret) and {public}")
    print(f"key {read_public_key(public).keyid}")
    print(f"next: copy {public.name} to every station and run `edge trust {public.name}` there")
