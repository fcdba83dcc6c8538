"""`edge install BUNDLE --flash BOARD`: a board from the carton becomes a station."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge.errors import ConfigError
from jetson.boards import board_named
from jetson.bsp import read_bsp
from jetson.fleet import read_fleet
from jetson.plan import Order, Prepare, check_order, steps_of
from jetson.steps import BoardLog, Step
from jetson.usb import find_in_recovery, nvidia_devices, require_in_recovery

NVIDIA_LOGS = "initrdlog"  # of l4t_initrd_flash.sh, one file per board
LICENSE = (
    "NVIDIA's license of Jetson Linux is yours to accept: read the license files of the BSP"
    " (Tegra_Software_License_Agreement-Tegra-Linux.txt and rootfs/usr/share/doc), then say"
    " --accept-license"
)


def make_order(
    bundle: Path, board: str, bsp: Path, provision: Path, station: str | None, mass: int | None
) -> Order:
    """Read and check everything that needs no board.

    mass: how many boards at most are flashed together; None: one board, the station named.
    Raises: ConfigError.
    """
    kind, fleet = board_named(board), read_fleet(provision)
    if mass is None:
        stations = [fleet.station(station)]
    elif len(fleet.stations) > mass:
        raise ConfigError(
            f"--mass {mass}: {provision} has {len(fleet.stations)} stations: raise the number, or"
            " make a file of fewer"
        )
    else:
        stations = fleet.stations
    order = Order(
        kind,
        read_bsp(bsp, kind, fleet.jetpack),
        fleet,
        provision.absolute().parent,
        bundle.absolute(),
        stations,
        together=mass is not None,
    )
    check_order(order)
    return order


def show(order: Order, steps: Sequence[Step], devices_root: Path = Path("/")) -> Iterator[str]:
    """The lines of a dry run."""
    yield f"{order.board.title}, {order.bsp.release} (Jetson Linux {order.bsp.linux})"
    yield f"configuration {order.configuration}, system on {order.storage}"
    found = find_in_recovery(order.board, nvidia_devices(devices_root))
    for device in found:
        yield f"in recovery mode: {order.board.recovery[device.product]}, USB port {device.port}"
    if not found:
        yield "in recovery mode: none; a flash needs one"
    for number, step in enumerate(steps, 1):
        yield f"{number}. {step.shown()}"


def perform(
    order: Order,
    prepare: Prepare,
    ask: Callable[[str], object],
    say: Callable[[str], object],
    logs: Path,
    devices_root: Path = Path("/"),
) -> Path:
    """Do the steps for the board in recovery mode; returns the log.

    say: is given a line per step.
    Raises: ConfigError if no board waits, FlashError if one of NVIDIA's tools fails. What was
        prepared stays in the BSP, and the same call begins again; the log tells how far it came.
    """
    require_in_recovery(order.board, nvidia_devices(devices_root))
    steps = steps_of(order, prepare, ask)
    name = "together" if order.together else order.stations[0].name
    log = BoardLog(logs, name)
    before = set((order.bsp.folder / NVIDIA_LOGS).glob("*.log"))
    try:
        for number, step in enumerate(steps, 1):
            line = f"{number}/{len(steps)} {step.shown()}"
            say(line)
            log.say(line)
            step.perform(log)
        log.say("flashed")
    except BaseException as error:
        log.say(f"not flashed: {type(error).__name__}: {error}")
        raise
    finally:
        _keep_nvidia_logs(order.bsp.folder / NVIDIA_LOGS, before, log.path)
        log.close()
    return log.path


def require_allowed(accept_license: bool) -> None:
    """Require that the user has accepted NVIDIA's license, and is root, as NVIDIA's tools require.

    Raises: ConfigError.
    """
    if not accept_license:
        raise ConfigError(LICENSE)
    if os.geteuid() != 0:
        raise ConfigError("NVIDIA's flash tools run as root only: give the command with sudo")


def _keep_nvidia_logs(folder: Path, before: set[Path], log: Path) -> None:
    """NVIDIA's own log of each board, beside ours and under its name."""
    for path in sorted(set(folder.glob("*.log")) - before):
        shutil.copyfile(path, log.with_name(f"{log.stem}-{path.name}"))
