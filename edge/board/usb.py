"""RealSense cameras on this machine's USB ports, and what lets the station use them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.board.reading import entries, read_number, read_small

DEVICES = Path("sys/bus/usb/devices")
INTEL = "8086"  # vendor of every RealSense, also since they are made by RealSense Inc.
RULES = ("etc/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d", "run/udev/rules.d")
OF_CAMERAS = re.compile(r"idVendor\W+8086", re.IGNORECASE)
OF_GPIO = re.compile(r'(SUBSYSTEM|KERNEL)=="gpio(chip)?', re.IGNORECASE)
SUPER_SPEED = 5000  # Mbit/s: USB 3


@dataclass(frozen=True)
class UsbCamera:
    """One camera. port: its name in /sys/bus/usb/devices. speed: Mbit/s, None if unknown.
    may_sleep: the kernel may suspend it; None if unknown. node: its device file.
    """

    port: str
    product: str
    serial: str
    speed: int | None
    may_sleep: bool | None
    node: Path | None


def usb_cameras(root: Path) -> tuple[UsbCamera, ...]:
    """By port. Other devices of Intel, such as a Bluetooth radio, are none."""
    return tuple(_cameras(root))


def _cameras(root: Path) -> Iterator[UsbCamera]:
    for device in entries(root / DEVICES):
        product = read_small(device / "product") or ""
        if read_small(device / "idVendor") != INTEL or "RealSense" not in product:
            continue
        speed, serial = read_number(device / "speed"), read_small(device / "serial") or ""
        yield UsbCamera(
            device.name, product, serial, speed, _may_sleep(device), _node(root, device)
        )


def _may_sleep(device: Path) -> bool | None:
    """`control` is "on" (never) or "auto"; with a negative delay "auto" never does either."""
    control = read_small(device / "power/control")
    if control is None:
        return None
    delay = read_number(device / "power/autosuspend_delay_ms")
    return control != "on" and not (delay is not None and delay < 0)


def _node(root: Path, device: Path) -> Path | None:
    bus, number = read_number(device / "busnum"), read_number(device / "devnum")
    return None if bus is None or number is None else root / f"dev/bus/usb/{bus:03}/{number:03}"


def camera_rules(root: Path) -> list[Path]:
    """The files of udev that say who may use a RealSense."""
    return _rules(root, OF_CAMERAS)


def gpio_rules(root: Path) -> list[Path]:
    """The files of udev that say who may use GPIO chips."""
    return _rules(root, OF_GPIO)


def _rules(root: Path, about: re.Pattern[str]) -> list[Path]:
    files = [path for folder in RULES for path in entries(root / folder, "*.rules")]
    return [path for path in files if about.search(read_small(path) or "")]


def video_driver(root: Path) -> str | None:
    """The version of the kernel's uvcvideo, which librealsense's patch names "realsense"; None
    where it is not loaded.
    """
    return read_small(root / "sys/module/uvcvideo/version")
