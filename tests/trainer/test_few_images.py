"""The products of tests/benchmarks/few_images.py hold the parts that they should, and a row says
what the run and its evaluation say.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.frames.dataset import open_dataset
from scripts.write_docs import table_of
from tests.benchmarks.few_images import ALL, COLUMNS, CONDITIONS, make_products, read_rows
from tests.support.tiny_product import SPLITS, write_tiny_product
from trainer.data.splits import digest_of_pixels, normal_splits
from trainer.runner.work import DONE

GOOD = SPLITS["train/good"]


@pytest.fixture
def product(tmp_path: Path) -> Path:
    root = write_tiny_product(tmp_path / "disc")
    (root / "station/empty").mkdir(parents=True)
    (root / "station/empty/0000.x").write_text("the empty table")
    return root


def files_in(root: Path) -> dict[str, bytes]:
    found = (file for file in root.rglob("*") if file.is_file())
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in found}


def test_a_product_of_few_parts_has_the_first_ones_and_all_that_is_not_training(
    product: Path, tmp_path: Path
) -> None:
    four, five = make_products(product, tmp_path / "few", ["4", "5"])
    assert (four.name, five.name) == ("disc-4", "disc-5")
    whole, found = files_in(product), files_in(four)
    for kind, suffix in (("rgb", "png"), ("xyz", "tiff")):
        names = {name for name in found if name.startswith(f"train/good/{kind}/")}
        assert names == {f"train/good/{kind}/{number:03d}.{suffix}" for number in range(4)}
    assert {name for name in whole if name not in found} == {
        *(name for name in whole if name.startswith("validation/")),
        *(f"train/good/rgb/{number:03d}.png" for number in range(4, GOOD)),
        *(f"train/good/xyz/{number:03d}.tiff" for number in range(4, GOOD)),
    }
    assert all(whole[name] == content for name, content in found.items())
    assert len(open_dataset(five).split("train")) == 5


def test_a_fifth_of_few_parts_validates_and_the_whole_product_has_its_own(
    product: Path, tmp_path: Path
) -> None:
    few, whole = make_products(product, tmp_path / "few", ["5", ALL])
    counts = []
    for folder in (few, whole):
        dataset = open_dataset(folder)
        digests = {sample.name: digest_of_pixels(sample.load()) for sample in dataset.samples}
        train, validation, _ = normal_splits(dataset, 0, digests)
        counts.append((len(train), len(validation)))
    assert counts == [(4, 1), (GOOD, SPLITS["validation/good"])]
    assert files_in(whole) == files_in(product)


def test_what_was_made_stays_and_what_was_interrupted_is_made_anew(
    product: Path, tmp_path: Path
) -> None:
    (made,) = make_products(product, tmp_path / "few", ["4"])
    first = made.stat().st_ino
    assert make_products(product, tmp_path / "few", ["4"])[0].stat().st_ino == first
    made.rename(tmp_path / "few/disc-4.part")
    (tmp_path / "few/disc-4.part/camera.json").unlink()
    assert (make_products(product, tmp_path / "few", ["4"])[0] / "camera.json").is_file()
    with pytest.raises(SystemExit, match=f"disc has {GOOD} parts to train on"):
        make_products(product, tmp_path / "few", ["4", "7"])


def write_job(work: Path, product: Path, system: str, validation: int) -> None:
    run = work / "jobs" / product.name / f"{system}-compact-depth-0-x" / "run"
    run.mkdir(parents=True)
    threshold = {"parts": validation, "bound": 0.95}
    info = {"system": system, "data": str(product), "threshold": threshold}
    (run / "run.json").write_text(json.dumps(info))
    rows = [{"image_auroc": 0.1, "aupro_30": 0.2}, {"image_auroc": 0.98, "aupro_30": 0.865}]
    counts = {"good": 20, "good_rejected": 4, "defective": 30, "defective_accepted": 1}
    (run / "evaluate.json").write_text(json.dumps({"rows": rows, **counts}))
    (run.parent / DONE).write_text("{}")


def test_a_row_is_what_the_run_and_its_evaluation_say(product: Path, tmp_path: Path) -> None:
    few, whole = make_products(product, tmp_path / "few", ["5", ALL])
    write_job(tmp_path, whole, "mats", 4)
    write_job(tmp_path, few, "m3dm", 1)
    write_job(tmp_path, few, "mats", 1)
    (tmp_path / "jobs/disc-5/aand-compact-depth-0-x.part").mkdir()  # has not landed
    rows = read_rows(tmp_path, "disc")
    assert [row[1:4] for row in rows] == [["MATS", 5, 1], ["MATS", 10, 4], ["M3DM", 5, 1]]
    assert rows[0] == ["disc", "MATS", 5, 1, 98.0, 86.5, "4 of 20", "29 of 30", 95.0]
    written = table_of({"conditions": CONDITIONS, "columns": COLUMNS, "rows": rows})
    assert written[2] == "| disc | MATS | 5 | 1 | 98.0 | 86.5 | 4 of 20 | 29 of 30 | 95.0 % |"
