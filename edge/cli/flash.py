"""`edge install BUNDLE --flash BOARD`: its options, and how it talks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from edge.errors import ConfigError

BOARD = typer.Option(
    None,
    "--flash",
    help=(
        "Flash a Jetson in recovery mode on this workstation, by NVIDIA's own tools, and make it a"
        " station: orin-nano, orin-nx, agx-orin or thor."
    ),
    metavar="BOARD",
)
BSP = typer.Option(
    None, help="With --flash: NVIDIA's unpacked Linux_for_Tegra.", readable=False, metavar="FOLDER"
)
PROVISION = typer.Option(
    None,
    help="With --flash: what the boards of this fleet get, a line per station (provision.toml).",
    readable=False,
    metavar="FILE",
)
MASS = typer.Option(
    None,
    min=1,
    help="With --flash: all stations of the fleet at once, at most so many boards.",
    metavar="N",
)
LICENSE = typer.Option(
    False, "--accept-license", help="With --flash: you have read and accept NVIDIA's license."
)
LOGS = typer.Option(
    Path("flash-logs"),
    help="With --flash: folder of the logs, one for each board.",
    readable=False,
    metavar="FOLDER",
)


@dataclass(frozen=True)
class FlashOptions:
    """What was said beside --flash."""

    board: str | None
    bsp: Path | None
    provision: Path | None
    mass: int | None
    accept_license: bool
    logs: Path

    def is_meant(self) -> bool:
        """Whether a board is to be flashed. Raises: ConfigError for what means something with
        --flash only.
        """
        used = {"--bsp": self.bsp, "--provision": self.provision, "--mass": self.mass}
        for name, value in {**used, "--accept-license": self.accept_license or None}.items():
            if self.board is None and value is not None:
                raise ConfigError(f"{name} belongs to --flash BOARD: add it, or leave {name} out")
        return self.board is not None


def flash_board(
    bundle: Path, options: FlashOptions, station: str | None, dry_run: bool, others: bool
) -> None:
    """Flash a board, or show every step that this would take.

    others: whether an option was given that has no meaning here.
    Raises: EdgeError.
    """
    from edge.install.rootfs import prepare_rootfs
    from jetson.flash import make_order, perform, require_allowed, show
    from jetson.plan import steps_of

    if options.board is None or options.bsp is None or options.provision is None:
        raise ConfigError(
            "--flash needs --bsp, NVIDIA's unpacked Linux_for_Tegra, and --provision, the fleet's"
            " file: name both"
        )
    if others:
        raise ConfigError(
            "--flash makes a station of a board in recovery mode, as provision.toml says: leave"
            " --root, --rootfs, --to, --package, --trust, --power-mode, --clocks and"
            " --allow-downgrade out"
        )
    if station is not None and options.mass is not None:
        raise ConfigError("--mass flashes every station of the fleet: leave --station out")
    order = make_order(bundle, options.board, options.bsp, options.provision, station, options.mass)
    if dry_run:
        for line in show(order, steps_of(order, prepare_rootfs, _ask)):
            print(line)
        return
    require_allowed(options.accept_license)
    log = perform(order, prepare_rootfs, _ask, _say, options.logs)
    print(f"flashed; {log}. Next, on the board: `edge status`")


def _say(line: str) -> None:
    print(line, flush=True)


def _ask(sentence: str) -> None:
    """Wait for a person. Raises: ConfigError where nobody can answer."""
    try:
        input(f"{sentence}, then press Enter. ")
    except EOFError as error:
        raise ConfigError(
            f"{sentence}: nobody can confirm it here, run this in a terminal"
        ) from error
