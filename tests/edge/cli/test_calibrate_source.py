"""`edge calibrate ... --source` with folders as they are: point clouds without a word about the
camera, a whole product, a single image.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibration import expected_session, plane_session
from calibration import station as calibration_station
from edge.camera.factory import make_camera
from edge.cli import app
from edge.errors import DataError
from edge.types import Geometry
from tests.support.station import (
    BAD,
    EMPTY,
    GOOD,
    INTRINSICS,
    SERIAL,
    StationRoot,
    make_station,
    write_clouds,
)
from tests.support.tiny_bundle import PLANE


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The camera plays files in this process, which takes a fifth of the time."""
    for module in (plane_session, expected_session, calibration_station):
        monkeypatch.setattr(module, "supervised_camera", make_camera)


@pytest.fixture
def station(tmp_path: Path) -> StationRoot:
    station = make_station(tmp_path / "station", fixed_pose=True)
    station.configure("folder", tmp_path / "belt")
    return station


def calibrate(station: StationRoot, *words: object) -> str:
    line = ["calibrate", *map(str, words), "--root", str(station.root)]
    result = CliRunner().invoke(app, line, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_clouds_of_normal_parts_calibrate_the_station_that_they_come_from(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_clouds(tmp_path / "train" / "good", [GOOD] * 5)
    said = calibrate(station, "expected", "--count", 5, "--source", folder)
    assert f"camera       {SERIAL}" in said
    geometry = station.store.geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.expected is not None


def test_clouds_of_normal_parts_set_the_threshold_of_their_station(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_clouds(tmp_path / "train" / "good", [GOOD] * 5)
    calibrate(station, "parts", "--count", 5, "--source", folder)
    (state,) = station.store.model_states(station.store.active())
    assert (state.parts, state.threshold is not None) == (5, True)


def test_known_bad_parts_may_lie_in_a_folder_for_each_defect_type(
    station: StationRoot, tmp_path: Path
) -> None:
    for kind in ("dent", "scratch"):
        write_clouds(tmp_path / "bad" / kind, [BAD, BAD])
    said = calibrate(station, "challenge", "--count", 4, "--source", tmp_path / "bad")
    assert said.count("caught, score") == 4


def test_clouds_of_the_empty_table_replace_the_plane_of_the_station(
    station: StationRoot, tmp_path: Path
) -> None:
    wrong = Geometry((0.0, 0.0, 1.0, 0.4), 0, 0)
    station.store.save_geometry("washer", SERIAL, wrong, INTRINSICS, frames=30, who="test")
    folder = write_clouds(tmp_path / "nothing on it", [EMPTY] * 5)
    said = calibrate(station, "plane", "--frames", 5, "--source", folder)
    assert f"camera       {SERIAL}" in said
    assert list(station.store.geometry_records("washer")) == [SERIAL]
    geometry = station.store.geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.plane == pytest.approx(PLANE, abs=2e-4)


def test_on_a_station_without_a_plane_the_folder_stands_for_the_camera(tmp_path: Path) -> None:
    fresh = make_station(tmp_path / "fresh", calibrated=False)
    fresh.configure("folder", None)
    empty = write_clouds(tmp_path / "leerer Tisch, März", [EMPTY] * 5)
    calibrate(fresh, "plane", "--frames", 5, "--source", empty)
    parts = write_clouds(tmp_path / "parts", [GOOD, BAD])
    words = ["inspect", parts, "--root", fresh.root, "--out", tmp_path / "overlays"]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert "2 images: 1 OK, 1 NG, 0 UNKNOWN" in result.output


def test_one_image_of_the_empty_table_is_enough_if_asked_for(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_clouds(tmp_path / "empty", [EMPTY])
    said = calibrate(station, "plane", "--frames", 1, "--source", folder / "rgb" / "000.png")
    assert "500.0 mm" in said


def test_a_product_with_defective_parts_teaches_nothing(
    station: StationRoot, tmp_path: Path
) -> None:
    product = tmp_path / "product"
    write_clouds(product / "train" / "good", [GOOD] * 5)
    write_clouds(product / "test" / "dent", [BAD])
    before = station.store.geometry_records("washer")
    told = rf"holds 1 defective images \(dent\), normal parts are needed: name {product}/train/good"
    for what in ("expected", "parts"):
        with pytest.raises(DataError, match=told):
            calibrate(station, what, "--count", 5, "--source", product)
    assert station.store.geometry_records("washer") == before
    assert station.store.model_states(station.store.active()) == ()
    calibrate(station, "expected", "--count", 5, "--source", product / "train")
