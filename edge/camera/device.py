"""What a camera tells of itself besides its frames: USB type and port, temperature, and the digest
of its calibration table.

Verified: the functions run in the tests on librealsense's software device and on stand-ins for what
it lacks; never executed on a real camera.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, Field

log = logging.getLogger(__name__)

# v4l2: .../usb2/2-1/2-1.4/2-1.4:1.0/video4linux/video0; libusb: BUS-PORTS-ADDRESS, as 2-1.4-7
IN_SYSFS = re.compile(r"/(\d+-\d+(?:\.\d+)*)(?=[:/])")
OF_LIBUSB = re.compile(r"(\d+-\d+(?:\.\d+)*)-\d+")


class DeviceFacts(BaseModel, extra="forbid", frozen=True, allow_inf_nan=False):
    """None where the camera does not tell it.

    usb: the type of the connection, such as "3.2"; "2.1" has too little bandwidth. port: its name
    in /sys/bus/usb/devices. calibration: SHA-256 of the table in its flash memory, hex.
    temperature_c: of the depth processor, degrees Celsius.
    """

    usb: str | None = Field(default=None, max_length=32)
    port: str | None = Field(default=None, max_length=64)
    calibration: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    temperature_c: float | None = None


NOTHING_TOLD = DeviceFacts()


@runtime_checkable
class TellsOfItself(Protocol):
    """A camera that knows more than its frames."""

    def device_facts(self) -> DeviceFacts:
        """What the device tells now. Raises: CameraLost."""
        ...


def read_facts(rs: Any, device: Any) -> DeviceFacts:
    """Ask a librealsense device that does not stream yet: everything but the temperature, which a
    RealSense tells only while it streams.

    Raises: RuntimeError if the driver does; where only the calibration cannot be read, that is
    logged.
    """

    def told(name: Any) -> str | None:
        return str(device.get_info(name)) if device.supports(name) else None

    return DeviceFacts(
        usb=told(rs.camera_info.usb_type_descriptor),
        port=port_of(told(rs.camera_info.physical_port) or ""),
        calibration=_calibration(device),
    )


def read_temperature(rs: Any, sensors: Any) -> float | None:
    """Of the first sensor that has one, degrees Celsius; None where none can be read."""
    option = rs.option.asic_temperature
    for sensor in sensors:
        if sensor.supports(option):
            with contextlib.suppress(RuntimeError):
                return round(float(sensor.get_option(option)), 1)
    return None


def port_of(physical_port: str) -> str | None:
    """The port's name in /sys/bus/usb/devices out of what librealsense calls physical port; None if
    it is of another form.
    """
    found = IN_SYSFS.findall(physical_port)
    if found:
        return str(found[-1])
    whole = OF_LIBUSB.fullmatch(physical_port)
    return None if whole is None else whole[1]


def _calibration(device: Any) -> str | None:
    """SHA-256 of the calibration table; None for a device without one, or if it cannot be read."""
    if not device.is_auto_calibrated_device():
        return None
    try:
        table = bytes(device.as_auto_calibrated_device().get_calibration_table())
    except RuntimeError as error:
        log.warning("the camera's calibration table cannot be read, nor compared: %s", error)
        return None
    return hashlib.sha256(table).hexdigest()
