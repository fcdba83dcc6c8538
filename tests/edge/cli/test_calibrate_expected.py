"""`edge calibrate expected` as a technician uses it: parts shown to a station whose camera plays
files, once through librealsense in a process of its own, and what is found afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from calibration import expected_session as session
from edge.camera.factory import make_camera
from edge.cli import app
from edge.errors import ConfigError, EdgeError
from edge.station.audit import read_audit
from tests.support.station import (
    EMPTY,
    HEIGHT,
    SERIAL,
    WIDTH,
    StationRoot,
    make_station,
    write_belt,
)
from tests.support.tiny_bundle import PART_M, PLANE, TABLE_M, UNIT

pytestmark = pytest.mark.timeout(600)

Window = tuple[int, int, int, int]  # top, bottom, left, right in pixels
WHOLE: Window = (24, 72, 32, 96)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """To copy from; nothing may change it."""
    return make_station(tmp_path_factory.mktemp("made") / "station", fixed_pose=True)


@pytest.fixture
def station(made: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StationRoot:
    """Its camera plays files in this process, which takes a fifth of the time."""
    monkeypatch.setattr(session, "supervised_camera", make_camera)
    station = made.copied_to(tmp_path / "station")
    station.configure("folder", tmp_path / "belt")
    return station


def plate(folder: Path, number: int, *windows: Window, hole: Window | None = None) -> None:
    """Lay a flat plate into view `number` of a folder: windows of it, less a hole."""
    inside = np.zeros((HEIGHT, WIDTH), bool)
    for top, bottom, left, right in windows:
        inside[top:bottom, left:right] = True
    if hole is not None:
        inside[hole[0] : hole[1], hole[2] : hole[3]] = False
    noise = np.random.default_rng(number).normal(0, 0.0003, inside.shape)
    depth = np.round((np.where(inside, PART_M, TABLE_M) + noise) / UNIT).astype(np.uint16)
    color = np.where(inside[..., None], (80, 90, 100), (60, 60, 60)).astype(np.uint8)
    cv2.imwrite(str(folder / f"{number:04d}_depth.png"), depth)
    cv2.imwrite(str(folder / f"{number:04d}_color.png"), color)


def moved(down: int = 0, right: int = 0, of: Window = WHOLE) -> Window:
    return of[0] + down, of[1] + down, of[2] + right, of[3] + right


def parts(folder: Path, windows: Sequence[Window]) -> Path:
    """One image for each part."""
    write_belt(folder, [EMPTY] * len(windows))
    for number, window in enumerate(windows):
        plate(folder, number, window)
    return folder


def calibrate(station: StationRoot, *more: object) -> str:
    words = ["calibrate", "expected", "--root", str(station.root), *map(str, more)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def mask_of(station: StationRoot) -> NDArray[np.uint8]:
    geometry = station.store.geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.expected is not None
    return geometry.expected


def refused(station: StationRoot, sentence: str, *more: object) -> None:
    """With this sentence, and nothing changed."""
    before = station.store.geometry_records("washer"), len(read_audit(station.root))
    with pytest.raises(EdgeError, match=sentence):
        calibrate(station, *more)
    assert (station.store.geometry_records("washer"), len(read_audit(station.root))) == before


def test_parts_that_pass_the_camera_one_after_the_other(made: StationRoot, tmp_path: Path) -> None:
    """Each is seen in six frames; in the first of them it still lies aside."""
    pytest.importorskip("pyrealsense2", reason="the virtual camera needs pyrealsense2")
    station = made.copied_to(tmp_path / "station")
    station.configure("virtual", tmp_path / "belt")
    belt = write_belt(tmp_path / "belt", [EMPTY] * 50)
    for number in range(5):
        plate(belt, 10 * number + 2, moved(down=12, right=8))
        for more in range(5):
            plate(belt, 10 * number + 3 + more, WHOLE)
    said = calibrate(station, "--count", 5)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[28:68, 36:92] = 255  # the plate less a cell
    np.testing.assert_array_equal(mask_of(station), expected)
    record = station.store.geometry_record("washer", SERIAL)
    assert record is not None
    assert (record.version, record.plane, record.frames) == (2, PLANE, 30)
    assert record.expected is not None
    assert (record.expected.parts, record.expected.margin_px) == (5, 4.0)
    assert "part 5 of 5: frame " in said
    assert re.search(rf"camera +{SERIAL}\nparts +5\nmargin +4\.0 px, 6\.7 mm on the table", said)
    kept = record.expected
    assert f"saved        version 2, by {kept.who}, {kept.when}\nnext " in said
    assert read_audit(station.root)[-1].act == "calibrate expected"


def test_each_image_of_a_folder_is_a_part_and_their_spread_is_the_margin(
    station: StationRoot, tmp_path: Path
) -> None:
    shifts = [(0, 0), (0, 4), (4, 0), (-4, 0), (0, -4)]
    folder = parts(tmp_path / "parts", [moved(down, right) for down, right in shifts])
    said = calibrate(station, "--count", 5, "--source", folder)
    assert "margin       8.0 px" in said
    kept = np.argwhere(mask_of(station))
    np.testing.assert_array_equal([kept.min(axis=0), kept.max(axis=0)], [[36, 44], [59, 83]])


def test_a_piece_that_is_missing_is_found_from_then_on_and_a_new_plane_forgets_it(
    station: StationRoot, tmp_path: Path
) -> None:
    folder = parts(tmp_path / "parts", [WHOLE] * 5)
    views = write_belt(tmp_path / "views", [EMPTY] * 2)
    plate(views, 0, WHOLE)
    plate(views, 1, WHOLE, hole=(40, 56, 56, 72))

    def verdicts() -> list[str]:
        words = ["inspect", views, "--root", station.root, "--out", tmp_path / "overlays"]
        result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        return re.findall(r"^\d+ .* (OK|NG) ", result.output, re.MULTILINE)

    assert verdicts() == ["OK", "OK"]
    calibrate(station, "--count", 5, "--source", folder)
    assert verdicts() == ["OK", "NG"]
    station.expect(np.full((HEIGHT, WIDTH - 4), 255, np.uint8))  # of a bundle with another crop
    calibrate(station, "--count", 5, "--source", folder)
    assert verdicts() == ["OK", "NG"]
    empty = write_belt(tmp_path / "empty", [EMPTY] * 5)
    words = ["plane", "--root", station.root, "--frames", 5, "--source", empty]
    result = CliRunner().invoke(app, ["calibrate", *map(str, words)], catch_exceptions=False)
    assert "expected     dropped: that of 5 parts was of the view before" in result.output
    assert verdicts() == ["OK", "OK"]
    result = CliRunner().invoke(app, ["calibrate", *map(str, words)], catch_exceptions=False)
    assert "dropped" not in result.output


@pytest.mark.parametrize(
    ("windows", "sentence"),
    [
        ([WHOLE] * 4, "only 4 parts were shown, 5 are needed: ask for --count 4 or show more"),
        ([WHOLE] * 2 + [(0, 0, 0, 0)], "part 3: no part is in view"),
        ([WHOLE, (4, 92, 8, 120)], "part 2: more than one part is in view"),
        ([moved(down=-24)], "part 1: it touches the border of the view"),
        ([WHOLE] * 3 + [moved(right=24), WHOLE], r"part 4 of 5 .*lacks 24 px .*displaced"),
        (
            [WHOLE, moved(16), moved(0, 28), moved(-16), moved(0, -28)],
            "in different poses: they need no expected silhouette",
        ),
    ],
)
def test_what_is_refused(
    station: StationRoot, tmp_path: Path, windows: list[Window], sentence: str
) -> None:
    folder = parts(tmp_path / "parts", windows)
    refused(station, sentence, "--count", 5, "--source", folder)


def test_two_parts_at_a_time_are_refused(station: StationRoot, tmp_path: Path) -> None:
    """As production sees it: the second follows without a gap."""
    belt = write_belt(tmp_path / "belt", [EMPTY] * 12)
    for number in range(2, 4):
        plate(belt, number, (30, 66, 8, 40))
    for number in range(4, 10):
        plate(belt, number, (30, 66, 80, 112))
    refused(station, "part 1: two parts followed each other too closely", "--count", 5)


def test_without_parts_without_a_plane_and_without_depth(
    station: StationRoot, tmp_path: Path
) -> None:
    write_belt(tmp_path / "belt", [EMPTY] * 10)
    refused(station, "part 1: no part is in view", "--count", 5)
    geometry = station.store.site_folder("washer") / "geometry.json"
    geometry.unlink()
    refused(station, f"no background plane .* {SERIAL}: run `edge calibrate plane`", "--count", 5)
    refused(station, "does not exist", "--source", tmp_path / "nowhere")
    color = make_station(tmp_path / "color", calibrated=False, presence=False)
    color.configure("folder", tmp_path / "belt")
    refused(color, "judges color only: it needs no expected silhouette")


def test_a_plane_that_is_calibrated_meanwhile_is_not_overwritten(
    station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = session.expected_silhouette

    def and_the_plane(silhouettes: object) -> object:
        station.calibrate()
        return find(silhouettes)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "expected_silhouette", and_the_plane)
    folder = parts(tmp_path / "parts", [WHOLE] * 5)
    with pytest.raises(ConfigError, match="calibrated anew"):
        calibrate(station, "--count", 5, "--source", folder)


def test_too_few_are_not_asked_for(station: StationRoot) -> None:
    words = ["calibrate", "expected", "--root", str(station.root), "--count", "4"]
    assert CliRunner().invoke(app, words).exit_code == 2
