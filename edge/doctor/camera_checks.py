"""The camera: what plugs it in, who may use it, and what the kernel and its firmware know of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.board.usb import (
    SUPER_SPEED,
    UsbCamera,
    camera_rules,
    gpio_rules,
    usb_cameras,
    video_driver,
)
from edge.doctor.finding import Finding, Subject, right, unknown, wrong
from edge.errors import MissingDependency
from edge.optional import optional_module

RULES = "install the package edge-station, which brings them, then plug the camera in again"
NEVER_SLEEPS = "set usbcore.autosuspend=-1 on the kernel's command line, or write `on` to"
FIRMWARE = "rs-fw-update, of librealsense, brings another; then calibrate the station anew"
PATCH = (
    "without librealsense's patch of the kernel a frame tells less of its exposure: docs/camera.md"
)


def camera(subject: Subject) -> Finding:
    """Whether the camera of station.toml is plugged in."""
    wanted = subject.config.camera
    if not wanted.is_live:
        return right(f"{wanted.kind}: files are played, no camera is needed")
    found = usb_cameras(subject.machine)
    named = [one for one in found if wanted.serial in ("", one.serial)]
    if len(named) == 1:
        return right(f"{named[0].product}, USB port {named[0].port}")
    if not named:
        others = ", ".join(one.serial or one.port for one in found)
        what = f"camera {wanted.serial}" if wanted.serial else "a RealSense"
        return wrong(
            f"{what} is not plugged in" + f" (there are {others})" * bool(others),
            "plug it into a USB 3 port, or correct serial in [camera] of station.toml",
        )
    if wanted.serial == "":
        return wrong(
            f"{len(named)} are plugged in", "set serial in [camera] of station.toml to one of them"
        )
    return unknown(f"{len(named)} tell the serial {wanted.serial}")


def _the_camera(subject: Subject) -> UsbCamera | None:
    """The first camera that the station could use; None where it uses none, or none is there."""
    wanted = subject.config.camera
    if not wanted.is_live:
        return None
    found = usb_cameras(subject.machine)
    return next((one for one in found if wanted.serial in ("", one.serial)), None)


def usb_speed(subject: Subject) -> Finding | None:
    """Whether the camera has USB 3."""
    found = _the_camera(subject)
    if found is None:
        return None
    if found.speed is None:
        return unknown("the kernel does not tell")
    said = f"{found.speed} Mbit/s at USB port {found.port}"
    if found.speed >= SUPER_SPEED:
        return right(said)
    return wrong(
        f"{said}: too little for color and depth",
        "plug it into a USB 3 port (blue, or marked SS), with a USB 3 cable, to the stop",
    )


def autosuspend(subject: Subject) -> Finding | None:
    """Whether the kernel leaves the camera on."""
    found = _the_camera(subject)
    if found is None:
        return None
    if found.may_sleep is None:
        return unknown("the kernel does not tell")
    if not found.may_sleep:
        return right("off: the kernel leaves the camera on")
    return wrong(
        "on: the kernel may suspend the camera",
        f"{NEVER_SLEEPS} /sys/bus/usb/devices/{found.port}/power/control",
    )


def udev(subject: Subject) -> Finding | None:
    """Whether rules let the station's account use the camera, and whether they have been applied to
    it.
    """
    if not subject.config.camera.is_live:
        return None
    rules = camera_rules(subject.machine)
    if not rules:
        return wrong("no rule lets the station's account use a RealSense", RULES)
    found = _the_camera(subject)
    node = None if found is None else found.node
    if node is None or not node.exists():
        return unknown(
            f"{rules[0].name}; whether it was applied, a camera shows", "plug the camera in"
        )
    if not _others_may_use(node):
        return wrong(
            f"{rules[0].name} was not applied to {node}: root alone may use it",
            "`sudo udevadm control --reload && sudo udevadm trigger`, or plug the camera in again",
        )
    return right(f"{rules[0].name}, applied to {node}")


def gpio(subject: Subject) -> Finding | None:
    """Whether the station's account may use the chip of its discrete lines."""
    if not subject.config.gpio.enabled:
        return None
    chips = sorted((subject.machine / "dev").glob("gpiochip*"))
    if not chips:
        return wrong("this machine has no GPIO chip", "correct [gpio] of station.toml")
    closed = [chip.name for chip in chips if not _others_may_use(chip)]
    if not closed:
        return right(f"{len(chips)} chips")
    rules = gpio_rules(subject.machine)
    about = f"{rules[0].name} was not applied to" if rules else "no rule opens"
    return wrong(
        f"{about} {', '.join(closed)}", RULES.replace(", then plug the camera in again", "")
    )


def _others_may_use(node: Path) -> bool:
    """Whether somebody but root may read and write: everybody, or a group other than root's. The
    kernel makes a device 0664 or 0600, of root's group.
    """
    about = node.stat()
    for_group = about.st_gid != 0 and about.st_mode & 0o060 == 0o060
    return for_group or about.st_mode & 0o006 == 0o006


def firmware(subject: Subject) -> Finding | None:
    """Whether the camera's firmware is the one that librealsense recommends."""
    if _the_camera(subject) is None:
        return None
    if not subject.is_here:
        return unknown("the camera of another root is not asked")
    try:
        rs = optional_module("pyrealsense2", "Install the package edge-station")
        told = _firmware(rs, subject.config.camera.serial)
    except (MissingDependency, RuntimeError) as error:
        return unknown(f"librealsense does not tell: {error}")
    if told is None:
        return unknown("the camera does not tell", "it may be in use: stop the station, ask again")
    now, recommended = told
    if not recommended:
        return unknown(f"{now}; librealsense recommends none for this camera")
    if _numbers(now) >= _numbers(recommended):
        return right(now)
    return wrong(f"{now}, librealsense recommends {recommended}", FIRMWARE)


def _firmware(rs: Any, serial: str) -> tuple[str, str] | None:
    """(its version, the recommended one or blank). Raises: RuntimeError if the driver does."""
    info = rs.camera_info
    keys = info.serial_number, info.firmware_version, info.recommended_firmware_version
    for device in rs.context().query_devices():
        told = [str(device.get_info(key)) if device.supports(key) else "" for key in keys]
        if told[1] and serial in ("", told[0]):
            return told[1], told[2]
    return None


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def kernel_metadata(subject: Subject) -> Finding | None:
    """Whether the kernel hands over what the camera tells of each frame."""
    if not subject.config.camera.is_live:
        return None
    driver = video_driver(subject.machine)
    if driver is None:
        return unknown("uvcvideo is not loaded", "plug the camera in")
    if "realsense" in driver:
        return right(f"uvcvideo {driver}")
    return unknown(f"uvcvideo {driver}", PATCH)
