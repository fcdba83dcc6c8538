"""Folders as people leave them: every image has its place, or is named in the sentence that refuses
the set.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import DataError
from edge.frames.dataset import Dataset, open_dataset
from tests.support.layouts import (
    CENTER_X,
    CENTER_Y,
    FOCAL,
    HEIGHT,
    WIDTH,
    color_image,
    counts_image,
    spot_mask,
    write_btad,
    write_frames,
    write_mvtec,
    write_mvtec3d,
    write_rgb,
    write_visa,
)

Build = Callable[[Path], object]
INTRINSICS = {
    "width": WIDTH,
    "height": HEIGHT,
    "depth_unit_m": 0.001,
    "fx": FOCAL,
    "fy": FOCAL,
    "cx": CENTER_X,
    "cy": CENTER_Y,
}


def color(*places: str) -> Build:
    """Write a color image at every place."""
    return lambda root: [
        write_rgb(root / place, color_image(seed)) for seed, place in enumerate(places)
    ]


def depth(*places: str) -> Build:
    return lambda root: [
        write_rgb(root / place, counts_image(seed)) for seed, place in enumerate(places)
    ]


def mask(*places: str) -> Build:
    return lambda root: [write_rgb(root / place, spot_mask()) for place in places]


def moved(old: str, new: str) -> Build:
    def move(root: Path) -> None:
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        (root / old).rename(root / new)

    return move


def part(root: Path, place: str) -> None:
    """A part as the station keeps it."""
    write_rgb(root / place / "color.png", color_image(0))
    write_rgb(root / place / "depth.png", counts_image(0))
    (root / place / "record.json").write_text('{"code": 1}')
    (root / place / "intrinsics.json").write_text(json.dumps(INTRINSICS))


def counts(dataset: Dataset) -> dict[tuple[str, str], int]:
    return dict(Counter((sample.split, sample.defect) for sample in dataset.samples))


PHOTOS = color("0.png", "1.png")
DIRECT = color("train/good/0.png", "test/good/0.png")
REFUSED: dict[str, tuple[list[Build], str]] = {
    "test_public": (
        [write_mvtec, moved("test", "test_public")],
        r"ground_truth/scratch belongs to no folder of",
    ),
    "leftover": (
        [DIRECT, color("test_public/good/000.png")],
        r"test_public/good/000\.png has no place in",
    ),
    "masks folder": (
        [DIRECT, mask("masks/scratch/0_mask.png")],
        r"masks/scratch/0_mask\.png has no place",
    ),
    "photos and train": (
        [PHOTOS, color("train/x.png")],
        r"/0\.png has no place in the layout mvtec",
    ),
    "photos and rgb": ([PHOTOS, color("rgb/x.png")], r"/0\.png has no place in the layout rgb"),
    "photos and a frame": (
        [PHOTOS, color("9_color.png")],
        r"/0\.png has no place in the layout folder",
    ),
    "frames and a folder": ([write_frames, color("more/x.png")], r"more/x\.png has no place"),
    "photos and a part": (
        [PHOTOS, lambda root: part(root, "x")],
        r"/0\.png has no place in the layout archive",
    ),
    "product and a part": (
        [write_mvtec, lambda root: part(root, "test/new/x")],
        r"new/x/depth\.png is depth",
    ),
    "btad": (
        [write_btad, color("test/scratch/0.png")],
        r"test/scratch/0\.png has no place in the layout btad",
    ),
    "beside rgb": (
        [write_mvtec3d, color("train/good/left/0.png")],
        r"left/0\.png lies in a folder that is not read",
    ),
    "GT": (
        [write_mvtec3d, moved("test/dent/gt", "test/dent/GT")],
        r"dent/GT/000\.png lies in a folder that is not",
    ),
    "val twice": (
        [DIRECT, color("val/good/0.png", "valid/good/0.png")],
        r"val and valid are both the validation",
    ),
    "color and depth": (
        [color("train/good/color/0.png"), depth("train/good/depth/0.png")],
        r"depth/0\.png is depth",
    ),
    "photo depth": (
        [color("good/color/0.png"), depth("good/depth/0.png")],
        r"good/depth/0\.png is depth by its name",
    ),
    "depth stem": (
        [color("5_rgb.png"), depth("5_depth.png")],
        r"5_depth\.png is depth by its name",
    ),
    "depth first": (
        [color("color_5.png"), depth("depth_5.png")],
        r"depth_5\.png is depth by its name",
    ),
    "aligned": (
        [color("good/rgb/0.png"), depth("good/aligned_depth/0.png")],
        r"aligned_depth holds depth of a kind",
    ),
    "mask stem": (
        [DIRECT, color("test/cut/0.png"), mask("test/cut/0_mask.png")],
        r"cut/0_mask\.png is a mask",
    ),
    "mask below": (
        [DIRECT, color("test/cut/0.png"), mask("test/cut/Masks/0.png")],
        r"cut/Masks/0\.png is a mask",
    ),
    "mask class": (
        [color("good/0.png"), mask("ground_truth/cut/1.png")],
        r"ground_truth/cut/1\.png is a mask",
    ),
    "unowned masks": (
        [write_mvtec, mask("ground_truth/dent/0_mask.png")],
        r"ground_truth/dent belongs to no",
    ),
    "two masks": ([write_mvtec, mask("ground_truth/scratch/000.png")], r"are masks of one image"),
    "good below": (
        [DIRECT, color("test/b1/good/0.png", "test/b1/cut/0.png")],
        r"b1 holds a folder good: put good",
    ),
    "good below train": (
        [color("train/b1/good/0.png", "test/good/0.png")],
        r"train/b1 holds a folder good: put good",
    ),
    "photo days": (
        [color("good/0.png", "monday/good/0.png")],
        r"monday holds a folder good: put good",
    ),
    "NG below good": (
        [color("train/good/NG/0.png", "train/good/0.png")],
        r"train/good/NG lies below good parts",
    ),
    "class below good": ([color("good/cut/0.png", "cut/1.png")], r"good/cut lies below good parts"),
    "lens only": (
        [lambda root: (root / "intrinsics.json").write_text(json.dumps(INTRINSICS))],
        r"holds no frames",
    ),
    "mpo": (
        [DIRECT, lambda root: (root / "train/good/1.mpo").write_bytes(b"x")],
        r"1\.mpo: MPO images are not read",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_place_is_named_in_one_sentence(tmp_path: Path, case: str) -> None:
    root, (builds, sentence) = tmp_path / "set", REFUSED[case]
    root.mkdir()
    for build in builds:
        build(root)
    with pytest.raises(DataError, match=sentence) as caught:
        open_dataset(root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("test", "Test"),
        ("train", "TRAIN"),
        ("test/good", "test/good "),
        ("ground_truth/scratch", "ground_truth/Scratch"),
        ("ground_truth/scratch/000_mask.png", "ground_truth/scratch/000_Mask.png"),
        ("train/good/000.png", "train/good/monday/000.png"),
    ],
)
def test_other_spellings_are_read_as_the_plain_ones(tmp_path: Path, old: str, new: str) -> None:
    expected = open_dataset(write_mvtec(tmp_path / "plain"))
    moved(old, new)(write_mvtec(tmp_path / "other"))
    other = open_dataset(tmp_path / "other")
    assert counts(other) == counts(expected)
    assert sum(isinstance(sample.truth, Path) for sample in other.samples) == 2


@pytest.mark.parametrize("name", ["val", "Valid", "validation"])
def test_validation_may_be_called_val(tmp_path: Path, name: str) -> None:
    color(f"{name}/good/0.png")(write_mvtec(tmp_path))
    assert len(open_dataset(tmp_path).split("validation")) == 1
    assert len(open_dataset(tmp_path / name).samples) == 1


def test_an_umlaut_is_one_letter_however_it_is_stored(tmp_path: Path) -> None:
    color("train/good/0.png", "test/f\u00e4den/pr\u00fcf.png")(tmp_path)
    mask("ground_truth/fa\u0308den/pru\u0308f_mask.png")(tmp_path)
    assert isinstance(open_dataset(tmp_path).split("test")[0].truth, Path)


def test_masks_of_btad_and_beside_rgb_may_be_called_mask(tmp_path: Path) -> None:
    moved("ground_truth/ko/0000.png", "ground_truth/ko/0000_mask.png")(
        write_btad(tmp_path / "btad")
    )
    moved("test/dent/gt/000.png", "test/dent/gt/000_MASK.png")(write_mvtec3d(tmp_path / "bagel"))
    for name, count in (("btad", 2), ("bagel", 1)):
        assert (
            sum(isinstance(sample.truth, Path) for sample in open_dataset(tmp_path / name).samples)
            == count
        )


def test_a_product_keeps_its_station_and_its_lens_file(tmp_path: Path) -> None:
    root = write_mvtec3d(tmp_path)
    expected = counts(open_dataset(root))
    write_frames(root / "station/empty")
    camera = {"width": WIDTH, "height": HEIGHT, "empty": "station/empty"}
    (root / "camera.json").write_text(json.dumps(camera))
    (root / "intrinsics.json").write_text(json.dumps(INTRINSICS))
    assert open_dataset(root).layout == "mvtec3d"
    assert counts(open_dataset(root)) == expected
    assert open_dataset(root / "station/empty").layout == "folder"


def test_litter_and_loops_are_no_images(tmp_path: Path) -> None:
    expected = counts(open_dataset(write_mvtec(tmp_path)))
    (tmp_path / "test/loop").symlink_to("..")
    (tmp_path / "test/good/loop").symlink_to(tmp_path)
    (tmp_path / "test/System Volume Information").mkdir()
    (tmp_path / "train/good/~$000.png").write_bytes(b"x")
    assert counts(open_dataset(tmp_path)) == expected


def test_frames_are_in_order_of_their_numbers_with_their_masks_beside(tmp_path: Path) -> None:
    color(*(f"{number}_color.png" for number in (10, 9, 2, 1)))(tmp_path)
    mask("10_mask.png")(tmp_path)
    assert [sample.name for sample in open_dataset(tmp_path).samples] == ["1", "2", "9", "10"]


def test_visa_names_an_image_by_its_path(tmp_path: Path) -> None:
    root = write_visa(tmp_path / "candle")
    normal = "Data/Images/Normal"
    for old, new in (("0000", "a/0000"), ("0001", "b/0000")):
        moved(f"{normal}/{old}.JPG", f"{normal}/{new}.JPG")(root)
        table = tmp_path / "split_csv/1cls.csv"
        table.write_text(
            table.read_text().replace(
                f"candle/Data/Images/Normal/{old}.", f"candle/{normal}/{new}."
            )
        )
    assert [sample.name for sample in open_dataset(root).split("train")] == [
        "train/good/a/0000",
        "train/good/b/0000",
    ]


def test_a_mask_folder_that_is_gone_leaves_the_pixels_unknown(tmp_path: Path) -> None:
    shutil.rmtree(write_mvtec(tmp_path) / "ground_truth")
    assert not any(isinstance(sample.truth, Path) for sample in open_dataset(tmp_path).samples)
