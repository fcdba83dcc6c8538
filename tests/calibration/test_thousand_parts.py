"""What a station says of itself after a calibration with parts, beside the truth: 1,000 further
normal parts of the same site, through the same engine.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from calibration import station as calibration_station
from calibration.parts import Asked
from calibration.parts_session import calibrate_station_parts
from calibration.sentences import NEXT_PARTS
from calibration.station import LocalStation
from calibration.statistics import false_rejects_among, rate_after
from edge.camera.factory import make_camera
from edge.config import read_config
from edge.types import Frame
from tests.support.site_parts import TRAINED, SitePart, draw_site_part, normal_parts, write_parts
from tests.support.station import INTRINSICS, SERIAL, StationRoot, make_station
from tests.support.tiny_bundle import UNIT, Adapts

LIGHT = 1.3


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StationRoot:
    monkeypatch.setattr(calibration_station, "supervised_camera", make_camera)
    station = make_station(tmp_path / "station", defects=TRAINED, adapts=Adapts())
    station.configure("folder", tmp_path / "belt")
    return station


def test_false_rejects_are_as_many_as_it_says(station: StationRoot, tmp_path: Path) -> None:
    folder = write_parts(tmp_path / "parts", normal_parts(20, LIGHT))
    store, config = station.store, read_config(station.root)
    asked = Asked(20, false_rejects=0.1)
    done = calibrate_station_parts(store, store.active(), config, asked, folder)
    rejected = 0
    with closing(LocalStation(store, store.active(), config, folder)) as looking:
        tensors = done.saved.arrays()
        for number, defect in enumerate(
            np.random.default_rng(1).uniform(TRAINED[0], TRAINED[-1], NEXT_PARTS)
        ):
            color, depth = draw_site_part(SitePart(float(defect), LIGHT, at=5000 + number))
            window = Frame(color, depth, UNIT, INTRINSICS, SERIAL, number, 0)
            (answer,) = looking.score([window], tensors)
            rejected += bool(answer["score"][0] > done.saved.threshold)
    among = false_rejects_among(NEXT_PARTS, done.evidence.count, done.result.threshold.rank)
    assert rejected <= among.upper
    assert rejected <= 2 * 0.1 * NEXT_PARTS  # twice the promised rate
    estimated = NEXT_PARTS * done.evidence.expected
    assert 0.3 * estimated < rejected < 2 * estimated
    assert rate_after(rejected, NEXT_PARTS) > rejected / NEXT_PARTS
