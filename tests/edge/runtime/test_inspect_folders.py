"""`edge inspect` on folders that say nothing of their camera: rgb/ and xyz/ of parts, as MVTec
3D-AD's train/good has them.
"""

from __future__ import annotations

import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import tifffile
from typer.testing import CliRunner

from edge.cli import app
from edge.types import Geometry
from tests.support.station import (
    BAD,
    GOOD,
    INTRINSICS,
    SERIAL,
    StationRoot,
    make_station,
    write_clouds,
)
from tests.support.tiny_bundle import PLANE


def inspect(station: StationRoot, path: Path, out: Path) -> str:
    words = ["inspect", str(path), "--root", str(station.root), "--out", str(out)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def verdicts(output: str) -> list[str]:
    return re.findall(r"^\S+ +\S+ +(OK|NG|UNKNOWN) +(\S+)", output, re.MULTILINE)


@pytest.mark.parametrize("place", [".", "rgb"])
def test_a_folder_of_clouds_is_judged_with_the_only_plane_there_is(
    station: StationRoot, tmp_path: Path, place: str
) -> None:
    folder = write_clouds(tmp_path / "monday", [GOOD, BAD])
    output = inspect(station, folder / place, tmp_path / "overlays")
    assert verdicts(output) == [("OK", "normal"), ("NG", "anomaly")]
    note = f"note: the files name no camera: judged with the plane of camera {SERIAL}"
    assert output.splitlines().count(note) == 1


def test_one_image_of_such_a_folder_is_judged_with_its_depth(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_clouds(tmp_path / "monday", [GOOD, BAD])
    output = inspect(station, folder / "rgb" / "001.png", tmp_path / "overlays")
    assert verdicts(output) == [("NG", "anomaly")]


def test_folders_for_each_defect_type_are_judged(station: StationRoot, tmp_path: Path) -> None:
    for kind in ("dent", "scratch"):
        write_clouds(tmp_path / "bad" / kind, [BAD])
    output = inspect(station, tmp_path / "bad", tmp_path / "overlays")
    assert verdicts(output) == [("NG", "anomaly")] * 2
    assert "missed 0 of 2 defective" in output


def test_clouds_fit_a_product_of_another_depth_unit(tmp_path: Path) -> None:
    """They hold meters: in which counts is for the product to say."""
    station = make_station(tmp_path / "station", unit=0.001)
    folder = write_clouds(tmp_path / "monday", [GOOD])
    output = inspect(station, folder, tmp_path / "overlays")
    assert verdicts(output) == [("OK", "normal")]


def test_of_several_planes_none_is_chosen_but_by_station_toml(
    station: StationRoot, tmp_path: Path
) -> None:
    wrong = Geometry((0.0, 0.0, 1.0, 0.3), 0, 0)
    station.store.save_geometry("washer", "another", wrong, INTRINSICS, frames=30, who="test")
    folder = write_clouds(tmp_path / "monday", [GOOD])
    output = inspect(station, folder, tmp_path / "overlays")
    assert verdicts(output) == [("UNKNOWN", "uncalibrated")]
    assert "hint: the files name no camera, and there are planes for several" in output
    assert "another" in output.splitlines()[-2]
    assert SERIAL in output.splitlines()[-2]
    station.configure("realsense", None, more=f'serial = "{SERIAL}"\n')
    assert verdicts(inspect(station, folder, tmp_path / "overlays")) == [("OK", "normal")]


def test_files_that_name_another_camera_are_not_judged_with_this_ones_plane(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = write_clouds(tmp_path / "monday", [GOOD])
    (folder / "camera.json").write_text(
        '{"serial": "123", "width": 128, "height": 96, "unit": 0.0001,'
        ' "intrinsics": [300, 300, 63.5, 47.5]}'
    )
    output = inspect(station, folder, tmp_path / "overlays")
    assert verdicts(output) == [("UNKNOWN", "uncalibrated")]
    assert "hint: no background plane for camera 123" in output


@pytest.mark.parametrize("kind", ["nan", "mm", "neg", "TIFF"])
@pytest.mark.parametrize("place", ["category", "category/train/good", "good"])
def test_a_category_of_mvtec_3d_ad_is_judged(
    cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    """Of which only the good parts to train on are there; and these parts' folder alone."""
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(cases))
        patch.setattr(sys, "argv", ["07_xyz", str(tmp_path / "category"), kind])
        patch.setattr(tifffile, "imwrite", tifffile.imwrite)  # the script replaces it
        runpy.run_path(str(cases / "07_xyz.py"), run_name="__main__")
    shutil.rmtree(tmp_path / "category" / "test")
    shutil.copytree(tmp_path / "category/train/good", tmp_path / "good")
    station = make_station(
        tmp_path / "station", calibrated=False, intrinsics=(200, 200, 63.5, 47.5), max_area=0.9
    )
    plane = Geometry((*PLANE[:3], 0.4), 0, 0)
    station.store.save_geometry("washer", SERIAL, plane, INTRINSICS, frames=30, who="test")
    found = verdicts(inspect(station, tmp_path / place, tmp_path / "overlays"))
    assert len(found) == 8
    assert {reason for _, reason in found} <= {"normal", "anomaly"}
