"""A running station takes what a calibration with parts has set, and what an undo brings back,
between two parts.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration import station as calibration_station
from calibration.parts import Asked
from calibration.parts_session import calibrate_station_parts
from edge.camera.factory import make_camera
from edge.config import read_config
from edge.runtime.service import Service
from edge.types import Frame
from tests.support.broker import wait_until
from tests.support.fakes import committed, frames_of
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


def wait_taken(service: Service, station: StationRoot) -> None:
    """Until the state that is saved judges."""
    store = station.store
    states = store.model_states(store.active())
    wanted = states[-1] if states else None
    current = service.at_work.current
    wait_until(lambda: current.latest.model_state == wanted, 60, "the calibration is not taken up")
