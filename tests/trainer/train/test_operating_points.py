"""Operating points and outliers: what the user chooses a threshold from, and what no defect ever
moves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from edge.errors import DataError
from edge.frames.dataset import open_dataset
from edge.frames.images import read_color
from tests.support.standin_run import MODULE, write_product, write_standin_run
from trainer.cli import app
from trainer.fit import FitControl
from trainer.systems import registry
from trainer.train.defect_scores import DefectScores, measure_defects
from trainer.train.operating_points import few_lines, operating_lines, operating_points, suggestion
from trainer.train.options import TrainOptions
from trainer.train.outliers import find_named_outliers, outlier_lines
from trainer.train.run_folder import RUN_FILE
from trainer.train.run_info import read_info
from trainer.train.trained_run import load_run
from trainer.train.training import train

# The category of the issue: 29 normal scores, one outlier 0.43, the next 0.32, the median 0.21; 87
# defects.
NORMAL = [
    0.21,
    *np.linspace(0.15, 0.205, 14),
    *np.linspace(0.215, 0.26, 10),
    0.29,
    0.30,
    0.32,
    0.43,
]
NAMES = [f"validation/good/{index:03d}" for index in range(29)]
DEFECTS = DefectScores(
    kind="real", groups={"real": (*[0.19] * 49, 0.27, *[0.295] * 9, *[0.31] * 8, *[0.4] * 20)}
)
GOOD = [*np.linspace(0.15, 0.25, 24), 0.295]

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


@pytest.fixture(autouse=True)
def standin_system(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
    torch.set_num_threads(1)
    return


def test_the_outlier_is_named_with_its_score_the_next_and_the_median() -> None:
    (outlier,) = find_named_outliers(NAMES, NORMAL)
    assert outlier.name == "validation/good/028"
    assert (outlier.score, outlier.next_score, outlier.median) == (0.43, 0.32, 0.21)
    told, asked = outlier_lines([outlier], 1, Path("run"))
    assert (
        "validation/good/028 scores 0.43; the next normal part scores 0.32, the median is 0.21"
        in told
    )
    assert "run/outliers/validation-good-028.png" in told
    assert (
        asked
        == "Is it a defect, a damaged file, or a kind of normal part that is too rare in the set?"
        " It alone sets the threshold. `trainer export` stops until you say --leave-out NAME or"
        " --keep NAME."
    )
    assert "alone" not in outlier_lines([outlier], 2, Path("run"))[-1]


def test_of_two_outliers_the_next_is_one_that_is_none() -> None:
    scores = [*np.linspace(0.9, 1.2, 28), 4.0, 3.8]
    first, second = find_named_outliers([str(index) for index in range(30)], scores)
    assert (first.name, second.name) == ("28", "29")
    assert first.next_score == second.next_score == 1.2
    assert "They alone set the threshold" in outlier_lines([first, second], 2, Path("run"))[-1]


@pytest.mark.parametrize("parts", [20, 100])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(1, 0.15, n),
        lambda rng, n: rng.lognormal(0, 0.3, n),
        lambda rng, n: rng.lognormal(0, 0.6, n),
    ],
    ids=["normal", "lognormal", "wide lognormal"],
)
def test_ordinary_draws_name_an_outlier_in_at_most_one_of_ten(parts: int, draw: Draw) -> None:
    named = [
        bool(find_named_outliers([""] * parts, list(draw(np.random.default_rng(i), parts))))
        for i in range(200)
    ]
    assert np.mean(named) <= 0.1


def test_the_table_shows_that_the_next_points_find_defects() -> None:
    points = operating_points(NORMAL, 1, 0.05, DEFECTS)
    assert [point.threshold.rank for point in points] == [1, 2, 3, 4, 6]
    assert [point.found["real"].count for point in points] == [0, 20, 28, 37, 38]
    assert {point.found["real"].of for point in points} == {87}
    assert points[0].threshold.value == float(np.float32(0.43))
    lines = operating_lines(points, 1)
    assert lines[0].endswith("real defects found")
    assert [line for line in lines if line.startswith(">")] == [lines[2]]
    assert lines[2].split() == [">", "highest", "0.43", "3.3%", "9.8%", "0", "of", "87"]
    assert lines[5].split()[:4] == ["4th", "highest", "0.29", "13.3%"]
    assert len({len(line) for line in lines[1:]}) == 1, "columns"


def test_one_part_is_a_part_and_makes_no_bundle() -> None:
    one, two = (operating_points(NORMAL[:count], 1, 0.05, DEFECTS) for count in (1, 2))
    assert operating_lines(one, 1)[0].startswith("operating points of 1 normal part: ")
    assert few_lines(one[0].threshold)[-1].startswith("a bundle takes at least 2")
    assert "bundle" not in " ".join(few_lines(two[0].threshold))


def test_parts_left_out_are_in_every_guarantee() -> None:
    points = operating_points(NORMAL[:-1], 1, 0.05, DEFECTS, left_out=1)
    assert [point.threshold.left_out for point in points] == [1] * 4
    assert points[0].threshold.guarantee.endswith("; 6.7% on average if the 1 left out were normal")
    assert points[0].found["real"].count == 20


def test_a_score_at_the_threshold_is_not_found() -> None:
    at = float(np.float32(0.43))
    points = operating_points(
        NORMAL, 1, 0.05, DefectScores(kind="real", groups={"real": (at, at + 1e-9, 0.4300001)})
    )
    assert points[0].found["real"].count == 1


def test_real_defects_suggest_and_never_move() -> None:
    points = operating_points(NORMAL, 1, 0.05, DEFECTS)
    assert (
        suggestion(points, 1, GOOD)
        == "The real defects would suggest the 4th highest: 37 of 87 found instead of 0, 13.3% of"
        " normal parts rejected on average instead of 3.3%, 1 more rejected of 25 good test"
        " parts. Defects never move the threshold; --false-rejects 13.4% does"
    )
    assert suggestion(operating_points(NORMAL, 4, 0.134, DEFECTS), 4, GOOD) is None, (
        "already chosen"
    )
    fewer = suggestion(operating_points(NORMAL, 6, 0.2, DEFECTS), 6, [0.27] * 5)
    assert fewer is not None
    assert "5 fewer rejected of 5 good test parts" in fewer
    synthetic = DefectScores(kind="synthetic", groups={"faint": (0.3,), "strong": (0.5,)})
    assert suggestion(operating_points(NORMAL, 1, 0.05, synthetic), 1) is None


def test_without_defective_images_synthetic_ones_are_drawn_in_three_strengths(
    tmp_path: Path,
) -> None:
    product = write_product(tmp_path / "product")
    run, dataset = load_run(write_standin_run(tmp_path / "run", product)), open_dataset(product)
    normal = replace(
        dataset, samples=tuple(sample for sample in dataset.samples if not sample.is_defective)
    )
    validation = dataset.split("validation")
    made = measure_defects(run.deployed, run.info.scene(), normal, validation, pytest.fail)
    assert made.kind == "synthetic"
    assert {name: len(scores) for name, scores in made.groups.items()} == {
        "faint": 16,
        "medium": 16,
        "strong": 16,
    }
    assert (
        np.mean(made.groups["faint"])
        < np.mean(made.groups["medium"])
        < np.mean(made.groups["strong"])
    )
    found = [count.count for count in run.info.operating_points(made)[0].found.values()]
    assert found == sorted(found)
    assert found[-1] > found[0]
    title, columns = operating_lines(run.info.operating_points(made), 1)[:2]
    assert title.endswith("synthetic defects found")
    assert columns.split()[-6:] == [
        "synthetic",
        "faint",
        "synthetic",
        "medium",
        "synthetic",
        "strong",
    ]
    few = measure_defects(run.deployed, run.info.scene(), normal, validation[:2], pytest.fail)
    assert len(few.groups["faint"]) == 2


def test_of_many_real_defects_every_kind_is_judged_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = write_product(tmp_path / "product")
    run, dataset = load_run(write_standin_run(tmp_path / "run", product)), open_dataset(product)
    first, second, third, other = (
        replace(sample, defect=kind)
        for sample, kind in zip(dataset.split("test")[-4:], "aaab", strict=True)
    )
    monkeypatch.setattr("trainer.train.defect_scores.MOST_REAL", 3)
    kinds = replace(dataset, samples=(first, second, third, other))
    made = measure_defects(run.deployed, run.info.scene(), kinds, [], pytest.fail)
    expected = [
        float(run.deployed.run(run.feeds(sample))["score"][0]) for sample in (first, other, second)
    ]
    assert made == DefectScores(kind="real", groups={"real": tuple(expected)})


def test_a_defective_image_that_cannot_be_read_is_told_and_costs_no_training(
    tmp_path: Path,
) -> None:
    product = write_product(tmp_path / "product")
    run = load_run(write_standin_run(tmp_path / "run", product))
    (product / "test/spot/rgb/002.png").write_bytes(b"torn")
    told: list[str] = []
    dataset = open_dataset(product)
    made = measure_defects(
        run.deployed, run.info.scene(), dataset, dataset.split("validation"), told.append
    )
    assert len(made.groups["real"]) == 3
    assert "test/spot/002 is not counted among the defects" in told[0]


def test_training_names_an_outlier_and_draws_it_and_evaluation_shows_it(tmp_path: Path) -> None:
    product = write_product(tmp_path / "product")
    image = product / "validation/good/rgb/017.png"
    damaged = cv2.imread(str(image))
    damaged[50:80, 60:90] = (0, 0, 255)
    cv2.imwrite(str(image), damaged)
    out, runner = tmp_path / "run", CliRunner()
    trained = runner.invoke(
        app,
        ["train", "standin", str(product), "--top-k", "0.05", "--out", str(out)],
        catch_exceptions=False,
    )
    assert trained.exit_code == 0, trained.output
    picture = out / "outliers/validation-good-017.png"
    assert (
        "outlier among the normal parts: validation/good/017 scores 0.178; the next"
        in trained.output
    )
    assert str(picture) in trained.output
    shown = read_color(picture).astype(int)
    red = (shown[..., 0] > 180) & (shown[..., 1] < 60)
    assert red[:, :360].mean() > 0.03, "the part as the camera saw it"
    assert np.ptp(shown[:, 360:], axis=2).max() > 60, "its map in color"
    info = read_info(out)
    assert [outlier.name for outlier in info.outliers()] == ["validation/good/017"]
    assert "> highest" in trained.output
    assert "would suggest the 2nd highest: 4 of 4 found instead of 0" in trained.output
    judged = runner.invoke(app, ["evaluate", str(out), str(product)], catch_exceptions=False)
    assert "0 more rejected of 2 good test parts" in judged.output
    assert "--leave-out NAME or --keep NAME" in judged.output
    page = (out / "report.html").read_text()
    first = page[page.index("<section>") : page.index("</section>")]
    assert "validation/good/017" in first
    # as an outlier, and as an image unlike the others
    assert first.count("data:image/jpeg;base64,") == 2


def test_the_rate_that_was_asked_for_sets_the_rank(tmp_path: Path) -> None:
    product = write_product(tmp_path / "product")
    arguments = [
        "train",
        "standin",
        str(product),
        "--out",
        str(tmp_path / "run"),
        "--false-rejects",
        "12 %",
    ]
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    info = read_info(tmp_path / "run")
    assert (info.false_rejects, info.threshold.false_rejects, info.threshold.rank) == (
        0.12,
        0.12,
        3,
    )
    assert info.threshold.value == sorted(info.normal_scores)[-3]
    assert info.operating_points() == operating_points(
        info.normal_scores, 3, 0.12, info.defect_scores
    )
    assert info.outliers() == []
    assert not (tmp_path / "run/outliers").exists()


def test_an_older_run_is_refused_with_one_sentence(tmp_path: Path) -> None:
    folder = write_standin_run(tmp_path / "run", write_product(tmp_path / "product"))
    stored = json.loads((folder / RUN_FILE).read_text())
    threshold = {
        "value": 1.0,
        "parts": 24,
        "false_reject_rate": 0.1,
        "confidence": 0.95,
        "guarantee": "none",
    }
    old = {
        key: value for key, value in stored.items() if key not in ("false_rejects", "defect_scores")
    }
    (folder / RUN_FILE).write_text(json.dumps({**old, "schema_": 1, "threshold": threshold}))
    with pytest.raises(DataError) as refused:
        load_run(folder)
    says = (
        f"{folder / RUN_FILE} has schema 1, this version reads schema 2: train again with this"
        " version"
    )
    assert str(refused.value) == says


def test_synthetic_defects_are_not_drawn_on_an_outlier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = write_product(tmp_path / "product")
    image = product / "validation/good/rgb/017.png"
    damaged = cv2.imread(str(image))
    damaged[50:80, 60:90] = (0, 0, 255)
    cv2.imwrite(str(image), damaged)
    given: list[str] = []

    def measure(*arguments: object) -> DefectScores:
        # the validation samples
        given.extend(sample.name for sample in arguments[3])  # type: ignore[attr-defined]
        return DefectScores(kind="synthetic", groups={})

    monkeypatch.setattr("trainer.train.training.measure_defects", measure)
    train("standin", product, tmp_path / "run", TrainOptions(), FitControl(tell=lambda _: None))
    assert len(given) == 23
    assert "validation/good/017" not in given
