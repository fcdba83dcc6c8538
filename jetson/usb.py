"""Which boards wait in recovery mode, as Linux lists USB devices in /sys/bus/usb/devices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.errors import ConfigError
from jetson.boards import BOARDS, NVIDIA, RUNNING, Board

DEVICES = Path("sys/bus/usb/devices")


@dataclass(frozen=True)
class OnUsb:
    """One device of NVIDIA. port: as the kernel names it, such as 1-3. product: four hex digits."""

    port: str
    product: str


def nvidia_devices(root: Path = Path("/")) -> list[OnUsb]:
    """The devices of NVIDIA on this machine's USB ports, by port."""
    folders = sorted((root / DEVICES).glob("*-*"))
    found = [OnUsb(folder.name, _read(folder / "idProduct")) for folder in folders if _is(folder)]
    return [device for device in found if device.product]


def find_in_recovery(board: Board, devices: list[OnUsb]) -> list[OnUsb]:
    """Those that are boards of this kind in recovery mode."""
    return [device for device in devices if device.product in board.recovery]


def require_in_recovery(board: Board, devices: list[OnUsb], at_most: int = 1) -> list[OnUsb]:
    """The boards of this kind that wait to be flashed: at least one, and no more than `at_most`.

    Raises: ConfigError saying what is connected instead, and what to do.
    """
    found = find_in_recovery(board, devices)
    if 1 <= len(found) <= at_most:
        return found
    if found:
        ports = ", ".join(device.port for device in found)
        raise ConfigError(
            f"{len(found)} boards are in recovery mode (USB ports {ports}), and NVIDIA's tools take"
            f" {at_most} here: unplug the others, or flash them together with --mass"
        )
    raise ConfigError(
        f"no {board.title} in recovery mode is on a USB port of this machine"
        f"{_what_instead(devices)}: connect the board's flashing port, keep its recovery button (or"
        " FC REC and GND) closed while power comes on, and use no hub"
    )


def _what_instead(devices: list[OnUsb]) -> str:
    for device in devices:
        for other in BOARDS:
            if device.product in other.recovery:
                module = other.recovery[device.product]
                return f", but the module {module} is: name it with --flash {other.name}"
        if device.product == RUNNING:
            return ", but a board that runs its system is"
    return ""


def _is(folder: Path) -> bool:
    return _read(folder / "idVendor") == NVIDIA


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip().lower()
    except (OSError, UnicodeDecodeError):
        return ""  # an interface of a device, or unplugged meanwhile
