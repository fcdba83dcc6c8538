"""A station that is calibrated over the socket of its `edge run`: the plane is measured on the
frames of a camera that is opened once.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration import remote
from calibration.plane_session import calibrate_station_plane, table_camera
from calibration.remote import FRAMES_LIMIT, RemoteCamera, RemoteStation, find_camera, open_remote
from calibration.station import open_station
from edge.camera.protocol import opened
from edge.camera.supervised import SupervisedCamera
from edge.config import read_config
from edge.control.protocol import Message
from edge.errors import CalibrationError, CameraLost, ControlError
from edge.types import Frame
from tests.support.broker import wait_until
from tests.support.fakes import frame_of
from tests.support.process import ENVIRONMENT, REPOSITORY
from tests.support.service import NO_BROKER
from tests.support.socketed import Socketed, socketed
from tests.support.station import EMPTY, GOOD, SERIAL, StationRoot, make_station
from tests.support.tiny_bundle import PLANE

pytestmark = pytest.mark.usefixtures("at_work")


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    made = make_station(tmp_path_factory.mktemp("made") / "station", calibrated=False)
    made.configure("realsense", None)  # none is connected to this machine
    return made


@pytest.fixture(scope="module")
def at_work(station: StationRoot) -> Iterator[Socketed]:
    with socketed(station, config=NO_BROKER) as made:
        yield made


@pytest.fixture
def cell(at_work: Socketed) -> Socketed:
    at_work.show(EMPTY)
    return at_work


@pytest.fixture
def calibrated(cell: Socketed, station: StationRoot) -> Socketed:
    """With a plane, whichever tests came before."""
    store = station.store
    if store.geometry_record("washer", SERIAL) is None:
        calibrate_station_plane(store, store.active(), RemoteCamera(station.root, "plane"), 5)
    wait_until(lambda: cell.state["ready"], 10, "the plane is not taken up")
    return cell


def test_without_a_plane_parts_are_refused(cell: Socketed, station: StationRoot) -> None:
    store = station.store
    with pytest.raises(CalibrationError, match="run `edge calibrate plane` on the empty table"):
        open_station(store, store.active(), read_config(station.root))
    assert cell.state["reason"] == "uncalibrated", "nothing is left open"


def test_the_plane_is_measured_on_the_frames_of_the_running_station(
    cell: Socketed, station: StationRoot
) -> None:
    store = station.store
    contract = store.active().manifest.camera
    camera = table_camera(read_config(station.root).camera, station.root, contract)
    assert isinstance(camera, RemoteCamera)
    done = calibrate_station_plane(store, store.active(), camera, frames=10)
    assert done.serial == SERIAL
    assert np.allclose(done.saved.plane, PLANE, atol=2e-3)
    wait_until(lambda: cell.state["ready"], 10, "the plane is not taken up")


def test_the_command_line_does_the_same(cell: Socketed, station: StationRoot) -> None:
    before = station.store.geometry_record("washer", SERIAL)
    words = ["calibrate", "plane", "--root", str(station.root), "--frames", "5"]
    done = subprocess.run(
        [sys.executable, "-m", "edge", *words], cwd=REPOSITORY, env=ENVIRONMENT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    after = station.store.geometry_record("washer", SERIAL)
    assert after is not None
    assert after.version == (0 if before is None else before.version) + 1
    wait_until(lambda: cell.state["ready"], 10, "not ready afterwards")


def test_a_part_on_the_table_is_refused_and_the_session_is_over(
    cell: Socketed, station: StationRoot
) -> None:
    cell.show(GOOD, 60)  # decided, and still there
    store = station.store
    with pytest.raises(CalibrationError):
        calibrate_station_plane(
            store, store.active(), RemoteCamera(station.root, "plane"), frames=5
        )
    assert cell.state["reason"] != "calibrating"


def test_files_that_are_played_and_stations_that_do_not_run_need_no_socket(
    cell: Socketed, station: StationRoot, tmp_path: Path
) -> None:
    contract = station.store.active().manifest.camera
    played = read_config(station.root).camera.model_copy(update={"kind": "virtual"})
    assert isinstance(table_camera(played, station.root, contract), SupervisedCamera)
    assert find_camera(tmp_path, "plane") is None
    assert open_remote(tmp_path, "parts") is None


def test_a_station_of_another_bundle_is_refused(calibrated: Socketed, station: StationRoot) -> None:
    cell = calibrated
    store, config = station.store, read_config(station.root)
    with closing(open_station(store, store.active(), config)) as found:
        assert isinstance(found, RemoteStation)
        assert cell.state["why"].startswith("parts, by ")
    other = replace(store.active(), product="screw")
    with pytest.raises(CalibrationError, match=r"`edge run` judges washer .* not screw"):
        open_station(store, other, config)
    assert cell.state["ready"], "nothing is left open"


def test_the_camera_is_as_every_camera(cell: Socketed, station: StationRoot) -> None:
    camera = RemoteCamera(station.root, "plane")
    with pytest.raises(CameraLost, match="not open"):
        camera.next_frame(1)
    with pytest.raises(CameraLost, match="not open"):
        assert camera.info
    with opened(camera):
        assert camera.serial == camera.info.serial == SERIAL
        assert (camera.info.width, camera.info.height) == (128, 96)
        assert cell.state["reason"] == "calibrating"
        numbers = [camera.next_frame(5).frame_number for _ in range(3)]
        assert numbers == sorted(set(numbers))
    camera.close()
    assert cell.state["reason"] != "calibrating"


def test_no_request_is_larger_than_the_station_takes(
    cell: Socketed, station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_remote(station.root, "parts")
    assert found is not None
    view = frame_of(GOOD, 1)
    own = 96 * 128 * 5
    monkeypatch.setattr(remote, "DATA_LIMIT", 3 * own + 100)
    windows: list[Frame] = [frame_of(GOOD, number) for number in range(8)]
    assert [len(batch) for batch in found._batches(windows, 100)] == [3, 3, 2]
    assert [len(batch) for batch in found._batches(windows, own)] == [2, 2, 2, 2]
    found._names[view] = 0
    known = [len(batch) for batch in found._batches([view] * 150, 100)]
    assert known == [FRAMES_LIMIT, FRAMES_LIMIT, 150 - 2 * FRAMES_LIMIT]
    found.close()


@pytest.mark.parametrize(
    "said",
    [{}, {"frame": 1}, {"frame": {"color": [1, 1]}}, {"outputs": 3},
     {"outputs": {"score": {"dtype": "object", "shape": []}}}],
)  # fmt: skip
def test_what_another_version_says_is_an_error_that_says_so(said: dict[str, Any]) -> None:
    for read in (remote._frame_in, remote._outputs_in):
        with pytest.raises(ControlError, match="install the same version"):
            read(Message(said))
