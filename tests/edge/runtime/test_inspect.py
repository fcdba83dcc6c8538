"""`edge inspect`: a table, pictures, a closing line against the truth; and nothing on the line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from edge.cli import app
from edge.errors import ConfigError, DataError
from edge.install.install import install_bundle
from edge.station.trust import trust
from edge.types import Code, Reason
from tests.support.fakes import committed
from tests.support.station import (
    BAD,
    EMPTY,
    GOOD,
    HEIGHT,
    SERIAL,
    WIDTH,
    StationRoot,
    make_station,
    write_belt,
)
from tests.support.tiny_bundle import make_key, make_tiny_bundle

SHOTS = [GOOD, BAD, EMPTY, BAD]


def with_truth(folder: Path) -> Path:
    """The first view is good, the second and the last show one dent each, the third shows
    nothing.
    """
    write_belt(folder, SHOTS)
    parts = [
        {"part": 0, "defect": "good", "group": None, "frames": [0, 0]},
        {"part": 1, "defect": "dent", "group": "relief", "frames": [1, 1]},
        {"part": 2, "defect": "dent", "group": "relief", "frames": [3, 3]},
    ]
    (folder / "truth.json").write_text(json.dumps(parts))
    return folder


def inspect(*words: object) -> str:
    result = CliRunner().invoke(app, ["inspect", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_each_image_is_a_part_and_has_a_picture(station: StationRoot, tmp_path: Path) -> None:
    output = inspect(
        with_truth(tmp_path / "views"), "--root", station.root, "--out", tmp_path / "overlays"
    )
    rows = [line.split() for line in output.splitlines()[2:6]]
    told = [" ".join(row[-3:-1]) for row in rows]
    assert told == ["OK normal", "NG anomaly", "UNKNOWN no_part", "NG anomaly"]
    assert (
        "4 images: 1 OK, 2 NG, 1 UNKNOWN; missed 0 of 2 defective, rejected 0 of 1 good" in output
    )
    pictures = sorted((tmp_path / "overlays").glob("*.png"))
    assert len(pictures) == 4
    picture = cv2.imread(str(pictures[0]))
    assert picture is not None
    assert picture.shape[0] > HEIGHT
    assert committed(station.root) == []


def test_without_a_plane_everything_is_uncalibrated_with_the_remedy(tmp_path: Path) -> None:
    fresh = make_station(tmp_path / "fresh", calibrated=False)
    output = inspect(
        with_truth(tmp_path / "views"), "--root", fresh.root, "--out", tmp_path / "overlays"
    )
    assert "4 images: 0 OK, 0 NG, 4 UNKNOWN" in output
    assert f"no background plane for camera {SERIAL}" in output
    assert "edge calibrate plane" in output


def test_without_a_path_it_looks_through_the_camera(station: StationRoot, tmp_path: Path) -> None:
    station.configure("folder", write_belt(tmp_path / "belt", [GOOD] * 8))
    output = inspect("--root", station.root, "--out", tmp_path / "overlays")
    assert "1 image: 1 OK" in output


def test_another_size_is_camera_mismatch(tmp_path: Path) -> None:
    other = make_station(tmp_path / "other", width=640, height=480, intrinsics=None)
    output = inspect(
        with_truth(tmp_path / "views"), "--root", other.root, "--out", tmp_path / "overlays"
    )
    assert "hint: the camera delivers 128x96 pixels, the product was trained on 640x480" in output
    assert output.count(Reason.CAMERA_MISMATCH.value) == 4
    assert Code.OK.name not in [line.split()[-3] for line in output.splitlines()[2:6]]


def test_the_engine_and_its_threshold_are_said_before_the_table(
    station: StationRoot, tmp_path: Path
) -> None:
    output = inspect(
        with_truth(tmp_path / "views"), "--root", station.root, "--out", tmp_path / "overlays"
    )
    first = output.splitlines()[0]
    assert re.fullmatch(
        r"washer 1\.0\.0: onnxruntime \S+ fp32 judges, threshold 20\.\d+, measured on its own"
        r" scores\. "
        r"With 95% confidence at most \S+% of normal parts are rejected, 11\.1% on average.*",
        first,
    )
    assert output.splitlines()[1].startswith("image")


def test_each_precision_judges_by_its_own_threshold(tmp_path: Path) -> None:
    """int8 scores twice as high: under float32's threshold it would reject what float32 lets
    pass.
    """
    key = make_key(tmp_path)
    bundle = make_tiny_bundle(
        tmp_path, key, height=HEIGHT, width=WIDTH, precisions={"int8": (1.0, 25.0)}
    )
    station = StationRoot(tmp_path / "root", key.private)
    trust(station.store, key.public)
    install_bundle(bundle, station.root)
    station.calibrate()
    views = with_truth(tmp_path / "views")
    for precision, threshold in (("fp32", "20."), ("int8", "45.")):
        output = inspect(
            views, "--root", station.root, "--out", tmp_path / precision, "--precision", precision
        )
        assert f"{precision} judges, threshold {threshold}" in output
        assert (
            "4 images: 1 OK, 2 NG, 1 UNKNOWN; missed 0 of 2 defective, rejected 0 of 1 good"
            in output
        )


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("int4", "--precision int4: write fp32, fp16, int8"),
        ("int8", "washer 1.0.0 has no int8, only fp32: use one of those"),
    ],
)
def test_a_precision_that_is_not_there_is_one_sentence(
    station: StationRoot, word: str, sentence: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        inspect("--root", station.root, "--precision", word)
    assert str(refused.value) == sentence


def test_a_path_that_holds_nothing_is_one_sentence(station: StationRoot, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no known layout"):
        inspect(tmp_path / "nothing", "--root", station.root)


def test_a_view_in_the_dark_is_named_beside_its_verdict(tmp_path: Path) -> None:
    """The engine calls a dark part NG, and nobody would think of the lamp."""
    normal = {"parts": 8, "black": 0.0, "white": 0.0, "mean": [80.0, 130.0], "upper": [90.0, 200.0]}
    lit = make_station(tmp_path / "lit", brightness=normal)
    views = with_truth(tmp_path / "views")
    usual = inspect(views, "--root", lit.root, "--out", tmp_path / "overlays")
    assert "lamp" not in usual
    for path in sorted(views.glob("*_color.png"))[:2]:
        cv2.imwrite(str(path), cv2.imread(str(path)) // 10)
    dark = inspect(views, "--root", lit.root, "--out", tmp_path / "overlays").splitlines()
    noted = [line for line in dark[2:6] if "look at lamp, lens and exposure" in line]
    assert len(noted) == 2
    assert [line.split()[0] for line in noted] == ["0000", "0001"]
    assert [line.split()[2:4] for line in noted] == [["NG", "anomaly"]] * 2, (
        "a note, not another verdict"
    )
    assert dark[6].startswith("hint: 2 of 4 images: 0000: ")


def test_a_bundle_that_knows_no_brightness_names_none(station: StationRoot, tmp_path: Path) -> None:
    views = with_truth(tmp_path / "views")
    for path in views.glob("*_color.png"):
        cv2.imwrite(str(path), cv2.imread(str(path)) // 40)
    assert "lamp" not in inspect(views, "--root", station.root, "--out", tmp_path / "overlays")
