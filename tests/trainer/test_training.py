"""From a product folder to a run folder and its evaluation, on a tiny product."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import trainer.systems.mats as mats
from edge.errors import ConfigError, DataError
from edge.frames.dataset import open_dataset
from tests.support.tiny_product import write_tiny_product
from trainer.cli import app, run_command
from trainer.data.splits import normal_splits
from trainer.evaluate import evaluate_run, last_line
from trainer.fit import FitControl, Interrupted
from trainer.run import load_run
from trainer.training import TrainOptions, train

SMALL = replace(
    mats.COMPACT,
    long_side=64,
    encoder_epochs=3,
    fusion_epochs=1,
    teacher_epochs=(3, 3),
    student_epochs=(3, 3),
    fusion_steps=10,
    steps_per_epoch=10,
    batch_size=64,
    copies=1,
)
QUIET = TrainOptions(preset="compact")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_product(tmp_path_factory.mktemp("parts") / "disc")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(mats.PRESETS, "compact", SMALL)
    torch.set_num_threads(1)
    return


def control() -> FitControl:
    return FitControl(tell=lambda _: None)


def test_train_evaluate_and_load_agree_end_to_end(product: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    runner = CliRunner()
    trained = runner.invoke(app, ["train", "mats", str(product), "--out", str(out)], catch_exceptions=False)
    assert trained.exit_code == 0, trained.output
    assert {"run.json", "model.pt", "curves.json"} <= {path.name for path in out.iterdir()}
    assert not (out / "checkpoint.pt").exists()
    assert trained.output.splitlines()[-2].startswith("threshold "), "the guarantee ends the table"
    assert "> highest" in trained.output
    judged = runner.invoke(app, ["evaluate", str(out), str(product)], catch_exceptions=False)
    assert judged.exit_code == 0, judged.output
    run = load_run(out)
    evaluation = evaluate_run(run, open_dataset(product))
    assert judged.output.strip().splitlines()[-1] == last_line(evaluation.overall)
    assert any(line.startswith("stain") for line in judged.output.splitlines())
    table = trained.output[trained.output.index("operating points") :].splitlines(keepends=True)[:6]
    assert "4th highest" in table[-1]
    assert "".join(table) in judged.output, "the same four points over the same defects"
    summary = json.loads((out / "evaluate.json").read_text())
    assert [row["name"] for row in summary["rows"]] == ["dent", "stain", "all"]
    assert [image["score"] for image in summary["images"]] == evaluation.scores.tolist()
    assert (out / "report.html").stat().st_size > 10_000
    stored = np.load(out / "evaluation.npz", allow_pickle=False)
    assert np.array_equal(stored["maps"], evaluation.maps)
    check_scene_and_limits(run.info)
    assert evaluation.overall.image_auroc > 0.9  # a big stain and a deep dent on a disc: anything sees them


def check_scene_and_limits(info: object) -> None:
    from trainer.run import RunInfo

    assert isinstance(info, RunInfo)
    assert info.plane is not None
    assert info.plane[3] == pytest.approx(0.4, abs=1e-3)
    assert info.lift is not None
    assert 2e-4 < info.lift < 5e-3
    assert info.threshold.value == max(info.normal_scores)
    assert info.threshold.parts == len(info.validation) == 4
    assert (1 - info.threshold.bound) ** 4 == pytest.approx(1 - info.threshold.confidence)
    assert info.threshold.expected == 1 / 5
    assert info.defect_scores.kind == "real"
    assert len(info.defect_scores.groups["real"]) == 4
    assert 0 < info.min_area < 0.277 < info.max_area < 1  # pi 38^2 / 128^2 = 0.277
    assert 0 < info.min_valid < 1
    assert not {"train/good/000"} & set(info.validation)


def test_an_interrupted_training_goes_on_to_the_same_run(product: Path, tmp_path: Path) -> None:
    whole = train("mats", product, tmp_path / "whole", QUIET, control())
    for stop_after in (2, 5):
        stop = control()
        stop.stop_after = stop_after
        with pytest.raises(Interrupted):
            train("mats", product, tmp_path / "parts", QUIET, stop)
        with pytest.raises(DataError, match=r"not a finished run|run\.json"):
            load_run(tmp_path / "parts")
    resumed = train("mats", product, tmp_path / "parts", replace(QUIET, false_rejects=0.4), control())
    first, second = whole.deployed.detector.state_dict(), resumed.deployed.detector.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert whole.info.normal_scores == resumed.info.normal_scores
    assert resumed.info.threshold.value == sorted(whole.info.normal_scores)[-2]   # another rate is no other training


def test_color_only_products_and_runs_take_no_depth(product: Path, tmp_path: Path) -> None:
    run = train("mats", product, tmp_path / "flat", replace(QUIET, with_depth=False, epochs=1), control())
    assert run.info.lift is None
    assert set(run.feeds(open_dataset(product).samples[0])) == {"color", "region"}
    flat = write_tiny_product(tmp_path / "disc2d", with_depth=False, validation=False)
    info = train("mats", flat, tmp_path / "flat2", replace(QUIET, epochs=1), control()).info
    assert (len(info.train), len(info.validation)) == (5, 1)


def test_held_out_parts_follow_the_seed_and_never_train(tmp_path: Path) -> None:
    dataset = open_dataset(write_tiny_product(tmp_path / "disc", with_depth=False, validation=False))
    first, again, other = (normal_splits(dataset, seed) for seed in (1, 1, 4))
    assert first == again
    assert first[1] != other[1]
    assert not set(first[0]) & set(first[1])
    assert len(first[0]) + len(first[1]) == 6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (TrainOptions(preset="huge"), "no preset 'huge': choose one of paper, compact"),
        (TrainOptions(epochs=0), "--epochs 0"),
        (TrainOptions(top_k=1.5), "--top-k 1.5"),
        (TrainOptions(false_rejects=0.8), "a rate of false rejects lies above 0 and at most 50%, not at 0.8"),
        (TrainOptions(device="tpu"), "--device 'tpu': cpu, cuda, or cuda:N"),
        (TrainOptions(device="cuda:99"), r"--device cuda:99 cannot be used \(.+\): use --device cpu"),
        (TrainOptions(pretrained=Path("points.pth")), "points.pth: mats has no part that `trainer pretrain` makes"),
        (TrainOptions(backbone="resnet18"), "--backbone resnet18: mats is built for its preset's own backbone"),
    ],
)
def test_impossible_options_are_named(product: Path, tmp_path: Path, options: TrainOptions, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        train("mats", product, tmp_path / "run", options, control())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("rate", ["5", "0", "-1%", "80%", "abc"])
def test_a_rate_that_is_none_is_refused_before_any_image_is_read(tmp_path: Path, rate: str) -> None:
    arguments = ["train", "mats", str(tmp_path / "nothing"), "--out", str(tmp_path / "run"), f"--false-rejects={rate}"]
    answer = CliRunner().invoke(app, arguments)
    assert isinstance(answer.exception, ConfigError)
    assert str(answer.exception).startswith(f"--false-rejects {rate}: write a rate")


def test_a_checkpoint_of_other_options_is_refused(product: Path, tmp_path: Path) -> None:
    stop = control()
    stop.stop_after = 1
    with pytest.raises(Interrupted):
        train("mats", product, tmp_path / "run", QUIET, stop)
    with pytest.raises(DataError, match="other data or options"):
        train("mats", product, tmp_path / "run", replace(QUIET, seed=1), control())


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_is_one_sentence_and_with_space_again_the_same_command_ends(
    product: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        monkeypatch.setattr(sys, "argv", ["trainer", "train", "mats", str(product), "--out", str(disk / "run")])
        with pytest.raises(SystemExit) as ended:
            run_command()
        assert ended.value.code == 1
        said = capsys.readouterr().err.splitlines()
        assert [line for line in said if line.startswith("trainer: ")] == said[-1:]
        assert f"no space left on the disk for {disk / 'run'}" in said[-1]
        assert [path for path in disk.rglob("*") if path.is_file()] == [], "nothing is half written"
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        with pytest.raises(SystemExit) as ended:
            run_command()
        assert ended.value.code == 0
        assert load_run(disk / "run").info.system == "mats"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
