"""What the station can do to a camera that its own process cannot mend: reset its hardware, and ask
for its USB port to be restarted.

Verified: in the tests on stand-ins for the driver and for /sys; on a real camera and under a
running systemd: never executed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Set
from pathlib import Path
from typing import Protocol

from edge.camera.device import DeviceFacts
from edge.camera.hardware_reset import LIMIT_S as RESET_S
from edge.camera.hardware_reset import reset_hardware
from edge.camera.usb_reset import DEVICES, REQUEST, VENDOR
from edge.errors import CameraError
from edge.files import make_folder
from edge.sections import CameraConfig
from edge.units import has_unit

PATH_UNIT = "edge-usb-reset.path"
LEAVE_S = 3.0  # from a reset until the device has left the bus
RETURN_S = 15.0  # from a reset until the device is back
TAKEN_S = 5.0  # until the root unit has taken a request
SETTLE_S = 2.0  # from the request that was taken to a port that is restarted
LOOK_S = 0.1


class Remedies(Protocol):
    """Each remedy returns what came of it, in a clause, or raises CameraError, saying why it was
    not done. advice: what is left to do by hand.
    """

    advice: str

    def reset_hardware(self, told: DeviceFacts, /) -> str:
        """Reset the device. told: what it told before it was lost."""
        ...

    def restart_port(self, told: DeviceFacts, /) -> str:
        """Have the device's USB port restarted."""
        ...


class NoDevice:
    """For a camera that plays files."""

    advice = "check the files that [camera] of station.toml names, and their disk"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def reset_hardware(self, _told: DeviceFacts) -> str:
        """Raises: CameraError: there is no device."""
        raise CameraError(f"a camera of kind {self._kind} has no device")

    restart_port = reset_hardware


class RealSenseRemedies:
    """For the RealSense of this station.

    root: of the station, below which /sys and the request lie. moved: called after each wait that
    has an end, for the watchdog. stopping: ends every wait.
    """

    advice = (
        "unplug the camera and plug it in again, try another cable and port, then restart the"
        " machine"
    )

    def __init__(
        self, serial: str, root: Path, moved: Callable[[], None], stopping: threading.Event
    ) -> None:
        self._serial, self._root = serial, root
        self._moved, self._stopping = moved, stopping

    def reset_hardware(self, told: DeviceFacts) -> str:
        """Within RESET_S and, until the device is back on the bus, RETURN_S.

        Raises: CameraError if the driver did not do it.
        """
        port, ports = told.port or self._only_port(), self._ports()
        before = self._device_number(port)
        try:
            reset_hardware(self._serial, RESET_S)
        finally:
            self._moved()
        if before is not None:
            self._wait(lambda: self._device_number(port) != before, LEAVE_S)
        is_back = self._wait(lambda: self._is_there(port, ports), RETURN_S)
        self._moved()
        return "done" if is_back else f"done, but no device came back within {RETURN_S:g} s"

    def restart_port(self, told: DeviceFacts) -> str:
        """Ask the root unit, and wait until it has taken the request.

        Raises: CameraError where there is no such unit, it does not answer, or the port is not
            known.
        """
        if not has_unit(self._root, PATH_UNIT):
            raise CameraError(f"{PATH_UNIT} is not installed")
        port, ports = told.port or self._only_port(), self._ports()
        if port is None:
            raise CameraError("the camera's USB port is not known: no RealSense is on the bus")
        if self._device_number(port) is None:
            raise CameraError(f"no device is at USB port {port}")
        request = self._root / REQUEST
        _leave(request, port)
        if not self._wait(lambda: not request.exists(), TAKEN_S):
            request.unlink(missing_ok=True)
            raise CameraError("nobody takes the request: `systemctl start edge-usb-reset.path`")
        self._stopping.wait(SETTLE_S)
        is_back = self._wait(lambda: self._is_there(port, ports), RETURN_S)
        self._moved()
        return f"port {port} restarted" if is_back else f"no device came back at port {port}"

    def _wait(self, is_so: Callable[[], object], limit_s: float) -> bool:
        """Until it is so, the time is up or the station stops."""
        end_s = time.monotonic() + limit_s
        while not is_so():
            if time.monotonic() >= end_s or self._stopping.wait(LOOK_S):
                return False
        return True

    def _is_there(self, port: str | None, ports: Set[str]) -> bool:
        """Whether the device is at its port, or has been plugged in at another.

        ports: with a RealSense before.
        """
        return self._device_number(port) is not None or bool(self._ports() - ports)

    def _device_number(self, port: str | None) -> str | None:
        """Of the device at the port, anew with each enumeration; None where there is none."""
        return None if port is None else _text(self._root / DEVICES / port / "devnum")

    def _only_port(self) -> str | None:
        """Where the only RealSense of this machine is plugged in."""
        ports = self._ports()
        return next(iter(ports)) if len(ports) == 1 else None

    def _ports(self) -> Set[str]:
        """Where a RealSense is plugged in."""
        return {
            one.parent.name
            for one in (self._root / DEVICES).glob("*-*/idVendor")
            if _text(one) == VENDOR and "RealSense" in (_text(one.with_name("product")) or "")
        }


def remedies_for(
    config: CameraConfig, root: Path, moved: Callable[[], None], stopping: threading.Event
) -> Remedies:
    """The remedies for the camera of [camera]. moved, stopping: as RealSenseRemedies takes them."""
    if not config.is_live:
        return NoDevice(config.kind)
    return RealSenseRemedies(config.serial, root, moved, stopping)


def _text(path: Path) -> str | None:
    """The content of a file of /sys; None while it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _leave(request: Path, port: str) -> None:
    """Raises: CameraError if the request cannot be written."""
    half = request.with_name(f".{request.name}.new")
    try:
        make_folder(request.parent)
        half.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(half, flags, 0o644), "w", encoding="ascii") as file:
            file.write(port)
        half.replace(request)
    except OSError as error:
        raise CameraError(f"{request} cannot be written ({error.strerror})") from error
