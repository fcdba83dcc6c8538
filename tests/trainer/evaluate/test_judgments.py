"""Which judgment makes a part NG, and that table, evaluate.json and report say so."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.frames.dataset import open_dataset
from tests.support.standin_run import MODULE, write_product, write_standin_run
from trainer.evaluate.evaluation import Evaluation, evaluate_run
from trainer.evaluate.files import write_evaluation
from trainer.evaluate.images import JudgedImage, ShownImage
from trainer.evaluate.judged import Judged, open_judged
from trainer.evaluate.judgments import judgments_of, reasons_of
from trainer.evaluate.report.model import Judgment
from trainer.evaluate.table import table_lines
from trainer.systems import registry
from trainer.train.trained_run import TrainedRun, load_run

THRESHOLD, USUAL = 2.0, 1.0


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_product(tmp_path_factory.mktemp("judgments") / "product")


def image(product: Path, is_defective: bool = True, **shares: float) -> JudgedImage:
    """Whose score is the sum of these shares."""
    samples = open_dataset(product).split("test")
    sample = next(one for one in samples if one.is_defective is is_defective)
    score = float(np.float32(sum(shares.values())))
    return JudgedImage(ShownImage(sample), score, np.zeros((1, 1), np.float32), None, shares)


@pytest.mark.parametrize(
    ("shares", "reasons"),
    [
        ({"detector": 1.5, "outline": 0.0, "heights": 0.0}, ()),
        ({"detector": 2.5, "outline": 0.0, "heights": 0.0}, ("detector",)),
        ({"detector": 2.5, "outline": 0.5, "heights": 0.0}, ("detector",)),
        ({"detector": 1.1, "outline": 0.0, "heights": 1.5}, ("heights",)),
        ({"detector": 2.5, "outline": 3.0, "heights": 0.0}, ("detector", "outline")),
        # none would by itself
        ({"detector": 1.4, "outline": 0.0, "heights": 0.8}, ("detector", "heights")),
    ],
)
def test_a_judgment_is_a_reason_if_it_rejects_by_itself(
    product: Path, shares: Mapping[str, float], reasons: tuple[str, ...]
) -> None:
    assert reasons_of(image(product, True, **shares), THRESHOLD, USUAL) == reasons


def test_what_each_judgment_finds_is_counted(product: Path) -> None:
    images = [
        image(product, detector=2.5, outline=0.0),
        image(product, detector=2.5, outline=3.0),
        image(product, detector=1.0, outline=3.0),
        image(product, detector=1.0, outline=0.0),
        image(product, False, detector=1.0, outline=1.5),
        image(product, False, detector=1.0, outline=0.0),
    ]
    assert judgments_of(images, THRESHOLD, USUAL) == [
        Judgment("detector", 2, 1, 0),
        Judgment("outline", 2, 1, 1),
    ]
    alone = [replace(one, shares={"detector": one.score}) for one in images]
    assert judgments_of(alone, THRESHOLD, USUAL) == []
    unknown = [replace(one, shares={}) for one in images]
    assert judgments_of(unknown, THRESHOLD, USUAL) == []


@pytest.fixture
def evaluated(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainedRun, Judged, Evaluation]:
    monkeypatch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
    run = load_run(write_standin_run(tmp_path / "run", product))
    judged = open_judged(run.info, product)
    return run, judged, evaluate_run(run, judged)


def test_a_detector_that_judges_alone_is_no_table(
    evaluated: tuple[TrainedRun, Judged, Evaluation],
) -> None:
    run, judged, evaluation = evaluated
    assert [dict(one.shares) for one in evaluation.images] == [
        {"detector": one.score} for one in evaluation.images
    ]
    page = write_evaluation(run, judged, evaluation).read_text()
    assert "Which judgment rejects" not in page
    assert not any("NG by" in line for line in table_lines(evaluation))


def test_table_file_and_report_say_which_judgment_rejects(
    evaluated: tuple[TrainedRun, Judged, Evaluation],
) -> None:
    run, judged, evaluation = evaluated
    usual = float(np.median(run.info.normal_scores))
    assert evaluation.usual == usual
    raised = [
        replace(one, shares={"detector": usual, "heights": one.score - usual})
        for one in evaluation.images
    ]
    evaluation = replace(evaluation, images=raised)
    found = int((evaluation.rejected & evaluation.labels).sum())
    assert found
    refused = int((evaluation.rejected & ~evaluation.labels).sum())
    lines = table_lines(evaluation)
    place = next(number for number, line in enumerate(lines) if line.startswith("NG by"))
    assert [line.split() for line in lines[place + 1 : place + 3]] == [
        ["detector", "0", "0", "0"],
        ["heights", str(found), str(found), str(refused)],
    ]
    page = write_evaluation(run, judged, evaluation).read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert f"heights {found} {found} {refused}" in text
    assert "NG by heights, found" in text
    stored = json.loads((run.folder / "evaluate.json").read_text())
    assert stored["judgments"][1] == {
        "name": "heights",
        "found": found,
        "alone": found,
        "refused": refused,
    }
    by_name = {one["name"]: one for one in stored["images"]}
    for one in evaluation.images:
        rejected = one.is_rejected(evaluation.threshold)
        assert by_name[one.name]["reasons"] == (["heights"] if rejected else [])
        assert by_name[one.name]["shares"] == dict(one.shares)
