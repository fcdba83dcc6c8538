"""Numbers that cannot be are refused, and what drivers write for no reading is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from edge.errors import DataError
from edge.frames.clouds import intrinsics_of, read_cloud
from edge.frames.dataset import open_dataset
from tests.support.layouts import (
    HEIGHT,
    WIDTH,
    cloud,
    color_image,
    counts_image,
    write_mvtec3d,
    write_rgb,
)

GOOD = {"width": WIDTH, "height": HEIGHT, "unit": 0.0001, "intrinsics": [30, 30, 11.25, 9.5]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"intrinsics": [1.5, 1.5, 0.5, 0.5]}, "a focal length of 1.5 pixels is a view of"),
        ({"intrinsics": [30, 30, 900, 9]}, "the optical center 900, 9 lies far outside"),
        ({"intrinsics": [300, 30, 11, 9]}, "fx 300 and fy 30 belong to no camera"),
        ({"intrinsics": [float("nan"), 30, 11, 9]}, "finite number"),
        ({"unit": 1000}, "unit: Input should be less than"),
        ({"crop": [-1, 0, 10, 10]}, "crop 10x10 at -1, 0 leaves the 24x20 image"),
        ({"crop": [20, 0, 10, 10]}, "crop 10x10 at 20, 0 leaves"),
        (
            {"intrinsics": [60, 60, 11.25, 9.5]},
            "has a focal length of 30 pixels, the camera's file says 60",
        ),
    ],
)
def test_a_camera_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    (write_mvtec3d(tmp_path) / "camera.json").write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(DataError, match=sentence) as caught:
        open_dataset(tmp_path).samples[0].load()
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("missing", ["unit", "intrinsics"])
def test_counts_of_an_unknown_unit_or_lens_are_refused(tmp_path: Path, missing: str) -> None:
    write_rgb(tmp_path / "rgb/000.png", color_image(0))
    write_rgb(tmp_path / "depth/000.png", counts_image(0))
    told = {key: value for key, value in GOOD.items() if key != missing}
    (tmp_path / "camera.json").write_text(json.dumps(told))
    with pytest.raises(DataError, match=f"holds counts of an unknown unit or lens: add {missing}"):
        open_dataset(tmp_path).samples[0].load()


def test_the_largest_count_is_no_reading(tmp_path: Path) -> None:
    counts = counts_image(0)
    counts[:3] = 65535
    write_rgb(tmp_path / "rgb/000.png", color_image(0))
    write_rgb(tmp_path / "depth/000.png", counts)
    (tmp_path / "camera.json").write_text(json.dumps(GOOD))
    depth = open_dataset(tmp_path).samples[0].load().depth
    assert depth is not None
    assert (depth[:3] == 0).all()
    np.testing.assert_array_equal(depth[3:], counts[3:])


@pytest.mark.parametrize(
    "placeholder", [(0, 0, 65.535), (0, 0, 10), (1e10, 1e10, 1e10), (-1, -1, -1), (0, 0, -1)]
)
def test_placeholders_in_a_cloud_are_no_readings(
    tmp_path: Path, placeholder: tuple[float, float, float]
) -> None:
    points = cloud(counts_image(1))
    points[::2, ::2] = placeholder
    tifffile.imwrite(tmp_path / "a.tiff", points, photometric="rgb")
    found = read_cloud(tmp_path / "a.tiff")
    assert (found.z[::2, ::2] == 0).all()
    assert found.notes == ()
    np.testing.assert_allclose(intrinsics_of(found), (30, 30, 11.25, 9.5), rtol=1e-3)
