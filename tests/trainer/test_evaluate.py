"""Groups of drawn defects are shown wherever figures are: in the printed table, evaluate.json and the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from edge.files import write_json
from edge.frames.dataset import open_dataset
from tests.support.standin_run import MODULE, write_product, write_standin_run
from trainer.evaluate import Evaluation, evaluate_run, write_evaluation
from trainer.report.page import GROUP_COLORS
from trainer.run import load_run
from trainer.synthetic.defects import Group
from trainer.systems import base
from trainer.table import table_lines, threshold_lines


@pytest.fixture(scope="module", autouse=True)
def standin_system() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base.SYSTEM_MODULES, "standin", MODULE)
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    """A run folder with its evaluation; the four defective images are one of each group."""
    root = tmp_path_factory.mktemp("standin")
    product = write_product(root / "product")
    records = [
        {"name": f"test/spot/{index:03d}", "group": group, "defect": "spot", "area_share": 0.01, "height_sigma": 4.0}
        for index, group in enumerate(("logical", "depth", "color", "both"))
    ]
    write_json(product / "defects.json", records)
    run, dataset = load_run(write_standin_run(root / "run", product)), open_dataset(product)
    evaluation = evaluate_run(run, dataset)
    write_evaluation(run, dataset, evaluation)
    return run.folder, evaluation


def test_every_group_has_its_figures_over_its_own_images_and_all_good_ones(judged: tuple[Path, Evaluation]) -> None:
    folder, evaluation = judged
    assert [row.name for row in evaluation.groups] == ["depth", "color", "both", "logical"]
    logical = evaluation.groups[-1]
    assert logical.defective == 1
    own = evaluation.scores[evaluation.names.index("test/spot/000")]
    good = evaluation.scores[~evaluation.labels]
    assert logical.image_auroc == pytest.approx(float(((own > good) + 0.5 * (own == good)).mean()))
    stored = json.loads((folder / "evaluate.json").read_text())
    assert [row["name"] for row in stored["groups"]] == ["depth", "color", "both", "logical"]


def test_the_printed_table_and_the_report_name_every_group(judged: tuple[Path, Evaluation]) -> None:
    folder, evaluation = judged
    printed = [line.split()[0] for line in table_lines(evaluation)]
    page = re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text())
    section = page[page.index("By what shows the defect") :]
    for group in get_args(Group):
        assert f"({group})" in printed
        assert re.search(rf"\s{group}\s+1\s", section)      # a row: the group, one defective image


def test_the_operating_points_are_printed_stored_and_shown(judged: tuple[Path, Evaluation]) -> None:
    folder, evaluation = judged
    run = load_run(folder)
    lines = threshold_lines(run, evaluation)
    assert lines[-1] == f"threshold {run.info.threshold.value:.6g}: {run.info.threshold.guarantee}"
    assert [line[:2] for line in lines[1:4]] == ["  ", "> ", "  "]
    assert lines[2].endswith("4 of 4")
    stored = json.loads((folder / "evaluate.json").read_text())["operating_points"]
    assert [point["threshold"]["rank"] for point in stored] == [1, 2, 3, 4]
    assert stored[0]["found"] == {"real": {"count": 4, "of": 4}}
    page = re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text())
    assert re.search(r"highest \(chosen\)\s+0\.0\d+\s+4\.0%\s+11\.7%\s+4 of 4", page)
    assert re.search(r"false rejects\s+5% asked for: rank 1 of 24 normal scores", page)


def test_the_report_has_a_color_for_every_group() -> None:
    assert set(GROUP_COLORS) == set(get_args(Group))
    assert len(set(GROUP_COLORS.values())) == len(GROUP_COLORS)
