"""`edge install`."""

from __future__ import annotations

from pathlib import Path

import typer

from edge.cli import flash as flashing
from edge.cli.install_elsewhere import Elsewhere
from edge.cli.options import root_option
from edge.errors import ConfigError
from edge.usage import example

EXAMPLE = example(
    "edge install washer-1.0.0.bundle --station cell7",
    "edge install washer-1.0.0.bundle --power-mode MAXN_SUPER --clocks max    # on a Jetson",
    "edge install washer-1.0.0.bundle --root ./station --dry-run",
    "edge install washer-1.0.0.bundle --to user@board --package edge-station.deb --trust line.pub",
    "edge install washer-1.0.0.bundle --rootfs Linux_for_Tegra/rootfs --trust line.pub",
    "edge install washer-1.0.0.bundle --flash orin-nano --bsp Linux_for_Tegra --provision"
    " provision.toml --dry-run",
)


def install(
    bundle: Path = typer.Argument(
        ..., help="The .bundle file that `trainer export` wrote.", readable=False, metavar="BUNDLE"
    ),
    root: Path = root_option("; a folder makes a station of its own"),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Do every check, the proof included; change nothing."
    ),
    allow_downgrade: bool = typer.Option(
        False,
        "--allow-downgrade",
        help=(
            "Accept a version that is not newer than the product's current one, or the same version"
            " with other content."
        ),
    ),
    station: str | None = typer.Option(
        None,
        help=(
            "Name of this station in MQTT topics and record ids, if station.toml does not name it"
            " yet."
        ),
        metavar="NAME",
    ),
    power_mode: str | None = typer.Option(
        None,
        "--power-mode",
        help="Power mode of a Jetson to set and to record, such as MAXN_SUPER.",
        metavar="MODE",
    ),
    clocks: str | None = typer.Option(
        None,
        "--clocks",
        help="max: every clock of a Jetson stays at its highest; default: they follow the load.",
        metavar="max|default",
    ),
    to: str | None = typer.Option(
        None, help="Install on another machine, over ssh.", metavar="USER@HOST"
    ),
    rootfs: Path | None = typer.Option(
        None,
        help="Prepare a root file system before it is flashed or booted.",
        readable=False,
        metavar="FOLDER",
    ),
    package: Path | None = typer.Option(
        None,
        help="With --to or --rootfs: the .deb of edge-station, installed there first.",
        readable=False,
        metavar="DEB",
    ),
    trust: list[Path] = typer.Option(
        [],
        help="With --to or --rootfs: a .pub file to trust there; may be repeated.",
        readable=False,
        metavar="FILE",
    ),
    ssh_option: list[str] = typer.Option(
        [],
        help="With --to: an option as `ssh -o` takes it, such as Port=2222; may be repeated.",
        metavar="OPTION",
    ),
    flash: str | None = flashing.BOARD,
    bsp: Path | None = flashing.BSP,
    provision: Path | None = flashing.PROVISION,
    mass: int | None = flashing.MASS,
    accept_license: bool = flashing.LICENSE,
    logs: Path = flashing.LOGS,
) -> None:
    """Verify a bundle, prove and time its engines on this machine, make it its product's current
    bundle.

    The fastest proven engine judges. Its threshold is measured on its own scores of the bundle's
    normal parts.

    Versions are compared number by number with the current one: 1.10 is newer than 1.9, 1.0 equals
    1.0.0, and a preview such as 1.0rc1 comes before 1.0. `edge bundle rollback` goes back.

    Nothing changes under the root unless every check passes; the active bundle stays active until
    the last step. A running `edge run` takes the new bundle between two parts.

    Power mode and clocks are set before the engines are timed, and only if the bundle is sound. On
    a Jetson the first installation records what the board is in; a station that starts in another
    mode is degraded.

    With --flash a Jetson from the carton becomes a station; --dry-run shows every command line.

    --to and --rootfs do the same elsewhere, with the software and the key that it takes:
    docs/install.md.
    """
    options = flashing.FlashOptions(flash, bsp, provision, mass, accept_license, logs)
    elsewhere = Elsewhere(to, rootfs, package, trust, ssh_option)
    power = (power_mode, clocks)
    if options.is_meant():
        others = [root != Path("/"), allow_downgrade, elsewhere.is_meant(root), any(power)]
        flashing.flash_board(bundle, options, station, dry_run, any(others))
    elif elsewhere.is_meant(root):
        if any(power):
            raise ConfigError(
                "--power-mode and --clocks are set on the board itself: give them there, or in"
                " provision.toml of --flash"
            )
        code = elsewhere.install(bundle, root, station, allow_downgrade, dry_run)
        raise typer.Exit(code)
    else:
        _install_here(bundle, root, station, power, allow_downgrade, dry_run)


def _install_here(
    bundle: Path,
    root: Path,
    station: str | None,
    power_options: tuple[str | None, str | None],
    allow_downgrade: bool,
    dry_run: bool,
) -> None:
    from edge.config import PLACE, name_station, require_nameable
    from edge.install.install import install_bundle
    from edge.install.power import keep_power, set_power, wanted_power
    from edge.station.store import Store

    if station is not None:
        require_nameable(root, station)
    power = wanted_power(root, *power_options)
    if not dry_run:
        set_power(bundle, root, power)
    installed = install_bundle(bundle, root, dry_run=dry_run, allow_downgrade=allow_downgrade)
    for line in [*installed.lines(), *([] if dry_run else keep_power(root, power))]:
        print(line)
    if station is not None and not dry_run:
        with Store(root).inside(PLACE.parent):
            name_station(root, station)
        print(f"{root / PLACE}: this station is named {station}")
