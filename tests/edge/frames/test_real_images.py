"""The real folders open, with the numbers their description gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.frames.dataset import open_dataset


def test_screw_has_its_images_and_masks(real_data: Path) -> None:
    dataset = open_dataset(real_data / "screw")
    test = dataset.split("test")
    defective = [sample for sample in test if sample.is_defective]
    assert (len(dataset.split("train")), len(test) - len(defective), len(defective)) == (
        320,
        41,
        119,
    )
    unmapped = [sample for sample in defective if sample.defect == "unmapped_defect"]
    assert len(unmapped) == 25
    assert unmapped[0].load_mask() is None
    mask = next(sample for sample in defective if sample.defect == "thread_top").load_mask()
    assert mask is not None
    assert mask.shape == (448, 448)
    assert 0 < mask.mean() < 0.2


def test_cookies_have_their_images_and_masks(real_data: Path) -> None:
    dataset = open_dataset(real_data / "cookies")
    broken = [sample for sample in dataset.split("test") if sample.is_defective]
    assert (len(dataset.split("train")), len(dataset.split("test")) - len(broken), len(broken)) == (
        31,
        14,
        40,
    )
    assert sum(sample.load_mask() is None for sample in broken) == 8


@pytest.mark.parametrize(
    ("name", "count", "size"),
    [
        ("gqcnn_single_primesense", 10, (480, 640)),
        ("uoc_tabletop", 9, (480, 640)),
        ("cleargrasp_d435_opaque", 4, (720, 1280)),
        ("tsdf_stream", 20, (480, 640)),
    ],
)
def test_sensor_folders_give_aligned_frames(
    real_data: Path, name: str, count: int, size: tuple[int, int]
) -> None:
    dataset = open_dataset(real_data / "rgbd" / name)
    assert len(dataset.samples) == count
    frame = dataset.samples[-1].load()
    assert frame.depth is not None
    assert frame.depth.shape == frame.color.shape[:2] == size
    assert frame.unit == 0.001
    assert 200 < frame.depth[frame.depth > 0].mean() < 5000
