"""What an evaluation judges, what it says of it, and whose report it is."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edge.errors import ConfigError, DataError, EdgeError
from edge.files import write_json
from edge.frames.dataset import open_dataset
from edge.frames.reading import AS_IS
from tests.support.standin_run import MODULE, write_product, write_standin_run
from tests.support.tiny_product import write_photos
from trainer.cli import app
from trainer.data.defects import by_class, with_defects
from trainer.evaluate.evaluation import Evaluation, evaluate_run, last_line
from trainer.evaluate.files import write_evaluation
from trainer.evaluate.judged import open_judged
from trainer.evaluate.report.page import GROUP_COLORS
from trainer.evaluate.rows import group_rows
from trainer.evaluate.table import table_lines, threshold_lines
from trainer.synthetic.scene_defects import Group
from trainer.systems import registry
from trainer.train.trained_run import load_run


@pytest.fixture(scope="module", autouse=True)
def standin_system() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    """A run folder with its evaluation; the four defective images are one of each group but "both".

    One group is named as it was in files of before.
    """
    root = tmp_path_factory.mktemp("standin")
    product = write_product(root / "product")
    records = [
        {
            "name": f"test/spot/{index:03d}",
            "group": group,
            "defect": "spot",
            "area_share": 0.01,
            "height_sigma": 4.0,
        }
        for index, group in enumerate(("logical", "depth", "color", "material"))
    ]
    write_json(product / "defects.json", records)
    run = load_run(write_standin_run(root / "run", product))
    judged = open_judged(run.info, product)
    evaluation = evaluate_run(run, judged)
    write_evaluation(run, judged, evaluation)
    return run.folder, evaluation


def test_every_group_has_its_metrics_over_its_own_images_and_all_good_ones(
    judged: tuple[Path, Evaluation],
) -> None:
    folder, evaluation = judged
    assert [row.name for row in evaluation.groups] == ["relief", "color", "material", "logical"]
    logical = evaluation.groups[-1]
    assert logical.defective == 1
    own = evaluation.scores[evaluation.names.index("test/spot/000")]
    good = evaluation.scores[~evaluation.labels]
    assert logical.image_auroc == pytest.approx(float(((own > good) + 0.5 * (own == good)).mean()))
    stored = json.loads((folder / "evaluate.json").read_text())
    assert [row["name"] for row in stored["groups"]] == ["relief", "color", "material", "logical"]
    assert stored["groups"][-1]["aupro_01"] == logical.aupro_01


def test_a_group_that_the_trainer_does_not_know_has_its_row_after_those_it_knows(
    judged: tuple[Path, Evaluation],
) -> None:
    images = judged[1].images
    defective = [image.name for image in images if image.is_defective]
    named = dict(zip(defective, ("worn", "color", "worn", "frayed"), strict=True))
    rows = group_rows(images, named)
    assert [(row.name, row.defective) for row in rows] == [("color", 1), ("worn", 2), ("frayed", 1)]


def test_every_limit_of_aupro_is_printed_and_shown_per_type_and_group(
    judged: tuple[Path, Evaluation],
) -> None:
    folder, evaluation = judged
    lines = {line.split()[0]: line.split() for line in table_lines(evaluation)}
    page = re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text())
    for name, row in (("(color)", evaluation.groups[1]), ("all", evaluation.overall)):
        shown = [f"{100 * value:.1f}" for value in (row.aupro_30, row.aupro_05, row.aupro_01)]
        assert lines[name][4:7] == shown
        assert re.search(r"\s+".join(map(re.escape, shown)), page)
    assert lines["defect"][4:7] == ["AUPRO", "AUPRO.05", "AUPRO.01"]
    assert page.count("AUPRO 0.01") == 3  # the card, by defect, by group


def test_the_printed_table_and_the_report_name_every_group(judged: tuple[Path, Evaluation]) -> None:
    folder, evaluation = judged
    printed = [line.split()[0] for line in table_lines(evaluation)]
    page = re.sub(r"<[^>]+>", " ", (folder / "report.html").read_text())
    section = page[page.index("By what shows the defect") :]
    for group in set(get_args(Group)) - {"both"}:
        assert f"({group})" in printed
        assert re.search(rf"\s{group}\s+1\s", section)  # a row: the group, one defective image


def test_the_operating_points_are_printed_stored_and_shown(judged: tuple[Path, Evaluation]) -> None:
    folder, evaluation = judged
    run = load_run(folder)
    lines = threshold_lines(run, open_judged(run.info), evaluation)
    assert lines[-1] == f"Threshold {run.info.threshold.value:.4g}. {run.info.threshold.guarantee}"
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


# Which images are judged, and whose report it is


@pytest.fixture
def product(tmp_path: Path) -> Path:
    return write_product(tmp_path / "product")


@pytest.fixture
def run_folder(product: Path, tmp_path: Path) -> Path:
    return write_standin_run(tmp_path / "run", product)


def evaluated(*words: object) -> list[str]:
    """The lines that `trainer evaluate` printed."""
    answer = CliRunner().invoke(app, ["evaluate", *map(str, words)], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output.strip().splitlines()


def text_of(page: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.read_text()).split())


def test_good_test_parts_alone_are_counted_and_compared_with_nothing(
    product: Path, run_folder: Path
) -> None:
    shutil.rmtree(product / "test/spot")
    printed = evaluated(run_folder)
    threshold = load_run(run_folder).info.threshold
    assert (
        printed[-1] == f"Good parts only: 0 of 2 rejected. Threshold {threshold.value:.4g}."
        f" {threshold.guarantee}"
    )
    assert not any("AUROC" in line for line in printed)
    stored = json.loads((run_folder / "evaluate.json").read_text())
    assert (stored["good"], stored["good_rejected"], stored["defective"]) == (2, 0, 0)
    assert {row["name"] for row in stored["rows"]} == {
        "synthetic faint",
        "synthetic medium",
        "synthetic strong",
    }
    assert {row["image_auroc"] for row in stored["rows"]} == {None}
    assert set(stored["operating_points"][0]["found"]) == {"faint", "medium", "strong"}
    page = text_of(run_folder / "report.html")
    assert "AUROC" not in page
    assert "No defective part was given: 6 synthetic defects" in page
    assert "ROC curve" not in page


def test_synthetic_defects_are_put_only_on_parts_that_pass(product: Path, run_folder: Path) -> None:
    shutil.rmtree(product / "test/spot")
    run = load_run(run_folder)
    judged = open_judged(run.info)
    lower = float(np.median(run.info.normal_scores))

    def first_is_rejected(feeds: Any) -> Any:
        outputs = dict(run.deployed.run(feeds))
        if np.array_equal(feeds["color"], run.feeds(judged.samples[0])["color"]):
            outputs["score"] = np.float32([lower + 1])
        return outputs

    evaluation = evaluate_run(run, judged, first_is_rejected)
    assert {image.shown.sample.name for image in evaluation.images if image.shown.strength} == {
        "test/good/001"
    }
    rejected = evaluate_run(
        run, judged, lambda feeds: {**run.deployed.run(feeds), "score": np.float32([9])}
    )
    assert len(rejected.images) == 2
    assert "as every good part is rejected" in rejected.notes[-1]
    assert last_line(rejected, "-").startswith("Good parts only: 2 of 2 rejected")


def test_validation_parts_stand_in_for_good_test_parts_and_it_is_said(
    product: Path, run_folder: Path
) -> None:
    shutil.rmtree(product / "test/good")
    printed = evaluated(run_folder)
    assert "mean I-AUROC" in printed[-1]
    assert (
        "the 24 normal validation parts count as the good ones: they set the threshold"
        in "".join(printed)
    )
    stored = json.loads((run_folder / "evaluate.json").read_text())
    assert (stored["good"], stored["defective"]) == (24, 4)
    assert "is no estimate for later parts" in text_of(run_folder / "report.html")
    assert not any("good test parts" in line for line in printed), "they estimate nothing"


def test_defective_images_alone_are_judged(product: Path, run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(product / "test/spot", folder / "test/spot")
    shutil.copy(product / "camera.json", folder)
    printed = evaluated(run_folder, folder)
    assert re.fullmatch(r"Defective parts only: 4 of 4 found. Threshold 0\.\d+", printed[-1])
    assert not any("AUROC" in line for line in printed)


def test_another_folder_gets_a_report_of_its_own_and_the_runs_stays_as_it_is(
    product: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated(run_folder)
    before = {
        name: (run_folder / name).read_bytes()
        for name in ("report.html", "evaluate.json", "evaluation.npz")
    }
    other = write_product(tmp_path / "other batch")
    for image in (
        other / "train/good/rgb"
    ).iterdir():  # the names of the training images, other parts
        cv2.imwrite(str(image), cv2.imread(str(image)) // 2)
    monkeypatch.setattr("sys.argv", ["/usr/bin/trainer", "evaluate", "run", "other batch"])
    printed = evaluated(run_folder, other)
    assert {name: (run_folder / name).read_bytes() for name in before} == before
    (folder,) = (run_folder / "evaluations").iterdir()
    assert re.fullmatch(r"other batch-[0-9a-f]{6}", folder.name)
    assert {path.name for path in folder.iterdir()} == set(before)
    stored = json.loads((folder / "evaluate.json").read_text())
    assert {f"train/good/{number:03d}" for number in range(8)} <= {
        image["name"] for image in stored["images"]
    }
    assert f"wrote {folder / 'report.html'}: open it in a browser" in printed
    page = text_of(folder / "report.html")
    assert "product: run “run” judges the folder “other batch”" in page
    assert f"Run {run_folder} judged {other} on 2" in page
    assert "trainer evaluate run &#39;other batch&#39;" in page
    assert re.search(r"date 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", page)


def test_copies_of_the_runs_images_are_left_out_and_counted(
    product: Path, run_folder: Path, tmp_path: Path
) -> None:
    """A renamed copy of the whole product: 32 of its images trained or validated."""
    shutil.copytree(product, tmp_path / "renamed")
    printed = evaluated(run_folder, tmp_path / "renamed")
    assert any(
        line.startswith("32 images are left out, the first is train/good/000: the same")
        for line in printed
    )
    (folder,) = (run_folder / "evaluations").iterdir()
    stored = json.loads((folder / "evaluate.json").read_text())
    assert (stored["good"], stored["defective"]) == (2, 4)
    only = tmp_path / "only/train"
    shutil.copytree(product / "train", only)
    shutil.copy(product / "camera.json", only.parent)
    with pytest.raises(DataError, match="only holds nothing to judge"):
        open_judged(load_run(run_folder).info, only.parent)


def test_a_training_image_among_the_test_images_is_left_out(
    product: Path, run_folder: Path
) -> None:
    for kind, suffix in (("rgb", "png"), ("xyz", "tiff")):
        shutil.copy(
            product / f"train/good/{kind}/003.{suffix}", product / f"test/good/{kind}/000.{suffix}"
        )
    judged = open_judged(load_run(run_folder).info)
    assert [sample.name for sample in judged.good] == ["test/good/001"]
    assert any(
        note.startswith("1 image is left out, the first is test/good/000") for note in judged.notes
    )


def test_a_product_that_moved_is_still_the_runs_own(
    product: Path, run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    product.rename(tmp_path / "elsewhere/product")
    info = load_run(run_folder).info
    with pytest.raises(
        DataError, match=r"product, which the run was trained on, is gone: name .*`trainer evaluate"
    ):
        open_judged(info)
    assert open_judged(info, tmp_path / "elsewhere/product").own
    evaluated(run_folder, tmp_path / "elsewhere/product")
    assert (run_folder / "report.html").is_file()


def test_data_that_changed_since_the_training_is_refused(product: Path, run_folder: Path) -> None:
    image = product / "train/good/rgb/005.png"
    cv2.imwrite(str(image), 255 - cv2.imread(str(image)))
    answer = CliRunner().invoke(app, ["evaluate", str(run_folder), str(product)])
    assert isinstance(answer.exception, DataError)
    says = (
        f"{product} has changed since the training (train/good/005 is another image): put the"
        " images back, or train"
    )
    assert str(answer.exception).startswith(says)
    image.unlink()
    (product / "train/good/xyz/005.tiff").unlink()
    with pytest.raises(DataError, match=r"\(train/good/005 is missing\)"):
        open_judged(load_run(run_folder).info)
    assert not (run_folder / "report.html").exists()


def test_images_of_another_size_or_without_depth_are_refused(
    run_folder: Path, tmp_path: Path
) -> None:
    info = load_run(run_folder).info
    write_photos(tmp_path / "photos", "good", 2, 0)
    with pytest.raises(DataError, match="has no depth images, and depth is used"):
        open_judged(info, tmp_path / "photos")
    with pytest.raises(
        DataError, match=r"are 128x128 pixels, those of the training 160x120: .*--size"
    ):
        open_judged(info.model_copy(update={"with_depth": False}), tmp_path / "photos")


# Defective images given beside the data


def test_defective_images_count_by_folder_and_none_twice(
    product: Path, run_folder: Path, tmp_path: Path
) -> None:
    info = load_run(run_folder).info
    given = tmp_path / "given"
    shutil.copytree(product / "test/spot", given / "test/dent")
    shutil.copytree(product / "test/good", given / "test/good")
    shutil.copy(product / "camera.json", given)
    judged = open_judged(info, None, given)
    added = [sample for sample in judged.samples if sample.name.startswith("defects/")]
    assert [sample.name for sample in added] == [
        f"defects/test/dent/{number:03d}" for number in range(4)
    ]
    assert {sample.defect for sample in added} == {"dent"}
    mask = added[0].load_mask()
    assert mask is not None
    assert mask.any(), "the layout's masks count"
    assert f"4 defective images (dent 4) of {given} count" in judged.notes
    assert len(open_judged(info, None, product / "test").defective) == 4, (
        "these are in the set already"
    )
    remembered = info.model_copy(update={"defects": str(given)})
    assert open_judged(remembered).defects == given
    assert open_judged(remembered, given).defects is None, "other data comes without"
    shutil.rmtree(given)
    assert any("is gone: they do not count" in note for note in open_judged(remembered).notes)


def test_photos_count_as_defective_whether_they_lie_in_classes_or_not(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", "good", 4, 0)
    dataset = open_dataset(tmp_path / "photos")
    write_photos(tmp_path / "bad", "stain", 2, 100)
    flat = with_defects(dataset, tmp_path / "bad", AS_IS, False)
    assert [(sample.defect, sample.split, sample.truth) for sample in flat.samples[4:]] == [
        ("defect", "test", "unknown"),
        ("defect", "test", "unknown"),
    ]
    write_photos(tmp_path / "sorted/dirt", "stain", 1, 200)
    write_photos(tmp_path / "sorted/scratch", "stain", 2, 300)
    assert (
        by_class(with_defects(dataset, tmp_path / "sorted", AS_IS, False).samples)
        == "3 defective images (dirt 1, scratch 2)"
    )
    write_photos(tmp_path / "mixed/good", "good", 1, 400)
    with pytest.raises(DataError, match="holds no defective image"):
        with_defects(dataset, tmp_path / "mixed", AS_IS, False)
    for name, says in (("nothing", "does not exist"), ("bad/IMG_0100.png", "is a file")):
        with pytest.raises(ConfigError, match=f"--defects .*{name} {says}: name a folder"):
            with_defects(dataset, tmp_path / name, AS_IS, False)


def test_mistakes_are_found_before_the_run_or_an_image_is_read(
    run_folder: Path, tmp_path: Path
) -> None:
    (run_folder / "model.safetensors").unlink()
    for words, says in (
        (["nothing"], "nothing is not a finished run"),
        ([run_folder, tmp_path / "gone"], "gone does not exist"),
        ([run_folder, "--defects", tmp_path / "gone"], "--defects .*gone does not exist"),
    ):
        answer = CliRunner().invoke(app, ["evaluate", *map(str, words)])
        assert isinstance(answer.exception, EdgeError)
        assert re.search(says, str(answer.exception))
