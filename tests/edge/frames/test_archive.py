"""What the station kept can be inspected, evaluated and trained on again, as the camera saw it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.errors import DataError
from edge.frames.dataset import open_dataset
from edge.frames.reading import Reading
from edge.runtime.kept_files import Images
from edge.types import Code, Frame, Intrinsics
from tests.support.kept import write_images
from tests.support.layouts import (
    CENTER_X,
    CENTER_Y,
    FOCAL,
    HEIGHT,
    WIDTH,
    color_image,
    counts_image,
)


def frame_of(seed: int, serial: str = "A1", with_depth: bool = True) -> Frame:
    lens = Intrinsics(WIDTH, HEIGHT, FOCAL, FOCAL, CENTER_X, CENTER_Y)
    depth = counts_image(seed) if with_depth else None
    return Frame(color_image(seed), depth, 0.0001, lens, serial, seed, seed, exposure_us=8000.0)


def keep(parts: Path, number: int, code: Code, serial: str = "A1", with_depth: bool = True) -> Path:
    folder = parts / "2026-11-29" / f"cell-{number}"
    record = {
        "id": f"cell-{number}",
        "code": int(code),
        "reason": "normal",
        "score": 0.5,
        "thr": 1.0,
    }
    write_images(
        folder,
        Images("", frame_of(number, serial, with_depth), np.zeros((4, 5), np.float32), record),
    )
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    for number, code in enumerate((Code.OK, Code.NG, Code.UNKNOWN, Code.OK)):
        keep(tmp_path / "parts", number, code)
    return tmp_path / "parts"


@pytest.mark.parametrize("opened", ["", "2026-11-29"])
def test_a_kept_part_is_the_frame_that_the_station_saw(parts: Path, opened: str) -> None:
    dataset = open_dataset(parts / opened)
    assert (dataset.layout, dataset.has_depth, dataset.camera.serial) == ("archive", True, "A1")
    for seed, sample in enumerate(dataset.samples):
        frame, expected = sample.load(), frame_of(seed)
        np.testing.assert_array_equal(frame.color, expected.color)
        np.testing.assert_array_equal(frame.depth, expected.depth)
        assert (frame.unit, frame.intrinsics, frame.exposure_us) == (
            0.0001,
            expected.intrinsics,
            8000.0,
        )


def test_one_kept_part_is_a_set_of_one(parts: Path) -> None:
    (sample,) = open_dataset(parts / "2026-11-29" / "cell-1").samples
    np.testing.assert_array_equal(sample.load().depth, counts_image(1))


def test_the_stations_verdicts_stand_in_for_the_truth_and_that_is_said(parts: Path) -> None:
    dataset = open_dataset(parts)
    assert [sample.defect for sample in dataset.samples] == ["good", "NG", "", "good"]
    # only OK parts train
    assert [sample.split for sample in dataset.samples] == ["", "test", "test", ""]
    assert any("stand in for the truth" in note for note in dataset.notes)
    assert any("1 of 4 parts were UNKNOWN" in note for note in dataset.notes)


def test_sorted_by_hand_the_folders_say_what_the_parts_are(parts: Path, tmp_path: Path) -> None:
    for number, kind in enumerate(("good", "scratch", "good", "scratch")):
        shutil.copytree(
            parts / "2026-11-29" / f"cell-{number}", tmp_path / "sorted" / kind / f"cell-{number}"
        )
    dataset = open_dataset(tmp_path / "sorted")
    assert [sample.defect for sample in dataset.samples] == ["good", "good", "scratch", "scratch"]
    assert dataset.notes == ()


def test_parts_of_two_cameras_are_not_mixed(parts: Path) -> None:
    keep(parts, 9, Code.OK, serial="B2")
    with pytest.raises(DataError, match=r"cell-9 and .*cell-0 come from different cameras"):
        open_dataset(parts)


def test_a_color_only_archive_reads_too_and_can_be_letterboxed(tmp_path: Path) -> None:
    keep(tmp_path, 0, Code.OK, with_depth=False)
    assert not open_dataset(tmp_path).has_depth
    assert open_dataset(tmp_path, Reading((30, 30))).samples[0].load().color.shape == (30, 30, 3)


@pytest.mark.parametrize(
    ("name", "defect"), [("good", "good"), ("scratch", "scratch"), ("good/2026-11-29", "good")]
)
def test_a_folder_sorted_by_hand_says_the_class_when_it_is_opened_itself(
    parts: Path, tmp_path: Path, name: str, defect: str
) -> None:
    for number in range(2):
        shutil.copytree(
            parts / "2026-11-29" / f"cell-{number}", tmp_path / "sorted" / name / f"cell-{number}"
        )
    dataset = open_dataset(tmp_path / "sorted" / Path(name).parts[0])
    assert [sample.defect for sample in dataset.samples] == [defect, defect]
    assert any("its name says what they are" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("color.png", r"cell-2 has a record\.json and no color\.png"),
        ("depth.png", r"cell-2 has no depth\.png"),
    ],
)
def test_a_part_without_an_image_is_named(parts: Path, file: str, sentence: str) -> None:
    (parts / "2026-11-29" / "cell-2" / file).unlink()
    with pytest.raises(DataError, match=sentence):
        open_dataset(parts)


@pytest.mark.parametrize(("key", "value"), [("depth_unit_m", 0.001), ("fx", 31.0)])
def test_parts_of_two_setups_are_not_mixed(parts: Path, key: str, value: float) -> None:
    path = parts / "2026-11-29" / "cell-2" / "intrinsics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(
        DataError, match=r"cell-2 and .*cell-0 have different intrinsics or depth units"
    ):
        open_dataset(parts)


def test_a_folder_of_good_photos_beside_an_archive_says_nothing_about_it(parts: Path) -> None:
    (parts.parent / "good").mkdir()
    assert open_dataset(parts.rename(parts.parent / "line")).samples[1].defect == "NG"


def test_an_image_among_the_parts_is_named(parts: Path) -> None:
    shutil.copy(parts / "2026-11-29" / "cell-2" / "color.png", parts / "good.png")
    with pytest.raises(DataError, match=r"good\.png has no place in the layout archive"):
        open_dataset(parts)
