"""Hardware reset and USB port: on a stand-in for the driver, and a folder in place of /sys."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.camera import remedies, usb_reset
from edge.camera.device import NOTHING_TOLD, DeviceFacts, port_of
from edge.camera.hardware_reset import reset_hardware
from edge.camera.remedies import PATH_UNIT, NoDevice, RealSenseRemedies, remedies_for
from edge.errors import CameraError
from edge.sections import CameraConfig
from edge.units import UNITS
from tests.support.broker import wait_until

AT_PORT = DeviceFacts(port="2-1.4")
DRIVER = """
import os, signal, sys, time
class camera_info: serial_number = 0
class Device:
    def get_info(self, _): return "42"
    def hardware_reset(self):
        {reset}
class context:
    def query_devices(self): return [Device() for _ in range({count})]
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Puts a module in the place of pyrealsense2; returns a file that `reset` may write."""

    def put(reset: str, count: int = 1) -> Path:
        folder = tmp_path / "driver"
        folder.mkdir()
        (folder / "pyrealsense2.py").write_text(DRIVER.format(reset=reset, count=count))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return folder / "told"

    return put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A station with one RealSense at port 2-1.4 and a mouse of the same vendor beside it."""
    for port, product, number in (("2-1.4", "Intel(R) RealSense(TM) Depth Camera 435", 7),
                                  ("1-2", "Mouse", 3)):  # fmt: skip
        device = tmp_path / usb_reset.DEVICES / port
        device.mkdir(parents=True)
        for name, text in (
            ("idVendor", "8086"), ("product", product), ("devnum", number), ("authorized", 1),
        ):  # fmt: skip
            (device / name).write_text(f"{text}\n")
    (tmp_path / "run/edge").mkdir(parents=True)
    (tmp_path / UNITS).mkdir(parents=True)
    (tmp_path / UNITS / PATH_UNIT).touch()
    return tmp_path


def new(root: Path, serial: str = "") -> RealSenseRemedies:
    return RealSenseRemedies(serial, root, lambda: None, threading.Event())


# --- the hardware ---


def test_the_driver_resets_the_camera_in_another_process(driver) -> None:
    told = driver("open({!r}, 'w').write(str(os.getpid()))".format("PLACE"))
    module = told.with_name("pyrealsense2.py")
    module.write_text(module.read_text().replace("'PLACE'", repr(str(told))))
    reset_hardware("42")
    assert int(told.read_text()) != os.getpid()


@pytest.mark.parametrize(
    ("reset", "count", "limit_s", "said"),
    [
        ("time.sleep(600)", 1, 1.5, "took longer than"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", 1, 20.0, "SIGSEGV"),
        ("raise RuntimeError('control transfer failed')", 1, 20.0, "control transfer failed"),
        ("pass", 0, 20.0, "is not connected"),
        ("print('noise', flush=True); sys.exit(3)", 1, 20.0, "ended with code 3"),
    ],
)
def test_a_reset_that_blocks_crashes_or_fails_is_one_sentence_in_time(
    driver, reset: str, count: int, limit_s: float, said: str
) -> None:
    driver(reset, count)
    began_s = time.monotonic()
    with pytest.raises(CameraError, match=said):
        reset_hardware("42", limit_s)
    assert time.monotonic() - began_s < limit_s + 10


def test_after_a_reset_the_device_is_awaited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = root / usb_reset.DEVICES / "2-1.4/devnum"

    def gone_and_back(_serial: str, _limit_s: float) -> None:
        number.unlink()
        threading.Timer(0.4, number.write_text, ["8\n"]).start()

    monkeypatch.setattr(remedies, "reset_hardware", gone_and_back)
    began_s = time.monotonic()
    assert new(root).reset_hardware(NOTHING_TOLD) == "done"
    assert time.monotonic() - began_s >= 0.4
    monkeypatch.setattr(remedies, "RETURN_S", 0.2)
    monkeypatch.setattr(remedies, "reset_hardware", lambda *_: number.unlink())
    assert "no device came back" in new(root).reset_hardware(AT_PORT)


def test_a_device_that_comes_back_at_another_port_is_seen(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = root / usb_reset.DEVICES

    def move(_serial: str, _limit_s: float) -> None:
        (devices / "2-1.4").rename(devices / "2-2")

    monkeypatch.setattr(remedies, "reset_hardware", move)
    assert new(root).reset_hardware(AT_PORT) == "done"
    (devices / "2-2").rename(root / "in a drawer")
    with pytest.raises(CameraError, match=r"no device is at USB port 2-1\.4"):
        new(root).restart_port(AT_PORT)


# --- the USB port ---


@contextmanager
def root_unit(root: Path) -> Iterator[list[int]]:
    """Plays systemd's path unit: runs the root program when there is a request."""
    done: list[int] = []
    ending = threading.Event()

    def watch() -> None:
        while not ending.wait(0.02):
            if (root / usb_reset.REQUEST).exists():
                done.append(usb_reset.serve(root))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield done
    finally:
        ending.set()
        thread.join(60)


def test_the_root_program_restarts_the_port_that_the_station_asks_for(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remedies, "SETTLE_S", 0.1)
    written: list[str] = []
    write_text = Path.write_text

    def note(path: Path, text: str, *more: object, **others: object) -> int:
        if path.name == "authorized":
            written.append(text)
        return write_text(path, text, *more, **others)

    monkeypatch.setattr(Path, "write_text", note)
    monkeypatch.setattr(usb_reset.restart_port, "__defaults__", (0.0,))
    with root_unit(root) as done:
        assert new(root).restart_port(AT_PORT) == "port 2-1.4 restarted"
        wait_until(lambda: done, 60, "the root program did not end")
    assert (done, written) == ([0], ["0", "1"])
    assert not (root / usb_reset.REQUEST).exists()


def test_the_only_realsense_is_found_where_the_camera_never_told_its_port(root: Path) -> None:
    assert new(root)._only_port() == "2-1.4"
    (root / usb_reset.DEVICES / "1-2/product").write_text("RealSense")
    assert new(root)._only_port() is None, "which of two is not known"


@pytest.mark.parametrize("missing", ["unit", "nobody", "port"])
def test_a_port_that_cannot_be_restarted_is_said(
    root: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remedies, "TAKEN_S", 0.1)
    said = {
        "unit": "edge-usb-reset.path is not installed",
        "nobody": "systemctl start edge-usb-reset.path",
        "port": "port is not known",
    }
    if missing == "unit":
        (root / UNITS / PATH_UNIT).unlink()
    if missing == "port":
        (root / usb_reset.DEVICES / "2-1.4/product").write_text("Mouse")
    with pytest.raises(CameraError, match=said[missing]):
        new(root).restart_port(NOTHING_TOLD)
    assert not (root / usb_reset.REQUEST).exists(), "a request that nobody took may not wait"


@pytest.mark.parametrize(
    "text", ["../../../../etc/passwd", "2-1.4/../1-2", "usb1", "", "2-1.4\n2-1", "2-" + "1" * 60]
)
def test_a_request_that_names_no_port_is_refused_and_removed(root: Path, text: str) -> None:
    (root / usb_reset.REQUEST).write_text(text)
    assert usb_reset.serve(root) == 1
    assert not (root / usb_reset.REQUEST).exists()
    assert (root / usb_reset.DEVICES / "2-1.4/authorized").read_text() == "1\n"


def test_a_request_that_is_a_folder_or_a_pipe_holds_up_no_later_one(root: Path) -> None:
    request = root / usb_reset.REQUEST
    (request / "in/it").mkdir(parents=True)
    assert usb_reset.serve(root) == 1
    assert not request.exists()
    os.mkfifo(request)
    assert usb_reset.serve(root) == 1
    assert not request.exists()


def test_a_request_that_is_a_link_or_for_another_device_is_refused(root: Path) -> None:
    secret = root / "secret"
    secret.write_text("2-1.4")
    (root / usb_reset.REQUEST).symlink_to(secret)
    assert usb_reset.serve(root) == 1
    assert secret.exists()
    (root / usb_reset.DEVICES / "1-2/idVendor").write_text("046d\n")
    assert "no RealSense" in str(usb_reset.restart_port(root, "1-2"))
    assert "no device" in str(usb_reset.restart_port(root, "3-1"))
    assert usb_reset.serve(root) == 1, "there is no request"


def test_a_port_is_authorized_again_whatever_happens(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(usb_reset.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        usb_reset.restart_port(root, "2-1.4")
    assert (root / usb_reset.DEVICES / "2-1.4/authorized").read_text() == "1"


# --- which remedies, and which port ---


def test_files_have_no_device(root: Path) -> None:
    none = remedies_for(CameraConfig(kind="folder"), root, lambda: None, threading.Event())
    assert isinstance(none, NoDevice)
    for remedy in (none.reset_hardware, none.restart_port):
        with pytest.raises(CameraError, match="kind folder"):
            remedy(NOTHING_TOLD)
    live = remedies_for(CameraConfig(), root, lambda: None, threading.Event())
    assert isinstance(live, RealSenseRemedies)


@pytest.mark.parametrize(
    ("told", "port"),
    [
        ("/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/video4linux/video0", "2-1"),
        ("/sys/devices/platform/3610000.usb/usb2/2-1/2-1.4/2-1.4:1.3/video4linux/video4", "2-1.4"),
        ("2-1.4-7", "2-1.4"),
        ("2-3-12", "2-3"),
        ("", None),
        ("ip 192.168.11.55", None),
    ],
)
def test_the_port_in_what_librealsense_calls_physical_port(told: str, port: str | None) -> None:
    assert port_of(told) == port
