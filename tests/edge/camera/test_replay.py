"""Cameras that play files: order, end, numbering, pace, and what the factory makes of
station.toml.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from edge.camera.contract import find_staleness
from edge.camera.factory import make_camera
from edge.camera.protocol import EndOfFrames, Pace, opened
from edge.camera.replay import FolderCamera
from edge.camera.virtual import VirtualCamera
from edge.errors import CameraLost, ConfigError, DataError
from edge.frames.dataset import open_dataset
from edge.sections import CameraConfig

pytestmark = pytest.mark.timeout(600)


def test_folder_is_played_in_order_and_ends(frame_folder) -> None:
    folder = frame_folder(4)
    expected = [sample.load() for sample in open_dataset(folder).samples]
    with opened(FolderCamera(folder)) as camera:
        frames = [camera.next_frame(1.0) for _ in range(4)]
        with pytest.raises(EndOfFrames, match="4 frames"):
            camera.next_frame(1.0)
    for frame, file in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.color, file.color)
        np.testing.assert_array_equal(frame.depth, file.depth)
        assert frame.unit == 0.0001
        assert frame.serial == "files:frames"
        assert frame.clock_domain == "file"


def test_looped_replay_never_looks_stale(frame_folder) -> None:
    previous = None
    with opened(FolderCamera(frame_folder(2), loop=True)) as camera:
        for _ in range(7):
            frame = camera.next_frame(1.0)
            assert find_staleness(previous, frame, time.monotonic_ns(), 500) is None
            previous = frame
    assert previous is not None
    assert previous.frame_number == 7


def test_camera_json_names_the_camera_and_an_option_overrules(frame_folder) -> None:
    folder = frame_folder(
        1, camera={"serial": "virtual-x", "model": "virtual", "exposure_us": 8000.0}
    )
    with opened(FolderCamera(folder)) as camera:
        assert (camera.serial, camera.info.model) == ("virtual-x", "virtual")
        assert camera.next_frame(1.0).exposure_us == 8000.0
    with opened(FolderCamera(folder, serial="other")) as camera:
        assert camera.next_frame(1.0).serial == "other"


def test_closed_camera_says_so(frame_folder) -> None:
    camera = FolderCamera(frame_folder(1))
    with pytest.raises(CameraLost, match="not open"):
        camera.next_frame(1.0)
    camera.open()
    camera.close()
    camera.close()
    with pytest.raises(CameraLost):
        camera.next_frame(1.0)


def test_missing_folder_is_named() -> None:
    with pytest.raises(DataError, match="/nowhere"):
        FolderCamera(Path("/nowhere")).open()


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_pace_gives_the_frame_rate_and_no_bursts_after_a_pause() -> None:
    clock = Clock()
    pace = Pace(20.0, clock, clock.sleep)
    times = []
    for index in range(6):
        if index == 3:
            clock.sleep(1.0)  # the consumer was busy for a second
        pace.wait(1.0)
        times.append(clock.now_s - 100.0)
    assert times == pytest.approx([0.0, 0.05, 0.10, 1.10, 1.15, 1.20])


def test_pace_gives_up_after_the_timeout() -> None:
    clock = Clock()
    pace = Pace(1.0, clock, clock.sleep)
    pace.wait(0.1)
    with pytest.raises(CameraLost, match=r"0\.1 s"):
        pace.wait(0.1)
    assert clock.now_s == pytest.approx(100.1)


def test_factory_plays_belt_and_empty_table_as_one_camera(frame_folder, tmp_path: Path) -> None:
    frame_folder(2, "belt", camera={"serial": "virtual-belt"})
    frame_folder(3, "empty")
    for kind, made in (("virtual", VirtualCamera), ("folder", FolderCamera)):
        config = CameraConfig(kind=kind, path="belt", empty="empty")
        camera = make_camera(config, tmp_path, empty=True)
        assert isinstance(camera, made)
        assert camera.path == tmp_path / "empty"
    with opened(camera):
        assert camera.serial == "virtual-belt"


@pytest.mark.parametrize(("empty", "key"), [(False, "camera.path"), (True, "camera.empty")])
def test_factory_names_the_key_that_is_missing(empty: bool, key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=key):
        make_camera(CameraConfig(kind="virtual"), tmp_path, empty=empty)
