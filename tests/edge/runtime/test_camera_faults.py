"""Every fault of a driver, on librealsense's software device: the station says so within 2 s,
judges again within 5 s, keeps nothing of the old process, and judges no frame that is wrong.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edge.camera import supervised
from edge.camera.supervised import SupervisedCamera, supervised_camera
from edge.config import EdgeConfig
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from edge.sections import CameraConfig
from tests.support import faulty_camera
from tests.support.broker import wait_until
from tests.support.fakes import committed
from tests.support.patience import slowness
from tests.support.service import NO_BROKER, new_service, running
from tests.support.station import StationRoot, belt, write_belt

pytest.importorskip("pyrealsense2", reason="the software device is librealsense's")
pytestmark = [pytest.mark.endurance, pytest.mark.timeout(900)]

SAID_S, AGAIN_S = 2.0, 5.0
# a busy machine is slow to judge the first frame of a camera that came back: that is no fault
CAMERA = {"kind": "virtual", "path": "belt", "fps": 30, "max_age_ms": 2000}
CONFIG = EdgeConfig.model_validate({**NO_BROKER.model_dump(), "camera": CAMERA})
LOST = {"camera_lost"}
REASONS = {
    "block": LOST,
    "segfault": LOST,
    "stop": LOST,
    "opening": LOST,
    "cut short": {"camera_mismatch", "camera_lost"},
    "four channels": LOST,
    "no unit": LOST,
    "another resolution": {"camera_mismatch"},
    "no content": {"blind"},
    "from the past": {"stale"},
    "no number": {"stale"},
}


@pytest.fixture
def faults(station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the belt; a file named `fault` in it is done by the camera's process."""
    write_belt(tmp_path / "belt", belt([8, 8], gap=4))
    monkeypatch.setattr("edge.camera.process.CHILD", ("-m", faulty_camera.__name__))
    monkeypatch.setenv("FAULT", str(tmp_path / "fault"))
    monkeypatch.setenv("FAULT_OPENING", str(tmp_path / "opening"))
    monkeypatch.setattr(supervised, "OPEN_S", 1.0)
    return tmp_path


def held() -> tuple[int, int, int]:
    """Descriptors, threads and processes of this one. SQLite closes those of a database only when
    the last connection lets go of its locks: they are not counted.
    """
    gc.collect()
    me, names = psutil.Process(), []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the folder itself
            names.append(str(link.readlink()))
    open_files = [name for name in names if "line.sqlite" not in name]
    return len(open_files), me.num_threads(), len(me.children(recursive=True))


def inject(service: Service, folder: Path, name: str) -> str:
    """Do the fault; returns the reason that the station gives first."""
    seen: list[str] = []

    def is_said() -> bool:
        reason = service.health.state()[1]
        seen.extend([reason] if reason else [])
        return bool(reason)

    if name == "opening":
        (folder / "opening").write_text(name)
    began_s, patience = time.monotonic(), max(1.0, slowness())
    (folder / "fault").write_text("segfault" if name == "opening" else name)
    wait_until(is_said, 60, f"{name}: nobody says it")
    assert time.monotonic() - began_s < SAID_S * patience, name
    lasts_s = faulty_camera.LASTS_S if name in faulty_camera.FRAMES else supervised.OPEN_S
    wait_until(lambda: service.health.state() == ("online", "", True), 60, f"{name}: not again")
    # blocked calls are ended after 2 s, wrong frames and hanging openings end by themselves
    assert time.monotonic() - began_s < (SAID_S + lasts_s + AGAIN_S) * patience, name
    return seen[0]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("segfault", "four channels", "from the past"), id="quick"),
        pytest.param(tuple(REASONS), id="all", marks=pytest.mark.long),
    ],
)
def test_every_fault_of_a_driver_is_said_and_outlived_and_leaves_nothing_behind(
    station: StationRoot, faults: Path, names: tuple[str, ...]
) -> None:
    cameras: list[SupervisedCamera] = []

    def make(_: object) -> SupervisedCamera:
        config = CameraConfig.model_validate(CAMERA)
        cameras.append(supervised_camera(config, faults, loop=True, live=True))
        return cameras[-1]

    service = new_service(station, [], plan=RunPlan(), config=CONFIG, make_camera=make)
    with running(service):
        wait_until(lambda: service.health.state() == ("online", "", True), 60, "no frames")
        inject(service, faults, "segfault")
        before = held()
        for name in names:
            parts = len(committed(station.root))
            assert inject(service, faults, name) in REASONS[name], name
            wait_until(lambda n=parts: len(committed(station.root)) > n + 1, 60, f"{name}: none")
        wait_until(lambda: is_at_most(held, before), 30, f"{before} became {held()}")
        assert service.at_work.capture.healing.hardware_resets == 0
    records = committed(station.root)
    allowed = {"normal", "partial", "two_parts", "late"}.union(*REASONS.values())
    assert {record["reason"] for record in records} <= allowed
    assert len({record["seq"] for record in records}) == len(records)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids_of(faults))


def is_at_most(measure: Callable[[], tuple[int, ...]], limits: tuple[int, ...]) -> bool:
    return all(now <= limit for now, limit in zip(measure(), limits, strict=True))


def pids_of(folder: Path) -> list[int]:
    """Processes that were told of this folder and are still there."""
    found = []
    for process in psutil.process_iter(["pid", "name"]):
        try:
            if process.pid != os.getpid() and str(folder) in str(process.environ().get("FAULT")):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
