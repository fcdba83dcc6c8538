"""A RealSense through pyrealsense2: sensors, librealsense's syncer and its align, bytes copied out.

Verified: all of this module runs in the tests, on librealsense's software device
(edge/camera/virtual.py) in place of a camera; it has never been executed on a real camera. The
units of the color sensor's exposure and the options of each model follow librealsense's
documentation.

librealsense is used sensor by sensor and not through its pipeline: a software device cannot enter a
pipeline, and the tests would not cover a second path that only hardware takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as FutureTimeout  # Python 3.10 has two of the name
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.background import Result, in_background
from edge.camera.contract import CameraContract
from edge.camera.device import NOTHING_TOLD, DeviceFacts, read_facts, read_temperature
from edge.camera.protocol import FrameOverdue, NewImage
from edge.errors import CameraError, CameraLost, CameraMismatch
from edge.frames.camera_info import CameraInfo
from edge.optional import optional_module
from edge.types import Frame, Intrinsics

log = logging.getLogger(__name__)

REMEDY = "Install it with `pip install pyrealsense2` and Debian's libusb-1.0-0"
DEFAULT_SIZE = (640, 480)
QUEUE_SIZE = 2  # frame sets that may wait: more would only make them older
CALL_TIMEOUT_S = 10.0  # opening and stopping a sensor take well under a second, or never return

STEP_MS = 20.0  # a larger step between two frames means that the wall clock was set, not slewed
# the driver's own estimate of the wall clock follows a step within seconds
UNSURE_NS = 10_000_000_000

FindDevice = Callable[[Any, str], Any]


@contextmanager
def as_camera_error(serial: str) -> Iterator[None]:
    """Turn librealsense's only exception class into CameraLost: it does not distinguish a late
    frame from a pulled plug.
    """
    try:
        yield
    except RuntimeError as error:
        what = " ".join(str(error).split())  # librealsense's messages may have several lines
        raise CameraLost(
            f"camera {serial or '(any)'}: {what}. Check the USB 3 cable, then open it again"
        ) from error


def call_within(timeout_s: float, what: str, function: Callable[[], Result]) -> Result:
    """Run `function()` in a thread of its own: librealsense's start and stop may block forever.

    Raises: CameraLost after timeout_s, with the thread left behind until the camera's process
        (edge/camera/child.py) ends; otherwise the function's own exception.
    """
    future = in_background(f"camera {what}", function)
    try:
        return future.result(timeout_s)
    except FutureTimeout as error:
        if future.done():
            raise  # raised by the function itself
        sentence = f"the camera driver does not return from {what} within {timeout_s:g} s"
        raise CameraLost(f"{sentence}: unplug the camera and plug it in again") from error


def find_connected(rs: Any, serial: str) -> Any:
    """The camera with this serial number, or the only one for "".

    Raises: CameraLost if it is not there; CameraError if "" is not enough to choose.
    """
    devices = {
        device.get_info(rs.camera_info.serial_number): device
        for device in rs.context().query_devices()
    }
    if serial and serial in devices:
        return devices[serial]
    found = ", ".join(sorted(devices)) or "none"
    if serial or not devices:
        raise CameraLost(
            f"camera {serial or '(any)'} is not connected (found: {found}): check power and USB 3"
            " cable"
        )
    if len(devices) > 1:
        raise CameraError(
            f"several cameras are connected ({found}): name one as camera.serial in station.toml"
        )
    return next(iter(devices.values()))


@dataclass(frozen=True)
class Setting:
    """One option of one sensor. kind: "depth" or "color", the stream whose sensor has it."""

    kind: str
    option: str
    value: float


def settings_of(contract: CameraContract, color_has_own_sensor: bool) -> list[Setting]:
    """The contract's settings in the order in which they must be set; unknown (null) values are
    left as they are.

    A separate color sensor counts exposure in steps of 100 µs, a depth module that also delivers
    color (D405) in µs.
    """
    settings: list[Setting] = []
    if contract.unit is not None:
        settings.append(Setting("depth", "depth_units", contract.unit))
    if contract.exposure_us is not None or contract.gain is not None:
        settings.append(Setting("color", "enable_auto_exposure", 0))
    if contract.exposure_us is not None:
        step_us = 100.0 if color_has_own_sensor else 1.0
        settings.append(Setting("color", "exposure", contract.exposure_us / step_us))
    if contract.gain is not None:
        settings.append(Setting("color", "gain", contract.gain))
    if contract.white_balance is not None:
        settings.append(Setting("color", "enable_auto_white_balance", 0))
        settings.append(Setting("color", "white_balance", contract.white_balance))
    if contract.laser is not None:
        settings.append(Setting("depth", "emitter_enabled", 1.0 if contract.laser > 0 else 0.0))
    if contract.laser:
        settings.append(Setting("depth", "laser_power", contract.laser))
    return settings


def apply_setting(rs: Any, sensor: Any, setting: Setting) -> None:
    """Set one option and read it back.

    Raises: CameraMismatch if the sensor lacks the option, refuses the value or keeps another.
    """
    option = getattr(rs.option, setting.option)
    if not sensor.supports(option):
        raise CameraMismatch(
            f"this camera has no {setting.kind} {setting.option}: the product needs"
            f" {setting.value:g}"
        )
    limits = sensor.get_option_range(option)
    if not sensor.is_option_read_only(option):
        if not limits.min <= setting.value <= limits.max:
            raise CameraMismatch(
                f"{setting.kind} {setting.option} goes from {limits.min:g} to {limits.max:g} on"
                f" this camera, the product needs {setting.value:g}"
            )
        sensor.set_option(option, setting.value)
    kept = float(sensor.get_option(option))
    if abs(kept - setting.value) > max(limits.step, 1e-6 * abs(setting.value)):
        raise CameraMismatch(
            f"{setting.kind} {setting.option} stays at {kept:g} on this camera, the product needs"
            f" {setting.value:g}"
        )


def captured_mono_ns(
    domain: str, timestamp_ms: float, exposure_lag_us: float, now_wall_ms: float, now_mono_ns: int
) -> int:
    """The time of mid-exposure on the host's monotonic clock.

    Args:
        domain: of the timestamp. "global_time" and "system_time" are milliseconds of the host's
            wall clock; a "hardware_clock" cannot be compared with it, so that the arrival counts.
        exposure_lag_us: from mid-exposure to the event that the timestamp marks, 0 where the camera
            does not report it.
        now_wall_ms, now_mono_ns: the host's two clocks, read at the arrival.
    Returns: at most now. If the wall clock was set between exposure and arrival, the age lies
        outside 0 to 10 s, and the arrival counts too.
    """
    if domain == "hardware_clock":
        return now_mono_ns
    age_ms = now_wall_ms - timestamp_ms + exposure_lag_us / 1e3
    if not 0.0 <= age_ms <= 10_000.0:
        return now_mono_ns
    return now_mono_ns - round(age_ms * 1e6)


class ExposureClock:
    """Dates frames by `captured_mono_ns`, or by their usual age just after the wall clock was set.

    A step of the wall clock (NTP answers at last) changes its difference to the monotonic clock.
    For a while the driver still sends timestamps from before the step, which would count as age.
    """

    def __init__(self) -> None:
        # of the wall clock to the monotonic clock, at the previous frame
        self._ahead_ms: float | None = None
        self._unsure_until_ns = 0
        self._usual_age_ns = 0

    def date(
        self,
        domain: str,
        timestamp_ms: float,
        exposure_lag_us: float,
        now_wall_ms: float,
        now_mono_ns: int,
    ) -> int:
        """As `captured_mono_ns`."""
        before_ms, self._ahead_ms = self._ahead_ms, now_wall_ms - now_mono_ns / 1e6
        if before_ms is not None and abs(self._ahead_ms - before_ms) > STEP_MS:
            self._unsure_until_ns = now_mono_ns + UNSURE_NS
        if now_mono_ns < self._unsure_until_ns:
            return now_mono_ns - self._usual_age_ns
        captured_ns = captured_mono_ns(
            domain, timestamp_ms, exposure_lag_us, now_wall_ms, now_mono_ns
        )
        self._usual_age_ns = now_mono_ns - captured_ns
        return captured_ns


class RealSenseCamera:
    """One RealSense, set to a product's contract and read back.

    serial "": the only one that is connected. contract None: its own settings, 640x480.
    find_device: gives librealsense's device, a connected camera unless told otherwise.
    """

    def __init__(
        self,
        serial: str = "",
        contract: CameraContract | None = None,
        fps: int = 30,
        find_device: FindDevice = find_connected,
    ) -> None:
        self._wanted_serial, self._contract, self._fps, self._find_device = (
            serial,
            contract,
            fps,
            find_device,
        )
        self._info: CameraInfo | None = None
        self._facts = NOTHING_TOLD
        self._rs: Any = None
        self._sensors: list[Any] = []
        self._syncer: Any = None
        self._align: Any = None
        self._with_depth = False
        self._clock = ExposureClock()
        self._new_image: NewImage = np.empty

    def copy_into(self, new_image: NewImage) -> None:
        """See edge.camera.protocol.CopiesOut."""
        self._new_image = new_image

    @property
    def serial(self) -> str:
        """The camera's own serial number."""
        return self.info.serial or self._wanted_serial

    @property
    def info(self) -> CameraInfo:
        """The camera's settings, read back. Raises: CameraLost before `open`."""
        if self._info is None:
            raise CameraLost(f"camera {self._wanted_serial or '(any)'} is not open")
        return self._info

    def device_facts(self) -> DeviceFacts:
        """USB type and calibration as they were at the opening, and the temperature now.

        Raises: CameraLost.
        """
        with as_camera_error(self._wanted_serial):
            temperature_c = read_temperature(self._rs, self._sensors) if self._sensors else None
        return self._facts.model_copy(update={"temperature_c": temperature_c})

    def open(self) -> None:
        """Find, set and start the camera. Raises: CameraLost, CameraMismatch, MissingDependency."""
        self._rs = optional_module("pyrealsense2", REMEDY)
        with as_camera_error(self._wanted_serial):
            call_within(CALL_TIMEOUT_S, "opening", self._start)

    def next_frame(self, timeout_s: float) -> Frame:
        """The next pair of color and depth.

        Raises: FrameOverdue if none arrives within timeout_s; CameraLost.
        """
        deadline_s = time.monotonic() + timeout_s
        with as_camera_error(self._wanted_serial):
            while True:
                remaining_ms = round(1000 * (deadline_s - time.monotonic()))
                if remaining_ms <= 0 or self._syncer is None:
                    break
                arrived, frames = self._syncer.try_wait_for_frames(remaining_ms)
                if arrived and self._is_complete(frames):
                    return self._frame(frames)
        name = self._wanted_serial or "(any)"
        raise FrameOverdue(f"camera {name}: no frame within {timeout_s:g} s: check the USB 3 cable")

    def close(self) -> None:
        """Stop the sensors; a driver that does not return is left behind and logged."""
        sensors, self._sensors, self._syncer = self._sensors, [], None

        def stop() -> None:
            for sensor in sensors:
                sensor.stop()
                sensor.close()

        try:
            with as_camera_error(self._wanted_serial):
                call_within(CALL_TIMEOUT_S, "stopping", stop)
        except CameraLost as error:
            log.warning("%s", error)

    def _start(self) -> None:
        rs = self._rs
        device = self._find_device(rs, self._wanted_serial)
        # before the start: a table in flash memory is not read while the camera streams
        self._facts = read_facts(rs, device)
        sensors = list(device.query_sensors())
        color_sensor, color = self._profile(sensors, rs.stream.color, rs.format.rgb8)
        depth_sensor, depth = self._profile(sensors, rs.stream.depth, rs.format.z16)
        if color is None:
            raise CameraMismatch(f"this camera offers no color stream of {self._wanted_stream()}")
        if depth is None and self._contract is not None and self._contract.unit is not None:
            raise CameraMismatch(f"this camera offers no depth stream of {self._wanted_stream()}")
        self._with_depth = depth is not None
        own_sensor = color_sensor is not depth_sensor
        by_kind = {"color": color_sensor, "depth": depth_sensor or color_sensor}
        for setting in settings_of(self._contract, own_sensor) if self._contract else []:
            apply_setting(rs, by_kind[setting.kind], setting)
        self._syncer, self._align = rs.syncer(QUEUE_SIZE), rs.align(rs.stream.color)
        self._sensors = (
            [depth_sensor, color_sensor] if depth is not None and own_sensor else [color_sensor]
        )
        profiles = (
            [[depth], [color]]
            if len(self._sensors) == 2
            else [[p for p in (depth, color) if p is not None]]
        )
        for sensor, wanted in zip(self._sensors, profiles, strict=True):
            _prefer(rs, sensor)
            sensor.open(wanted)
            sensor.start(self._syncer)
        self._info = self._read_back(device, by_kind, color)

    def _wanted_stream(self) -> str:
        width, height = self._size()
        return f"{width}x{height} pixels at {self._rate()} frames/s, which the product needs"

    def _size(self) -> tuple[int, int]:
        return (self._contract.width, self._contract.height) if self._contract else DEFAULT_SIZE

    def _rate(self) -> int:
        return (self._contract.fps if self._contract else None) or self._fps

    def _profile(self, sensors: list[Any], stream: Any, pixel_format: Any) -> tuple[Any, Any]:
        """(sensor, profile) of the stream in the required size and rate; (None, None) if no sensor
        offers it.
        """
        for sensor in sensors:
            for profile in sensor.get_stream_profiles():
                if (
                    profile.stream_type() != stream
                    or profile.format() != pixel_format
                    or profile.fps() != self._rate()
                ):
                    continue
                video = profile.as_video_stream_profile()
                if (video.width(), video.height()) == self._size():
                    return sensor, profile
        return None, None

    def _read_back(self, device: Any, by_kind: dict[str, Any], color: Any) -> CameraInfo:
        """The camera's settings as the device reports them."""
        rs = self._rs

        def told(name: Any) -> str | None:
            return str(device.get_info(name)) if device.supports(name) else None

        def option(kind: str, name: Any) -> float | None:
            return float(by_kind[kind].get_option(name)) if by_kind[kind].supports(name) else None

        i = color.as_video_stream_profile().get_intrinsics()
        unit = option("depth", rs.option.depth_units) if self._with_depth else None
        return CameraInfo(
            model=told(rs.camera_info.name) or "unknown",
            serial=told(rs.camera_info.serial_number) or self._wanted_serial,
            width=i.width,
            height=i.height,
            fps=self._rate(),
            unit=unit,
            intrinsics=(i.fx, i.fy, i.ppx, i.ppy),
            gain=option("color", rs.option.gain),
            white_balance=option("color", rs.option.white_balance),
            laser=option("depth", rs.option.laser_power),
        )

    def _is_complete(self, frames: Any) -> bool:
        """Whether color and depth are both there: the syncer may pass a single image at the start
        or after a lost frame.
        """
        return bool(frames.get_color_frame()) and (
            not self._with_depth or bool(frames.get_depth_frame())
        )

    def _frame(self, frames: Any) -> Frame:
        """Align and copy. No buffer of librealsense is kept: it would run out of them and drop
        frames.
        """
        rs, now_wall_ms, now_mono_ns = self._rs, time.time() * 1e3, time.monotonic_ns()
        aligned = self._align.process(frames) if self._with_depth else frames
        color, depth = (
            aligned.get_color_frame(),
            (aligned.get_depth_frame() if self._with_depth else None),
        )
        i = color.get_profile().as_video_stream_profile().get_intrinsics()
        domain = str(color.get_frame_timestamp_domain()).rsplit(".", 1)[-1]
        readout_us = _metadata(rs, color, "frame_timestamp")
        middle_us = _metadata(rs, color, "sensor_timestamp")
        lag_us = (
            max(0.0, readout_us - middle_us)
            if readout_us is not None and middle_us is not None
            else 0.0
        )
        return Frame(
            color=self._copy(color, np.uint8),
            depth=None if depth is None else self._copy(depth, np.uint16),
            unit=float(depth.get_units()) if depth is not None else 0.001,
            intrinsics=Intrinsics(i.width, i.height, i.fx, i.fy, i.ppx, i.ppy),
            serial=self.serial,
            frame_number=int(color.get_frame_number()),
            captured_mono_ns=self._clock.date(
                domain, color.get_timestamp(), lag_us, now_wall_ms, now_mono_ns
            ),
            clock_domain=domain,
            exposure_us=_metadata(rs, color, "actual_exposure"),
            gain=_metadata(rs, color, "gain_level"),
        )

    def _copy(self, frame: Any, dtype: type[np.generic]) -> NDArray[Any]:
        data = np.asarray(frame.get_data())
        image = self._new_image(data.shape, np.dtype(dtype))
        np.copyto(image, data, casting="unsafe")
        return image


def _metadata(rs: Any, frame: Any, name: str) -> float | None:
    """A frame's metadata; None if kernel, firmware or this frame lacks it, where reading would
    throw.
    """
    key = getattr(rs.frame_metadata_value, name)
    return float(frame.get_frame_metadata(key)) if frame.supports_frame_metadata(key) else None


def _prefer(rs: Any, sensor: Any) -> None:
    """Set an option that every station wants and no verdict depends on, if the sensor has it."""
    for option, value in (
        (rs.option.global_time_enabled, 1.0),
        (rs.option.frames_queue_size, float(QUEUE_SIZE)),
    ):
        if sensor.supports(option) and not sensor.is_option_read_only(option):
            sensor.set_option(option, value)
