"""A written product reads back with the numbers asked for, byte for byte the same with the same
seed.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.plane import fit_plane_to_frames
from edge.errors import DataError
from edge.files import sha256_of
from edge.frames.dataset import find_products, open_dataset
from edge.geometry import heights_m
from tests.support.baseline import baseline_scores
from trainer.metrics import image_auroc
from trainer.synthetic.products.stations import open_station
from trainer.synthetic.products.write import Amounts, write_product
from trainer.synthetic.scene_defects import GROUPS

AMOUNTS = Amounts(train=8, validation=1, test=5, per_defect=1, belt=3, empty=4)
SEED = 5
LOCAL = [kind for kind, group in GROUPS.items() if group != "logical"]


@pytest.fixture(scope="module")
def biscuit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small product on disk."""
    folder = tmp_path_factory.mktemp("parts") / "biscuit"
    assert len(list(write_product("biscuit", folder, AMOUNTS, SEED))) == 5
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_layout_holds_what_was_asked_for(biscuit: Path) -> None:
    dataset = open_dataset(biscuit)
    assert (dataset.layout, dataset.product, dataset.has_depth) == ("mvtec3d", "biscuit", True)
    assert find_products(biscuit.parent) == [biscuit]
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [
        8,
        1,
        5 + len(LOCAL),
    ]
    defective = [sample for sample in dataset.split("test") if sample.is_defective]
    assert sorted(sample.defect for sample in defective) == sorted(LOCAL)
    for sample in defective:
        mask = sample.load_mask()
        assert mask is not None
        assert mask.any()


def test_depth_counts_survive_the_point_cloud_exactly(biscuit: Path) -> None:
    station = open_station("biscuit", SEED)
    rng = station.random("train", 1)
    color, depth = station.capture(station.part(rng), rng)
    frame = open_dataset(biscuit).samples[1].load()
    np.testing.assert_array_equal(frame.depth, depth)
    np.testing.assert_array_equal(frame.color, color)


def test_the_lens_can_be_told_from_the_points_alone(biscuit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "product"
    (copy / "train").mkdir(parents=True)
    (copy / "train" / "good").symlink_to(biscuit / "train" / "good")
    told, known = open_dataset(copy).camera, open_dataset(biscuit).camera
    assert known.intrinsics is not None
    np.testing.assert_allclose(told.intrinsics, known.intrinsics, rtol=1e-4)


def test_defects_json_has_a_line_for_every_defective_image(biscuit: Path) -> None:
    records = json.loads((biscuit / "defects.json").read_text())
    names = {sample.name for sample in open_dataset(biscuit).split("test") if sample.is_defective}
    assert {record["name"] for record in records} == names
    for record in records:
        assert record["group"] == GROUPS[record["defect"]]
        mask = next(
            s for s in open_dataset(biscuit).samples if s.name == record["name"]
        ).load_mask()
        assert mask is not None
        part_px = record["part_share"] * 480 * 480
        assert mask.sum() / part_px == pytest.approx(record["area_share"], rel=0.01)


def test_one_plane_from_the_empty_table_serves_every_image(biscuit: Path) -> None:
    dataset = open_dataset(biscuit)
    empty = open_dataset(biscuit / str(dataset.camera.empty))
    assert (len(empty.samples), dataset.camera.fixed) == (4, True)
    assert empty.samples[0].load().serial == dataset.samples[0].load().serial == "virtual-biscuit"
    plane = fit_plane_to_frames([sample.load() for sample in empty.samples]).plane
    for sample in dataset.samples[::5]:
        frame = sample.load()
        assert frame.depth is not None
        height = heights_m(frame.depth, frame.unit, plane)
        corner = height[:40, :60]
        assert abs(float(np.nanmedian(corner))) < 2e-4
        assert 0.20 < np.nanmean(height[:, 80:560] > 0.004) < 0.5


def test_the_belt_shows_each_part_in_eight_frames_between_empty_ones(biscuit: Path) -> None:
    belt = open_dataset(biscuit / "station" / "belt")
    truth = json.loads((biscuit / "station" / "belt" / "truth.json").read_text())
    assert len(belt.samples) == 3 * 8 + 4 * 5
    assert [part["frames"] for part in truth] == [[5, 12], [18, 25], [31, 38]]
    assert sum(part["defect"] != "good" for part in truth) == 1
    shown = [sample.defect != "" for sample in belt.samples]
    assert shown == ([False] * 5 + [True] * 8) * 3 + [False] * 5
    first, second = belt.samples[5].load(), belt.samples[6].load()
    assert not np.array_equal(first.depth, second.depth)  # the same part, the camera's noise anew
    assert np.abs(first.color.astype(int) - second.color).mean() < 3


def test_same_seed_gives_the_same_bytes_however_many_are_made(
    biscuit: Path, tmp_path: Path
) -> None:
    amounts = Amounts(train=2, validation=1, test=1, per_defect=1, belt=0, empty=2)
    list(write_product("biscuit", tmp_path / "few", amounts, SEED))
    few, many = digests(tmp_path / "few"), digests(biscuit)
    images = [path for path in few if path.endswith((".png", ".tiff"))]
    assert len(images) > 40
    assert [path for path in images if few[path] != many[path]] == []


def test_a_product_with_counted_elements_has_logical_defects_in_the_test_set_and_on_the_belt(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "fusebox"
    amounts = Amounts(train=1, validation=1, test=1, per_defect=1, belt=2, empty=1)
    told = list(write_product("fusebox", folder, amounts, SEED))
    assert f"test: 1 of each of {len(GROUPS)} defects" in told
    records = {
        record["defect"]: record for record in json.loads((folder / "defects.json").read_text())
    }
    assert {defect: record["group"] for defect, record in records.items()} == GROUPS
    for sample in open_dataset(folder).split("test"):
        mask = sample.load_mask()
        assert mask is not None
        assert mask.any() == sample.is_defective
    belt = json.loads((folder / "station" / "belt" / "truth.json").read_text())
    assert [part["group"] for part in belt if part["defect"] != "good"] == ["logical"]


def test_a_folder_with_a_product_is_not_overwritten(biscuit: Path) -> None:
    with pytest.raises(DataError, match="already holds a product"):
        next(write_product("biscuit", biscuit, AMOUNTS, SEED))


def test_the_baseline_without_learning_does_not_solve_it(biscuit: Path) -> None:
    tested, scores = baseline_scores(open_dataset(biscuit))
    assert image_auroc(np.array([sample.is_defective for sample in tested]), scores) < 0.85
