"""The expected silhouette while `edge run` is at work: its camera, opened once, shows the parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibration.expected_session import ExpectedSession, calibrate_station_expected
from calibration.remote import RemoteCamera
from calibration.station import open_station
from edge.background import in_background
from edge.camera.protocol import opened
from edge.config import read_config
from edge.errors import BusyError, CalibrationError
from edge.station.audit import read_audit
from tests.support.broker import wait_until
from tests.support.patience import HANG_S
from tests.support.service import NO_BROKER
from tests.support.socketed import Socketed, socketed
from tests.support.station import EMPTY, GOOD, HEIGHT, SERIAL, WIDTH, StationRoot, make_station

PARTS = 5
FRAMES = 50  # of the camera, of which the socket gives a client 20 a second


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """To copy from; nothing may change it."""
    return make_station(tmp_path_factory.mktemp("made") / "station", fixed_pose=True)


@pytest.fixture
def station(made: StationRoot, tmp_path: Path) -> StationRoot:
    found = made.copied_to(tmp_path / "station")
    found.configure("realsense", None)  # none is connected: this process could open no other
    return found


@pytest.fixture
def cell(station: StationRoot) -> Iterator[Socketed]:
    with socketed(station) as at_work:
        yield at_work


def calibrate(cell: Socketed, station: StationRoot) -> ExpectedSession:
    """Parts come and go until enough were seen; none of them is judged."""
    told: list[str] = []
    store, config = station.store, read_config(station.root)
    done = in_background(
        "calibrate",
        lambda: calibrate_station_expected(store, store.active(), config, PARTS, tell=told.append),
    )
    wait_until(lambda: done.done() or cell.state["reason"] == "calibrating", HANG_S, "not begun")
    while len(told) < PARTS and not done.done():
        cell.show(GOOD, FRAMES)
        cell.show(EMPTY, FRAMES)
    found = done.result(HANG_S)
    assert [line.split(":")[0] for line in told] == [f"part {n + 1} of 5" for n in range(PARTS)]
    return found


def is_expected(cell: Socketed) -> bool:
    """Whether the station looks for missing material, in the crop that it has."""
    work = cell.service.at_work
    assert work is not None
    if not cell.state["ready"]:
        return False
    return bool(work.current.get().site(SERIAL).tensors["expected"].any())


def test_it_is_found_on_the_frames_of_the_running_station_which_takes_it_up(
    cell: Socketed, station: StationRoot
) -> None:
    assert not is_expected(cell)
    found = calibrate(cell, station)
    assert (found.serial, found.found.parts) == (SERIAL, PARTS)
    wait_until(lambda: is_expected(cell), HANG_S, "not taken up")
    assert [cell.state[name] for name in ("ok", "ng", "unknown")] == [0, 0, 0]

    def ended() -> list[str]:
        rows = [row for row in read_audit(station.root) if row.act == "session ended"]
        return [row.detail["what"] for row in rows]

    wait_until(lambda: ended() == ["expected"], HANG_S, "no row")
    cell.pass_part(GOOD)
    wait_until(lambda: cell.state["ok"] == 1, HANG_S, "not judged afterwards")


def test_one_of_another_crop_keeps_no_calibration_from_replacing_it(station: StationRoot) -> None:
    store, config = station.store, read_config(station.root)
    with socketed(station, config=NO_BROKER) as cell:
        wait_until(lambda: cell.state["ready"], HANG_S, "not ready")
        station.expect(np.full((HEIGHT, WIDTH - 4), 255, np.uint8))
        wait_until(lambda: cell.state["unknown"] > 0, HANG_S, "no part was decided")
        assert cell.state["reason"] == "uncalibrated"
        with pytest.raises(CalibrationError, match="run `edge calibrate expected`"):
            open_station(store, store.active(), config)
        calibrate(cell, station)
        wait_until(lambda: is_expected(cell), HANG_S, "not taken up")


def test_it_waits_for_nobody_who_calibrates(cell: Socketed, station: StationRoot) -> None:
    store, config = station.store, read_config(station.root)
    with (
        opened(RemoteCamera(station.root, "plane", "anna")),
        pytest.raises(BusyError, match=r"anna is calibrating this station \(plane\)"),
    ):
        calibrate_station_expected(store, store.active(), config, PARTS)
