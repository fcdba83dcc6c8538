"""A running station takes what a calibration with parts has set, and what an undo brings back,
between two parts.
"""

from __future__ import annotations

from concurrent import futures
from concurrent.futures import Future
from pathlib import Path

import pytest

from calibration import station as calibration_station
from calibration.parts import Asked
from calibration.parts_session import PartsCalibration, calibrate_station_parts
from edge.background import in_background
from edge.camera.factory import make_camera
from edge.config import read_config
from edge.runtime.service import Service
from edge.types import Frame
from tests.support.broker import wait_until
from tests.support.fakes import committed, frames_of
from tests.support.patience import HANG_S
from tests.support.service import new_service
from tests.support.site_parts import TRAINED, SitePart, draw_site_part, normal_parts, write_parts
from tests.support.station import EMPTY, INTRINSICS, SERIAL, StationRoot, make_station
from tests.support.tiny_bundle import UNIT, Adapts

BRIGHTER = 1.3


def frames_of_parts(parts: list[SitePart], first: int) -> list[Frame]:
    """Each in six frames, four empty ones after it."""
    frames: list[Frame] = []
    for part in parts:
        for _ in range(6):
            number = first + len(frames)
            color, depth = draw_site_part(part, noise_seed=number)
            frames.append(Frame(color, depth, UNIT, INTRINSICS, SERIAL, number, 0))
        frames += frames_of([EMPTY] * 4, first + len(frames))
    return frames


def test_it_takes_effect_between_two_parts_and_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration_station, "supervised_camera", make_camera)
    station = make_station(tmp_path / "station", defects=TRAINED, adapts=Adapts())
    station.configure("folder", tmp_path / "belt")
    folder = write_parts(tmp_path / "parts", normal_parts(10, BRIGHTER))
    shown = [frames_of_parts(normal_parts(2, BRIGHTER, seed=2), 1 + 100 * i) for i in range(3)]

    def calibrate() -> None:
        asked = Asked(10, 0.05)
        store = station.store
        calibrate_station_parts(store, store.active(), read_config(station.root), asked, folder)
        wait_taken(service, station)

    def undo() -> None:
        station.store.undo_model_state(station.store.active())
        wait_taken(service, station)

    script = [*shown[0], calibrate, *shown[1], undo, *shown[2]]
    service = new_service(station, script)
    service.run()
    records = committed(station.root)
    assert [record["code"] for record in records] == [2, 2, 1, 1, 2, 2]
    assert [record["thr_from"] for record in records] == ["bundle"] * 2 + ["site"] * 2 + [
        "bundle"
    ] * 2
    assert records[2]["thr_parts"] == 10
    assert records[2]["guarantee"].startswith("Measured, not proven: at most")
    assert [record["engine"] for record in records[:1]] == [records[-1]["engine"]]


def test_parts_in_front_of_its_camera_are_shown_to_the_calibration_and_not_judged(
    tmp_path: Path,
) -> None:
    """The camera of the running station, over its socket."""
    station = make_station(tmp_path / "station", defects=TRAINED, adapts=Adapts())
    station.configure("realsense", None)  # none is connected: this process could open no other
    store = station.store
    before, shown, after = (
        frames_of_parts(normal_parts(count, BRIGHTER, seed), 1 + 1000 * seed)
        for seed, count in ((0, 2), (1, 10), (2, 2))
    )
    done: list[Future[PartsCalibration]] = []

    def begin() -> None:
        asked, config = Asked(10, 0.05), read_config(station.root)
        done.append(
            in_background(
                "calibrate", lambda: calibrate_station_parts(store, store.active(), config, asked)
            )
        )
        wait_until(lambda: service.health.state()[1] == "calibrating", 20, "not begun")

    def fetched() -> None:
        work = service.at_work
        assert work is not None
        session = work.socket.sessions._session
        wait_until(lambda: session is None or session.waiting.empty(), 20, "not fetched")

    def end() -> None:
        futures.wait([done[0]], HANG_S)
        wait_taken(service, station)

    steps = [step for at in range(0, len(shown), 10) for step in (*shown[at : at + 10], fetched)]
    gaps = [frames_of([EMPTY] * 4, first) for first in (500, 1900)]
    script = [*before, *gaps[0], begin, *steps, end, *gaps[1], *after]
    service = new_service(station, script)
    service.run()
    assert done[0].result().saved.parts == 10
    records = committed(station.root)
    assert [record["code"] for record in records] == [2, 2, 1, 1]
    assert [record["seq"] for record in records] == [1, 2, 3, 4], "the ten have no record"
    assert [record["thr_from"] for record in records] == ["bundle"] * 2 + ["site"] * 2


def wait_taken(service: Service, station: StationRoot) -> None:
    """Until the state that is saved judges."""
    store = station.store
    states = store.model_states(store.active())
    wanted = states[-1] if states else None
    current = service.at_work.current
    wait_until(lambda: current.latest.model_state == wanted, 60, "the calibration is not taken up")
