"""Folders that hold rgb/ and its depth and nothing else: whichever of them is named, color and
depth belong together, and what is not known is said.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from edge.errors import DataError
from edge.frames.camera_info import names_no_camera, unnamed_serial
from edge.frames.dataset import open_dataset, open_images, require_normal
from edge.frames.reading import Reading
from tests.support.layouts import (
    CENTER_X,
    CENTER_Y,
    FOCAL,
    HEIGHT,
    WIDTH,
    cloud,
    color_image,
    counts_image,
    write_frames,
    write_mvtec,
    write_mvtec3d,
    write_rgb,
)

CAMERA = {
    "width": WIDTH,
    "height": HEIGHT,
    "intrinsics": [FOCAL, FOCAL, CENTER_X, CENTER_Y],
    "unit": 0.001,
}


def write_good(folder: Path, count: int = 3, depth: str = "xyz") -> Path:
    for number in range(count):
        write_rgb(folder / f"rgb/{number:03d}.png", color_image(number))
        path = folder / depth / f"{number:03d}{'.tiff' if depth == 'xyz' else '.png'}"
        path.parent.mkdir(exist_ok=True)
        if depth == "xyz":
            tifffile.imwrite(path, cloud(counts_image(number)), photometric="rgb")
        else:
            write_rgb(path, counts_image(number))
    return folder


def write_camera(folder: Path, **more: object) -> None:
    told = {key: value for key, value in {**CAMERA, **more}.items() if value is not None}
    (folder / "camera.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("place", "numbers"), [(".", [0, 1, 2]), ("rgb", [0, 1, 2]), ("rgb/001.png", [1])]
)
def test_whatever_is_named_of_a_folder_of_clouds_has_its_depth(
    tmp_path: Path, place: str, numbers: list[int]
) -> None:
    dataset = open_dataset(write_good(tmp_path / "good") / place)
    assert (dataset.layout, dataset.has_depth) == ("rgb", True)
    assert [sample.name for sample in dataset.samples] == [f"{n:03d}" for n in numbers]
    for number, sample in zip(numbers, dataset.samples, strict=True):
        frame = sample.load()
        np.testing.assert_array_equal(frame.color, color_image(number))
        assert frame.depth is not None
        np.testing.assert_allclose(frame.depth * frame.unit, counts_image(number) * 0.0001)
        assert frame.intrinsics.fx == pytest.approx(FOCAL, rel=1e-3)


@pytest.mark.parametrize("place", ["xyz", "xyz/001.tiff"])
def test_depth_alone_is_refused_with_the_folder_to_name(tmp_path: Path, place: str) -> None:
    good = write_good(tmp_path / "good")
    with pytest.raises(DataError, match=f"holds depth alone: name {good}, which has its color"):
        open_dataset(good / place)


def test_inside_a_product_depth_alone_is_refused_too(tmp_path: Path) -> None:
    product = write_mvtec3d(tmp_path / "product")
    with pytest.raises(DataError, match="train/good/xyz holds depth alone"):
        open_dataset(product / "train" / "good" / "xyz")
    inside = open_dataset(product / "train" / "good" / "rgb")
    assert (inside.has_depth, len(inside.samples)) == (True, 2)


@pytest.mark.parametrize("place", ["train/good", "train/good/rgb", "train/good/rgb/000.png"])
def test_what_lies_beside_the_folder_that_is_named_is_nobodys_concern(
    tmp_path: Path, place: str
) -> None:
    """Overlays of `edge inspect`, say; of the product itself they are refused."""
    product = write_mvtec3d(tmp_path / "product")
    write_rgb(product / "overlays" / "test_good_000.png", color_image(7))
    assert open_dataset(product / place).has_depth
    with pytest.raises(DataError, match=r"overlays/test_good_000\.png has no place in the layout"):
        open_dataset(product)
    write_rgb(product / "train" / "good" / "preview.png", color_image(7))
    with pytest.raises(DataError, match=r"train/good/preview\.png has no place in the layout"):
        open_dataset(product / "train" / "good")


def test_counts_of_an_unknown_unit_are_no_part_of_a_folder_rgb(tmp_path: Path) -> None:
    """The color images are usable without them; with a camera.json both are."""
    good = write_good(tmp_path / "batch" / "good", depth="depth")
    assert not open_dataset(good / "rgb").has_depth
    write_camera(tmp_path / "batch")
    dataset = open_dataset(good / "rgb")
    assert dataset.has_depth
    assert dataset.samples[0].load().unit == 0.001


def test_clouds_are_counted_in_the_unit_of_the_product(tmp_path: Path) -> None:
    good = write_good(tmp_path / "good")
    dataset = open_dataset(good, Reading(unit=0.0005))
    frame = dataset.samples[1].load()
    assert frame.unit == dataset.camera.unit == 0.0005
    assert frame.depth is not None
    far = counts_image(1) * 0.0001
    np.testing.assert_allclose(frame.depth * frame.unit, far, atol=0.00026)
    write_camera(good)
    assert open_dataset(good, Reading(unit=0.0005)).samples[1].load().unit == 0.001


def test_a_camera_without_a_unit_says_what_its_clouds_are_counted_in(tmp_path: Path) -> None:
    """A virtual camera tells librealsense this unit: it has to be the frames' own."""
    good = write_good(tmp_path / "good")
    write_camera(good, unit=None)
    dataset = open_dataset(good)
    assert dataset.camera.unit == dataset.samples[0].load().unit == 0.0001


def test_a_folder_of_a_sub_folder_for_each_defect_type_is_a_set_of_images(tmp_path: Path) -> None:
    for kind in ("dent", "scratch"):
        write_rgb(tmp_path / "bad" / kind / "000.png", color_image(1))
    with pytest.raises(DataError, match="no known layout"):
        open_dataset(tmp_path / "bad")
    images = open_images(tmp_path / "bad")
    assert [sample.defect for sample in images.samples] == ["dent", "scratch"]


def test_normal_parts_are_asked_for_where_a_folder_holds_defective_ones(tmp_path: Path) -> None:
    product = write_mvtec3d(tmp_path / "product")
    told = rf"product holds 1 defective images \(dent\), .*: name {product}/train/good$"
    with pytest.raises(DataError, match=told):
        require_normal(open_dataset(product))
    for place in ("train", "validation/good", "test/good"):
        require_normal(open_dataset(product / place))
    with pytest.raises(DataError, match="name a folder of good parts"):
        require_normal(open_dataset(product / "test" / "dent"))
    photos = tmp_path / "photos"
    for kind in ("NG", "good"):
        write_rgb(photos / kind / "000.png", color_image(1))
    with pytest.raises(DataError, match=rf"1 defective images \(NG\), .*: name {photos}/good$"):
        require_normal(open_dataset(photos))
    require_normal(open_dataset(write_mvtec(tmp_path / "other") / "train"))


def test_frames_of_a_stream_are_not_sorted_whatever_a_test_knows_of_them(tmp_path: Path) -> None:
    belt = write_frames(tmp_path / "belt")
    truth = [{"part": 0, "defect": "dent", "group": "relief", "frames": [0, 0]}]
    (belt / "truth.json").write_text(json.dumps(truth))
    dataset = open_dataset(belt)
    assert any(sample.is_defective for sample in dataset.samples)
    require_normal(dataset)


@pytest.mark.parametrize("name", ["good", "Gehäuse 7", "部品", "x" * 200, "a\nb"])
def test_what_stands_for_a_serial_is_one_that_a_station_takes(name: str) -> None:
    serial = unnamed_serial(name)
    assert names_no_camera(serial)
    assert serial.isascii()
    assert serial.isprintable()
    assert len(serial) <= 64
    assert unnamed_serial(name + "2") != serial == unnamed_serial(name)
