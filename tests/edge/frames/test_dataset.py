"""Every layout comes back as it was written, and every damage is named by its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from edge.frames.dataset import Dataset, find_products, open_dataset
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


def by_name(dataset: Dataset) -> dict[str, int]:
    return {sample.name: index for index, sample in enumerate(dataset.samples)}


def test_mvtec_gives_splits_defects_and_pixels(tmp_path: Path) -> None:
    dataset = open_dataset(write_mvtec(tmp_path / "plate"))
    assert (dataset.layout, dataset.product, dataset.has_depth) == ("mvtec", "plate", False)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [3, 0, 5]
    assert [s.is_defective for s in dataset.split("test")] == [False, False, True, True, True]
    first = dataset.samples[0].load()
    np.testing.assert_array_equal(first.color, color_image(0))
    assert first.depth is None
    assert first.serial == "files:plate"
    assert dataset.camera.width == WIDTH
    assert not dataset.camera.fixed


def test_gray_and_jpg_images_become_three_channels(tmp_path: Path) -> None:
    dataset = open_dataset(write_mvtec(tmp_path))
    gray, jpg = dataset.samples[1].load(), dataset.samples[2].load()
    np.testing.assert_array_equal(gray.color, np.repeat(color_image(1)[..., :1], 3, axis=-1))
    assert jpg.color.shape == (HEIGHT, WIDTH, 3)


def test_masks_are_pixels_nothing_or_unknown(tmp_path: Path) -> None:
    dataset = open_dataset(write_mvtec(tmp_path))
    index = by_name(dataset)
    good, scratch, unmapped = (
        dataset.samples[index[name]].load_mask()
        for name in ("test/good/000", "test/scratch/001", "test/scratch_nomask/000")
    )
    assert good is not None
    assert not good.any()
    assert scratch is not None
    np.testing.assert_array_equal(scratch, spot_mask() > 0)
    assert unmapped is None


def test_mvtec3d_gives_exact_counts_and_the_lens(tmp_path: Path) -> None:
    dataset = open_dataset(write_mvtec3d(tmp_path / "bagel"))
    assert (dataset.layout, dataset.has_depth) == ("mvtec3d", True)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [2, 1, 2]
    for seed, name in ((0, "train/good/000"), (4, "test/dent/000")):
        frame = dataset.samples[by_name(dataset)[name]].load()
        np.testing.assert_array_equal(frame.depth, counts_image(seed))
        assert frame.depth is not None
        assert frame.depth.dtype == np.uint16
    i = dataset.samples[0].load().intrinsics
    np.testing.assert_allclose(
        (i.fx, i.fy, i.cx, i.cy), (FOCAL, FOCAL, CENTER_X, CENTER_Y), rtol=1e-4
    )
    mask = dataset.samples[by_name(dataset)["test/dent/000"]].load_mask()
    assert mask is not None
    assert mask.sum() == 6


def test_mvtec3d_without_any_xyz_is_a_color_product(tmp_path: Path) -> None:
    dataset = open_dataset(write_mvtec3d(tmp_path, with_depth=False))
    assert not dataset.has_depth
    assert dataset.samples[0].load().depth is None


def test_camera_json_rules_over_what_the_images_tell(tmp_path: Path) -> None:
    camera = {
        "width": WIDTH,
        "height": HEIGHT,
        "unit": 0.001,
        "intrinsics": [31, 32, 12, 10],
        "serial": "A1",
    }
    (write_mvtec3d(tmp_path) / "camera.json").write_text(json.dumps(camera))
    frame = open_dataset(tmp_path).samples[0].load()
    assert (frame.unit, frame.serial, frame.intrinsics.fy) == (0.001, "A1", 32)
    np.testing.assert_allclose(frame.depth, counts_image(0) / 10, atol=0.51)


def test_folder_gives_frames_in_order_of_their_numbers(tmp_path: Path) -> None:
    dataset = open_dataset(write_frames(tmp_path / "belt", 4))
    assert (dataset.layout, len(dataset.samples), dataset.has_depth) == ("folder", 4, True)
    frames = [sample.load() for sample in dataset.samples]
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.color, color_image(number))
        np.testing.assert_array_equal(frame.depth, counts_image(number))
        assert (frame.frame_number, frame.unit, frame.intrinsics.cx) == (number, 0.0001, CENTER_X)
    assert np.all(np.diff([frame.captured_mono_ns for frame in frames]) > 0)
    assert dataset.samples[0].load_mask() is None
    assert dataset.samples[0].defect == ""


def test_folder_without_depth_is_color_only(tmp_path: Path) -> None:
    assert open_dataset(write_frames(tmp_path, with_depth=False)).samples[0].load().depth is None


def test_truth_of_a_belt_names_the_defects(tmp_path: Path) -> None:
    parts = [
        {"part": 0, "defect": "good", "group": None, "frames": [1, 1]},
        {"part": 1, "defect": "dent", "group": "relief", "frames": [2, 3]},
    ]
    (write_frames(tmp_path, 5) / "truth.json").write_text(json.dumps(parts))
    assert [sample.defect for sample in open_dataset(tmp_path).samples] == [
        "",
        "good",
        "dent",
        "dent",
        "",
    ]


@pytest.mark.parametrize(
    ("below", "count"), [("test", 2), ("test/dent", 1), ("test/dent/rgb", 1), ("train", 2)]
)
def test_a_subfolder_opens_as_the_part_of_its_product(
    tmp_path: Path, below: str, count: int
) -> None:
    write_mvtec3d(tmp_path / "bagel")
    dataset = open_dataset(tmp_path / "bagel" / below)
    assert (dataset.product, len(dataset.samples), dataset.has_depth) == ("bagel", count, True)
    assert all(sample.name.startswith(below.removesuffix("/rgb")) for sample in dataset.samples)


def test_products_are_found_in_a_folder_or_are_the_folder(tmp_path: Path) -> None:
    one, two = write_mvtec(tmp_path / "one"), write_mvtec3d(tmp_path / "two")
    (tmp_path / "notes").mkdir()
    assert find_products(tmp_path) == [one, two]
    assert find_products(one) == [one]
    assert find_products(tmp_path / "notes") == []
    with pytest.raises(DataError, match=r"one, two"):
        open_dataset(tmp_path)


def test_visa_is_read_by_its_split_table(tmp_path: Path) -> None:
    dataset = open_dataset(write_visa(tmp_path / "candle"))
    assert (dataset.layout, dataset.product, dataset.has_depth) == ("visa", "candle", False)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [2, 0, 3]
    assert [sample.defect for sample in dataset.split("test")] == ["good", "anomaly", "anomaly"]
    for name in ("test/anomaly/000", "test/anomaly/001"):
        mask = dataset.samples[by_name(dataset)[name]].load_mask()
        assert mask is not None
        np.testing.assert_array_equal(mask, spot_mask() > 0)  # whatever its class is
    assert find_products(tmp_path) == [tmp_path / "candle"]


@pytest.mark.parametrize(("before", "after"), [("/", "\\"), (".JPG", ".jpg")])
def test_a_split_table_of_another_system_is_read(tmp_path: Path, before: str, after: str) -> None:
    root = write_visa(tmp_path / "candle")
    table = tmp_path / "split_csv" / "1cls.csv"
    table.write_text(table.read_text().replace(before, after))
    everything(root)
    assert len(open_dataset(root).samples) == 5


@pytest.mark.parametrize(
    ("before", "after", "wrong"),
    [
        ("test,normal", "test,good", "'good'"),
        ("train,normal", "training,normal", "'training'"),
        ("object,split", "category,split", "object,split,label,image,mask"),
        ("candle,", "cookie,", "lists no image of candle"),
    ],
)
def test_a_split_table_with_other_words_is_refused(
    tmp_path: Path, before: str, after: str, wrong: str
) -> None:
    root = write_visa(tmp_path / "candle")
    table = tmp_path / "split_csv" / "1cls.csv"
    table.write_text(table.read_text().replace(before, after))
    with pytest.raises(DataError, match=wrong) as caught:
        open_dataset(root)
    assert str(table) in str(caught.value)


def test_btad_has_ok_and_ko(tmp_path: Path) -> None:
    dataset = open_dataset(write_btad(tmp_path / "01"))
    assert (dataset.layout, dataset.product, dataset.has_depth) == ("btad", "01", False)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [2, 0, 3]
    assert [(sample.defect, sample.is_defective) for sample in dataset.split("test")] == [
        ("good", False),
        ("ko", True),
        ("ko", True),
    ]
    mask = dataset.samples[by_name(dataset)["test/ko/0001"]].load_mask()
    assert mask is not None
    np.testing.assert_array_equal(mask, spot_mask() > 0)
    assert find_products(tmp_path) == [tmp_path / "01"]


def everything(path: Path) -> None:
    """Open and read all that a trainer or evaluator would."""
    for sample in open_dataset(path).samples:
        sample.load()
        sample.load_mask()


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:60])
    return path


def gone(path: Path) -> Path:
    path.unlink()
    return path


def resized(path: Path) -> Path:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert cv2.imwrite(str(path), image[:-2])
    return path


def text(path: Path) -> Path:
    path.write_text("{not json")
    return path


Damage = Callable[[Path], Path]
DAMAGES: list[tuple[Damage, str, Damage]] = [
    (write_mvtec, "train/good/000.png", empty),
    (write_mvtec, "test/scratch/001.png", cut),
    (write_mvtec, "test/scratch/001.png", resized),
    (write_mvtec, "test/good/001.png", resized),
    (write_mvtec, "ground_truth/scratch/000_mask.png", gone),
    (write_mvtec, "ground_truth/scratch/000_mask.png", resized),
    (write_mvtec, "ground_truth/scratch/000_mask.png", empty),
    (write_mvtec, "test/scratch/000.png", gone),
    (write_mvtec3d, "train/good/xyz/001.tiff", gone),
    (write_mvtec3d, "train/good/xyz/001.tiff", cut),
    (write_mvtec3d, "train/good/xyz/001.tiff", empty),
    (write_mvtec3d, "test/dent/xyz/000.tiff", gone),
    (write_mvtec3d, "test/dent/gt/000.png", gone),
    (write_mvtec3d, "test/dent/gt/000.png", resized),
    (write_mvtec3d, "train/good/rgb/001.png", gone),
    (write_mvtec3d, "validation/good/rgb/000.png", resized),
    (write_visa, "Data/Images/Normal/0001.JPG", gone),
    (write_visa, "Data/Images/Normal/0001.JPG", cut),
    (write_visa, "Data/Images/Anomaly/000.JPG", resized),
    (write_visa, "Data/Masks/Anomaly/001.png", gone),
    (write_visa, "Data/Masks/Anomaly/001.png", resized),
    (write_visa, "Data/Masks/Anomaly/001.png", empty),
    (write_visa, "../split_csv/1cls.csv", gone),
    (write_visa, "../split_csv/1cls.csv", empty),
    (write_visa, "../split_csv/1cls.csv", text),
    (write_btad, "train/ok/0001.bmp", empty),
    (write_btad, "test/ko/0000.bmp", gone),
    (write_btad, "test/ok/0002.bmp", resized),
    (write_btad, "ground_truth/ko/0001.png", gone),
    (write_btad, "ground_truth/ko/0001.png", resized),
    (write_frames, "0001_depth.png", gone),
    (write_frames, "0001_color.png", gone),
    (write_frames, "0001_depth.png", resized),
    (write_frames, "0001_depth.png", cut),
    (write_frames, "0002_color.png", resized),
    (write_frames, "intrinsics.json", gone),
    (write_frames, "intrinsics.json", text),
    (write_frames, "intrinsics.json", empty),
]


@pytest.mark.parametrize(
    ("write", "damaged", "damage"), DAMAGES, ids=lambda v: getattr(v, "__name__", v)
)
def test_damage_is_named_in_one_sentence(
    tmp_path: Path, write: Damage, damaged: str, damage: Damage
) -> None:
    path = damage(write(tmp_path / "set") / damaged)
    with pytest.raises(DataError) as caught:
        everything(tmp_path / "set")
    message = str(caught.value)
    assert str(path.parent.resolve()) in message
    assert path.stem.removesuffix("_color").removesuffix("_depth") in message
    assert "\n" not in message


def test_a_depth_image_of_eight_bits_is_refused(tmp_path: Path) -> None:
    path = write_rgb(write_frames(tmp_path) / "0000_depth.png", color_image(0))
    with pytest.raises(DataError, match="one channel of uint16") as caught:
        everything(tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("folder", ["train/good", "test/scratch"])
def test_an_empty_split_is_named(tmp_path: Path, folder: str) -> None:
    write_mvtec(tmp_path)
    for path in (tmp_path / folder).iterdir():
        path.unlink()
    with pytest.raises(DataError, match="holds no images") as caught:
        open_dataset(tmp_path)
    assert str(tmp_path / folder) in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "notes", "notes/readme.txt"])
def test_what_is_no_data_set_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/readme.txt").write_text("hello")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "key"),
    [({"widht": 3}, "width"), ({"width": WIDTH, "height": HEIGHT, "fpss": 3}, "fpss")],
)
def test_a_wrong_camera_file_names_its_key(
    tmp_path: Path, content: dict[str, int], key: str
) -> None:
    path = write_mvtec3d(tmp_path) / "camera.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=key) as caught:
        open_dataset(tmp_path)
    assert str(path) in str(caught.value)
