"""What a camera tells of itself: on librealsense's software device, and a stand-in for what it
lacks.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.camera.device import DeviceFacts, read_facts, read_temperature
from edge.camera.protocol import opened
from edge.camera.realsense import RealSenseCamera
from edge.camera.supervised import supervised_camera
from edge.sections import CameraConfig
from tests.edge.camera.test_realsense import CONTRACT, device_with

rs: Any = pytest.importorskip("pyrealsense2", reason="the software device is librealsense's")
PHYSICAL_PORT = "/sys/devices/pci0000:00/usb2/2-1/2-1.4/2-1.4:1.0/video4linux/video0"


def test_usb_port_and_temperature_are_read_and_a_software_device_has_no_calibration() -> None:
    device = device_with()
    device.device.register_info(rs.camera_info.usb_type_descriptor, "3.2")
    device.device.register_info(rs.camera_info.physical_port, PHYSICAL_PORT)
    limits = rs.option_range()
    limits.min, limits.max, limits.step, limits.default = 0.0, 100.0, 0.01, 41.53
    device._depth_sensor.add_option(rs.option.asic_temperature, limits, True)
    camera = RealSenseCamera(contract=CONTRACT, find_device=lambda _rs, _serial: device.device)
    with opened(camera):
        assert camera.device_facts() == DeviceFacts(usb="3.2", port="2-1.4", temperature_c=41.5)
        device._depth_sensor.set_option(rs.option.asic_temperature, 60.0)
        assert camera.device_facts().temperature_c == 60.0


def fails(*_: object) -> float:
    raise RuntimeError("query option is allowed only in streaming!")


def device_with_table(read: Callable[[], list[int]]) -> Any:
    return SimpleNamespace(
        supports=lambda _: False,
        is_auto_calibrated_device=lambda: True,
        as_auto_calibrated_device=lambda: SimpleNamespace(get_calibration_table=read),
    )


def test_the_calibration_table_is_hashed() -> None:
    table = list(range(256)) * 2
    told = read_facts(rs, device_with_table(lambda: table))
    assert told.calibration == hashlib.sha256(bytes(table)).hexdigest()


def test_no_camera_is_lost_over_what_it_does_not_tell(caplog: pytest.LogCaptureFixture) -> None:
    assert read_facts(rs, device_with_table(fails)) == DeviceFacts()
    assert "cannot be read, nor compared" in caplog.text
    cold = SimpleNamespace(supports=lambda _: True, get_option=fails)
    none = SimpleNamespace(supports=lambda _: False)
    assert read_temperature(rs, [none, cold]) is None


CHILD = """
import sys
from edge.camera import child
from edge.camera.device import DeviceFacts
from edge.camera.virtual import VirtualCamera
told = iter([40.0, 40.0, 55.5])
VirtualCamera.device_facts = lambda self: DeviceFacts(usb="3.2", temperature_c=next(told, 55.5))
child.FACTS_S = 0.05
child.main()
"""


def test_they_cross_to_the_station_when_the_camera_opens_and_when_they_change(
    frame_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD)
    monkeypatch.setattr("edge.camera.process.CHILD", (str(script),))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    config = CameraConfig(kind="virtual", path=str(frame_folder(2)), fps=60)
    camera = supervised_camera(config, tmp_path, loop=True, live=True)
    with opened(camera):
        assert camera.facts == DeviceFacts(usb="3.2", temperature_c=40.0)
        end_s = time.monotonic() + 60
        while camera.facts.temperature_c != 55.5 and time.monotonic() < end_s:
            camera.next_frame(60.0)
    assert camera.facts == DeviceFacts(usb="3.2", temperature_c=55.5), "kept after it was closed"
