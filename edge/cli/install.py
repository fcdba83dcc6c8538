"""`edge install`."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli.root import root_option


def install(
    bundle: Path = typer.Argument(
        ..., help="The .bundle file that `trainer export` wrote.", readable=False
    ),
    root: Path = root_option("; a folder makes a station of its own"),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Do every check, golden frames too; change nothing."
    ),
    allow_downgrade: bool = typer.Option(
        False,
        "--allow-downgrade",
        help=(
            "Also a version that is not newer than the product's current one, or the same version"
            " with other content."
        ),
    ),
    station: str | None = typer.Option(
        None,
        help=(
            "Name this station, in the MQTT topics and in the records' ids, where station.toml does"
            " not yet."
        ),
    ),
) -> None:
    """Verify a bundle, prove and time its engines on this machine, make it the current one of its
    product.

    The fastest engine that is proven judges, with the threshold measured on its own scores of the
    bundle's normal parts.

    Versions are compared piece by piece with the current one: numbers as numbers (1.10 is newer
    than 1.9), 1.0 is 1.0.0, letters such as rc come before what they are a preview of. To go back
    there is `edge bundle rollback`.

    Nothing changes under ROOT unless every check passes; the bundle that was active stays active
    until the last step. A running `edge run` takes the new bundle between two parts.
    """
    from edge.config import PLACE, name_station, require_nameable
    from edge.install.install import install_bundle
    from edge.station.store import Store

    if station is not None:
        require_nameable(root, station)
    for line in install_bundle(
        bundle, root, dry_run=dry_run, allow_downgrade=allow_downgrade
    ).lines():
        print(line)
    if station is not None and not dry_run:
        with Store(root).inside(PLACE.parent):
            name_station(root, station)
        print(f"{root / PLACE}: this station is named {station}")
