"""RealSenseCamera on librealsense's software device: options, refusals, losses.

No real camera is ever asked.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.camera.contract import CameraContract
from edge.camera.protocol import opened
from edge.camera.realsense import (
    ExposureClock,
    RealSenseCamera,
    Setting,
    apply_setting,
    as_camera_error,
    call_within,
    captured_mono_ns,
    find_connected,
    settings_of,
)
from edge.camera.virtual import DepthView, SoftwareDevice
from edge.errors import CameraError, CameraLost, CameraMismatch
from edge.types import Frame, Intrinsics

rs: Any = pytest.importorskip("pyrealsense2", reason="the software device is librealsense's")
pytestmark = pytest.mark.timeout(600)

PINHOLE = Intrinsics(96, 64, 90.0, 91.0, 47.1, 32.2)
CONTRACT = CameraContract(
    model="test",
    width=96,
    height=64,
    fps=30,
    unit=0.001,
    crop_width=96,
    crop_height=64,
    crop_x=0,
    crop_y=0,
    min_area=0.0,
    max_area=1.0,
    min_valid=0.0,
)
RANGES = {
    "exposure": (1, 10_000, 1),
    "gain": (0, 128, 1),
    "white_balance": (2800, 6500, 10),
    "laser_power": (0, 360, 30),
    "enable_auto_exposure": (0, 1, 1),
    "enable_auto_white_balance": (0, 1, 1),
    "emitter_enabled": (0, 2, 1),
}
OF_DEPTH = ("laser_power", "emitter_enabled")


def device_with(*options: str) -> SoftwareDevice:
    """A camera with these options, as a D435 spreads them over its two sensors."""
    device = SoftwareDevice(rs, PINHOLE, DepthView(PINHOLE), 0.001, 30, "Test D435", "42")
    sensors = dict(zip(("depth", "color"), device.device.query_sensors(), strict=True))
    for name in options:
        limits = rs.option_range()
        limits.min, limits.max, limits.step = RANGES[name]
        limits.default = limits.max
        software = device._depth_sensor if name in OF_DEPTH else device._color_sensor
        software.add_option(getattr(rs.option, name), limits, True)
    assert len(sensors) == 2
    return device


def camera_of(device: SoftwareDevice, contract: CameraContract = CONTRACT) -> RealSenseCamera:
    return RealSenseCamera(contract=contract, find_device=lambda _rs, _serial: device.device)


def view(number: int) -> Frame:
    color = np.full((64, 96, 3), number, np.uint8)
    return Frame(color, np.full((64, 96), 500, np.uint16), 0.001, PINHOLE, "42", number, number)


def test_contract_is_set_and_read_back() -> None:
    device = device_with(*RANGES)
    contract = CONTRACT.model_copy(
        update={"exposure_us": 8000.0, "gain": 16.0, "white_balance": 4600.0, "laser": 150.0}
    )
    with opened(camera_of(device, contract)) as camera:
        assert (camera.serial, camera.info.model) == ("42", "Test D435")
        assert (camera.info.gain, camera.info.white_balance, camera.info.laser) == (
            16.0,
            4600.0,
            150.0,
        )
        assert camera.info.unit == pytest.approx(0.001)
        color = device.device.query_sensors()[1]
        assert color.get_option(rs.option.exposure) == 80  # steps of 100 microseconds
        assert color.get_option(rs.option.enable_auto_exposure) == 0
        assert color.get_option(rs.option.enable_auto_white_balance) == 0


def test_unknown_settings_are_left_alone() -> None:
    device = device_with(*RANGES)
    with opened(camera_of(device)):
        assert device.device.query_sensors()[1].get_option(rs.option.exposure) == 10_000


def test_laser_off_switches_the_emitter_off() -> None:
    settings = settings_of(CONTRACT.model_copy(update={"laser": 0.0}), True)
    assert Setting("depth", "emitter_enabled", 0.0) in settings
    assert not any(setting.option == "laser_power" for setting in settings)


def test_color_from_the_depth_module_counts_exposure_in_microseconds() -> None:
    contract = CONTRACT.model_copy(update={"exposure_us": 8000.0})
    assert Setting("color", "exposure", 8000.0) in settings_of(contract, False)
    assert Setting("color", "exposure", 80.0) in settings_of(contract, True)


def test_option_the_camera_lacks_is_a_mismatch() -> None:
    contract = CONTRACT.model_copy(update={"laser": 150.0})
    with pytest.raises(CameraMismatch, match="emitter_enabled"):
        camera_of(device_with("gain"), contract).open()


def test_value_out_of_range_is_a_mismatch() -> None:
    contract = CONTRACT.model_copy(update={"gain": 500.0})
    with pytest.raises(CameraMismatch, match=r"0 to 128 .* needs 500"):
        camera_of(device_with(*RANGES), contract).open()


def test_option_that_keeps_another_value_is_a_mismatch() -> None:
    stubborn = SimpleNamespace(
        supports=lambda _: True,
        is_option_read_only=lambda _: False,
        get_option=lambda _: 16.0,
        set_option=lambda *_: None,
        get_option_range=lambda _: SimpleNamespace(min=0.0, max=128.0, step=1.0),
    )
    with pytest.raises(CameraMismatch, match="stays at 16"):
        apply_setting(rs, stubborn, Setting("color", "gain", 64.0))


def test_depth_unit_that_cannot_be_changed_is_a_mismatch() -> None:
    with pytest.raises(CameraMismatch, match=r"depth_units stays at 0\.001"):
        camera_of(device_with(), CONTRACT.model_copy(update={"unit": 0.0001})).open()


@pytest.mark.parametrize("update", [{"width": 640, "height": 480}, {"fps": 90}])
def test_stream_the_camera_does_not_offer_is_a_mismatch(update: dict[str, int]) -> None:
    with pytest.raises(CameraMismatch, match="offers no color stream"):
        camera_of(device_with(), CONTRACT.model_copy(update=update)).open()


def test_depth_camera_without_depth_is_a_mismatch() -> None:
    device = SoftwareDevice(rs, PINHOLE, None, 0.001, 30, "Webcam", "43")
    with pytest.raises(CameraMismatch, match="offers no depth"):
        camera_of(device).open()


def test_silent_camera_is_lost_after_the_timeout() -> None:
    with opened(camera_of(device_with())) as camera:
        start = time.monotonic()
        with pytest.raises(CameraLost, match=r"no frame within 0\.3 s"):
            camera.next_frame(0.3)
        assert time.monotonic() - start < 2.0


def test_lone_images_are_skipped_until_a_pair_comes() -> None:
    device = device_with()
    with opened(camera_of(device)) as camera:
        device.prime(view(0).color)
        device.push(view(1), 1)
        assert int(camera.next_frame(2.0).color[0, 0, 0]) == 1


def test_metadata_that_is_missing_is_none() -> None:
    device = device_with()
    with opened(camera_of(device)) as camera:
        device.prime(view(0).color)
        device.push(view(1), 1)
        frame = camera.next_frame(2.0)
    assert (frame.exposure_us, frame.gain) == (None, None)
    assert frame.clock_domain == "hardware_clock"


def test_call_that_never_returns_is_given_up() -> None:
    never = threading.Event()
    start = time.monotonic()
    with pytest.raises(CameraLost, match="stopping"):
        call_within(0.2, "stopping", never.wait)
    assert time.monotonic() - start < 2.0
    never.set()


def test_call_gives_its_result_and_its_error() -> None:
    assert call_within(2.0, "adding", lambda: 1 + 1) == 2
    with pytest.raises(TimeoutError, match="its own"):
        call_within(2.0, "failing", lambda: (_ for _ in ()).throw(TimeoutError("its own")))


def test_librealsense_errors_become_a_lost_camera() -> None:
    with pytest.raises(CameraLost, match=r"camera 42: .*USB 3 cable"), as_camera_error("42"):
        raise RuntimeError("xioctl(VIDIOC_QBUF) failed")


def fake_driver(*serials: str) -> Any:
    devices = [SimpleNamespace(get_info=lambda _, serial=serial: serial) for serial in serials]
    return SimpleNamespace(
        camera_info=SimpleNamespace(serial_number=0),
        context=lambda: SimpleNamespace(query_devices=lambda: devices),
    )


def test_camera_is_found_by_serial_or_alone() -> None:
    assert find_connected(fake_driver("1", "2"), "2").get_info(0) == "2"
    assert find_connected(fake_driver("1"), "").get_info(0) == "1"


NOT_FOUND = [((), "", CameraLost), (("1",), "2", CameraLost), (("1", "2"), "", CameraError)]


@pytest.mark.parametrize(("present", "wanted", "error"), NOT_FOUND)
def test_camera_that_is_not_there_or_not_unique_is_named(
    present: tuple[str, ...], wanted: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match="connected"):
        find_connected(fake_driver(*present), wanted)


def test_mid_exposure_on_the_hosts_monotonic_clock() -> None:
    """The camera's global time says readout was 20 ms ago, and mid-exposure 4 ms before that."""
    assert (
        captured_mono_ns("global_time", 1_000_000.0, 4000.0, 1_000_020.0, 7_000_000_000)
        == 6_976_000_000
    )
    assert (
        captured_mono_ns("system_time", 1_000_000.0, 0.0, 1_000_005.0, 7_000_000_000)
        == 6_995_000_000
    )


@pytest.mark.parametrize("timestamp_ms", [1_000_500.0, 900_000.0])
def test_wall_clock_that_was_set_does_not_date_a_frame(timestamp_ms: float) -> None:
    assert (
        captured_mono_ns("global_time", timestamp_ms, 0.0, 1_000_020.0, 7_000_000_000)
        == 7_000_000_000
    )


def test_hardware_clock_is_dated_by_arrival() -> None:
    assert (
        captured_mono_ns("hardware_clock", 123.0, 0.0, 1_000_020.0, 7_000_000_000) == 7_000_000_000
    )


def test_a_step_of_the_wall_clock_is_no_age() -> None:
    """NTP answers and sets it ahead by 3 s; the driver's timestamps follow seconds later."""
    clock, mono_ns = ExposureClock(), 7_000_000_000
    usual = [
        clock.date(
            "global_time", 1_000_000.0 + 33 * n, 0.0, 1_000_020.0 + 33 * n, mono_ns + 33_000_000 * n
        )
        for n in range(3)
    ]
    assert usual[0] == mono_ns - 20_000_000
    for n in range(3, 90):
        now_ns = mono_ns + 33_000_000 * n
        assert (
            clock.date("global_time", 1_000_000.0 + 33 * n, 0.0, 1_003_020.0 + 33 * n, now_ns)
            == now_ns - 20_000_000
        )
    later_ns = mono_ns + 20_000_000_000
    assert (
        clock.date("global_time", 1_022_995.0, 0.0, 1_023_020.0, later_ns) == later_ns - 25_000_000
    )
