"""How hard a product is without learning is told per group, apart for color and height."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.errors import DataError
from edge.files import write_json
from edge.frames.dataset import Dataset, open_dataset
from edge.types import Frame, Intrinsics
from tests.benchmarks.compared import answer, compared
from tests.benchmarks.hardness import COLUMNS, hardness, silhouette_overlap
from tests.support.standin_run import write_product

GROUPS = ("color", "relief", "color", "worn")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The stand-in product, whose spots are red: color shows them and height does not."""
    root = write_product(tmp_path_factory.mktemp("hardness") / "product")
    records = [
        {"name": f"test/spot/{index:03d}", "group": group, "defect": "spot", "area_share": 0.01}
        for index, group in enumerate(GROUPS)
    ]
    write_json(root / "defects.json", records)
    return open_dataset(root)


def cells(row: list[Any]) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True))


def test_every_group_has_a_row_apart_for_color_and_height(product: Dataset) -> None:
    rows = [cells(row) for row in hardness(product)]
    assert [(row["group"], row["images"]) for row in rows] == [
        ("relief", 1),
        ("color", 2),
        ("worn", 1),
        ("all", 4),
    ]
    overall = rows[-1]
    assert overall["product"] == "product"
    assert overall["I-AUROC, color"] == 100
    assert overall["AUPRO 0.3, color"] > 90
    assert overall["AUPRO 0.3, height"] < 50
    assert overall["AUPRO 0.3, height"] < overall["AUPRO 0.3, both"]


def test_color_only_data_has_no_cells_of_height(product: Dataset) -> None:
    row = cells(hardness(replace(product, has_depth=False))[-1])
    assert (row["I-AUROC, height"], row["AUPRO 0.3, both"]) == (None, None)
    assert row["I-AUROC, color"] == 100


def test_without_defects_there_is_nothing_to_find(product: Dataset) -> None:
    good = replace(product, samples=tuple(s for s in product.samples if not s.is_defective))
    with pytest.raises(DataError, match="has no defective images"):
        hardness(good)


def bar(turned: bool) -> Frame:
    """A bar of 3 mm on a table 300 mm away; turned by a right angle or not."""
    depth = np.full((60, 60), 3000, np.uint16)
    depth[26:34, 10:50] = 2970
    depth = depth.T if turned else depth
    color = np.zeros((60, 60, 3), np.uint8)
    return Frame(
        color, np.ascontiguousarray(depth), 1e-4, Intrinsics(60, 60, 80, 80, 30, 30), "t", 0, 0
    )


@pytest.mark.parametrize("fixed", [True, False])
def test_silhouettes_overlap_where_parts_do_not_turn(fixed: bool) -> None:
    assert silhouette_overlap([bar(False)] * 4, fixed) == 1
    turning = silhouette_overlap([bar(False), bar(False), bar(True), bar(False)], fixed)
    assert turning == pytest.approx((3 + 64 / (2 * 320 - 64)) / 4, abs=0.005)
    assert silhouette_overlap([replace(bar(False), depth=None)], fixed) is None


def test_another_detectors_answers_are_compared_as_evaluate_compares(product: Dataset) -> None:
    """A map that is the mask finds all; one of zeros finds by chance."""
    answers = []
    for sample in product.split("test"):
        ideal = answer(product, sample, float(sample.is_defective), np.zeros((1, 1), np.float32))
        assert ideal.truth is not None
        assert ideal.truth.any() == sample.is_defective
        shown = ideal.truth.astype(np.float32) * (sample.name != "test/spot/003")
        answers.append(replace(ideal, map=shown))
    found = compared(product.root, answers)
    groups = {row["name"]: row for row in found["groups"]}
    assert [row["name"] for row in found["rows"]] == ["spot", "all"]
    assert groups["relief"]["aupro_01"] == pytest.approx(1)
    assert groups["worn"]["aupro_30"] < 0.3
    assert groups["worn"]["image_auroc"] == 1


def test_the_truth_is_that_of_the_crop(product: Dataset) -> None:
    sample = next(sample for sample in product.split("test") if sample.is_defective)
    mask = sample.load_mask()
    assert mask is not None
    cropped = replace(product, camera=product.camera.model_copy(update={"crop": (20, 15, 90, 70)}))
    truth = answer(cropped, sample, 0.0, np.zeros((1, 1), np.float32)).truth
    assert np.array_equal(truth, mask[15:85, 20:110])
