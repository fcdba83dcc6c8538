"""From a product folder to a run folder and its evaluation, on a tiny product."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import trainer.systems.mats.preset as mats
import trainer.train.heights as heights
from edge.errors import ConfigError, DataError, EdgeError
from edge.frames.dataset import open_dataset
from tests.support.tiny_product import write_photos, write_tiny_product
from trainer.cli import app, run_command
from trainer.data.scene import measure_scene
from trainer.data.splits import normal_splits
from trainer.evaluate.evaluation import evaluate_run, last_line
from trainer.evaluate.files import write_evaluation
from trainer.evaluate.judged import open_judged
from trainer.export.manifest import camera_of
from trainer.fit import FitControl, Interrupted
from trainer.layers.typed import required
from trainer.tensor_files import load_stored, write_tensors
from trainer.train.options import TrainOptions, parse_size
from trainer.train.plan import features_digest, fingerprint, make_plan
from trainer.train.pose import Found
from trainer.train.trained_run import HEIGHTS, OUTLINE, TrainedRun, load_run
from trainer.train.training import train

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


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mats.PRESETS, "compact", SMALL)
        patch.setattr(heights, "LEAST_PARTS", 4)  # of the product's few parts
        torch.set_num_threads(1)
        yield


@pytest.fixture(scope="module")
def whole(product: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run that was never interrupted."""
    return train("mats", product, tmp_path_factory.mktemp("runs") / "whole", QUIET, control())


def control() -> FitControl:
    return FitControl(tell=lambda _: None)


def bitten(feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same part with a bite out of its lower right: there lies the table."""
    changed = {name: values.copy() for name, values in feeds.items()}
    changed["depth"].view("<u2")[0, 70:, 70:, 0] = 4000
    return changed


def test_a_stored_run_judges_the_outline_and_one_of_before_loads_without(
    whole: TrainedRun, product: Path, tmp_path: Path
) -> None:
    good = whole.feeds(open_dataset(product).split("test")[0])
    loaded = load_run(whole.folder)
    for feeds in (good, bitten(good)):
        outputs = whole.deployed.run(feeds), loaded.deployed.run(feeds)
        assert all(np.array_equal(outputs[0][name], outputs[1][name]) for name in outputs[0])
    older = tmp_path / "before"
    shutil.copytree(whole.folder, older, ignore=shutil.ignore_patterns("cache"))
    weights = load_stored(older / "model.safetensors", "weights", "train again")
    beside = {name for name in weights if name.startswith((OUTLINE, HEIGHTS))}
    assert {name.split(".")[0] + "." for name in beside} == {OUTLINE, HEIGHTS}
    kept = {name: value for name, value in weights.items() if name not in beside}
    write_tensors(older / "model.safetensors", kept)
    before = load_run(older).deployed
    assert before.judges == []
    lost = bitten(good)
    assert before.run(good)["score"] <= loaded.deployed.run(good)["score"]
    assert loaded.deployed.run(lost)["score"] > 3 * before.run(lost)["score"]


def test_a_checkpoint_and_cached_features_belong_to_one_pose(product: Path) -> None:
    plan = make_plan("mats", product, QUIET)
    pose = deepcopy(required(plan.posed.pose))
    pose.turn += 0.1
    plans = plan, replace(plan, posed=Found(pose, "")), replace(plan, posed=Found(None, ""))
    for told in (fingerprint, features_digest):
        assert len({told(one) for one in plans}) == 3
        assert told(plan) == told(make_plan("mats", product, QUIET))


def test_a_fixed_pose_has_an_expected_silhouette_and_one_that_differs_has_none(
    whole: TrainedRun, product: Path
) -> None:
    scene = whole.info.scene()
    assert scene.expected is not None
    samples = open_dataset(product).split("test")
    depth = samples[0].load().depth
    assert depth is not None
    raised = depth < 3950
    assert (scene.expected > 0).mean() > 0.4 * raised.mean()
    assert not ((scene.expected > 0) & ~raised).any(), "only where a further part has material"
    assert whole.feeds(samples[0])["expected"].shape == (1, *depth.shape, 1)
    assert camera_of(whole.info, product).fixed_pose
    given = open_dataset(product)
    dataset = replace(given, camera=given.camera.model_copy(update={"fixed": False}))
    sizes = whole.info.depth_working
    assert measure_scene(dataset, dataset.split("train"), True, sizes).expected is None


def test_train_evaluate_and_load_agree_end_to_end(product: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    runner = CliRunner()
    trained = runner.invoke(
        app, ["train", "mats", str(product), "--out", str(out)], catch_exceptions=False
    )
    assert trained.exit_code == 0, trained.output
    assert {"run.json", "model.safetensors", "curves.json"} <= {path.name for path in out.iterdir()}
    assert not (out / "checkpoint.pt").exists()
    guarantee, wrote, following = trained.output.splitlines()[-3:]
    assert guarantee.startswith("Threshold "), "the guarantee ends the table"
    assert wrote.startswith(f"wrote {out} (")
    assert following == f"next: trainer evaluate {out}"
    assert "> highest" in trained.output
    judged = runner.invoke(app, ["evaluate", str(out), str(product)], catch_exceptions=False)
    assert judged.exit_code == 0, judged.output
    run = load_run(out)
    evaluation = evaluate_run(run, open_judged(run.info))
    assert judged.output.strip().splitlines()[-1] == last_line(
        evaluation, run.info.threshold.guarantee
    )
    assert re.fullmatch(
        r"mean I-AUROC \d+\.\d P-AUROC \d+\.\d AUPRO \d+\.\d", last_line(evaluation, "")
    )
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
    # anything sees a big stain; whether a dent is seen is chance after three epochs on six parts
    scores = {image.name: image.score for image in evaluation.images}
    stained = [score for name, score in scores.items() if "stain" in name]
    assert min(stained) > max(score for name, score in scores.items() if "good" in name)


def check_scene_and_limits(info: object) -> None:
    from trainer.train.run_info import RunInfo

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


def test_an_interrupted_training_goes_on_to_the_same_run(
    product: Path, whole: TrainedRun, tmp_path: Path
) -> None:
    for stop_after in (2, 5):
        stop = control()
        stop.stop_after = stop_after
        with pytest.raises(Interrupted):
            train("mats", product, tmp_path / "parts", QUIET, stop)
        with pytest.raises(DataError, match=r"not a finished run|run\.json"):
            load_run(tmp_path / "parts")
    resumed = train(
        "mats", product, tmp_path / "parts", replace(QUIET, false_rejects=0.4), control()
    )
    first, second = whole.deployed.detector.state_dict(), resumed.deployed.detector.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert whole.info.normal_scores == resumed.info.normal_scores
    # another rate is no other training
    assert resumed.info.threshold.value == sorted(whole.info.normal_scores)[-2]


def test_color_only_products_and_runs_take_no_depth(product: Path, tmp_path: Path) -> None:
    run = train(
        "mats", product, tmp_path / "flat", replace(QUIET, with_depth=False, epochs=1), control()
    )
    assert run.info.lift is None
    assert set(run.feeds(open_dataset(product).samples[0])) == {"color", "region"}
    flat = write_tiny_product(tmp_path / "disc2d", with_depth=False, validation=False)
    info = train("mats", flat, tmp_path / "flat2", replace(QUIET, epochs=1), control()).info
    assert (len(info.train), len(info.validation)) == (5, 1)


def test_held_out_parts_follow_the_seed_and_never_train(tmp_path: Path) -> None:
    dataset = open_dataset(
        write_tiny_product(tmp_path / "disc", with_depth=False, validation=False)
    )
    digests = {sample.name: sample.name for sample in dataset.samples}
    first, again, other = (normal_splits(dataset, seed, digests) for seed in (1, 1, 4))
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
        (
            TrainOptions(false_rejects=0.8),
            "a rate of false rejects lies above 0 and at most 50%, not at 0.8",
        ),
        (TrainOptions(device="tpu"), "--device 'tpu': cpu, cuda, or cuda:N"),
        (
            TrainOptions(device="cuda:99"),
            r"--device cuda:99 cannot be used \(.+\): use --device cpu",
        ),
        (
            TrainOptions(pretrained=Path("points.pth")),
            "points.pth: mats contains no encoder that `trainer pretrain` makes",
        ),
        (TrainOptions(weights=Path("none.pth")), "at none.pth: name .* with --weights"),
        (
            TrainOptions(preset="paper"),
            "has no packaged ImageNet weights: name a timm state dict with --weights FILE",
        ),
        (TrainOptions(textures=Path("none")), "none is not a folder: name one that holds images"),
        (TrainOptions(defects=Path("none")), "--defects none does not exist: name a folder"),
        (
            TrainOptions(backbone="resnet18"),
            "--backbone resnet18: mats is built for its preset's own backbone",
        ),
    ],
)
def test_impossible_options_are_named_before_an_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: TrainOptions, says: str
) -> None:
    monkeypatch.setattr("trainer.train.plan.normal_parts", lambda *_: pytest.fail("read images"))
    with pytest.raises(EdgeError, match=says):
        train("mats", tmp_path / "product", tmp_path / "run", options, control())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nosuch", "x", "--out", "run"], "there is no system 'nosuch'"),
        (
            ["mats", "x", "--out", "file"],
            "--out file is a file where a folder is needed: name another path",
        ),
        (
            ["mats", "x", "--out", "file/run"],
            "--out file/run: file is a file where a folder is needed",
        ),
        (
            ["m3dm", "x", "--out", "run", "--weights", "file"],
            "file .*name another file with --weights",
        ),
        (["m3dm", "x", "--out", "run", "--pretrained", "file"], "file .*with --pretrained"),
        (
            ["m3dm", "x", "--out", "run", "--pretrained", "file", "--no-depth"],
            "--pretrained file: it is for depth",
        ),
        (
            ["mats", "x", "--out", "run", "--size", "640"],
            "--size 640: write width and height in pixels, .* as 640x480",
        ),
        (["mats", "x", "--out", "run", "--size", "0x480"], "--size 0x480: write width and height"),
    ],
)
def test_mistakes_on_the_command_line_are_found_before_an_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trainer.train.plan.normal_parts", lambda *_: pytest.fail("read images"))
    (tmp_path / "file").write_text("no weights")
    answer = CliRunner().invoke(app, ["train", *words])
    assert isinstance(answer.exception, EdgeError)
    assert re.search(says, str(answer.exception))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("640x480", (640, 480)), (" 1280 X 720 ", (1280, 720)), ("32x32", (32, 32))]
)
def test_a_size_is_width_and_height(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


def test_images_of_many_sizes_train_and_are_judged_with_a_size(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", "good", 8, 0)
    for number, path in enumerate(photos):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (128 + 8 * number, 128)))
    told: list[str] = []
    write_photos(tmp_path / "bad/stain", "stain", 2, 100)
    options = replace(QUIET, size=(96, 80), defects=tmp_path / "bad")
    run = train(
        "mats", tmp_path / "photos", tmp_path / "run", options, FitControl(tell=told.append)
    )
    assert "every image is letterboxed to 96x80 pixels" in told
    assert f"2 defective images (stain 2) of {tmp_path / 'bad'} count" in told
    assert (run.info.size, run.info.crop, run.info.defects) == (
        (96, 80),
        (0, 0, 96, 80),
        str(tmp_path / "bad"),
    )
    assert run.info.defect_scores.kind == "real"
    assert not any("defects/" in name for name in (*run.info.train, *run.info.validation))
    evaluation = evaluate_run(run, open_judged(run.info))
    assert sorted(set(evaluation.defects)) == ["good", "stain"]
    assert evaluation.is_comparison
    report = write_evaluation(run, open_judged(run.info), evaluation)
    assert "every image letterboxed to 96x80" in report.read_text()
    assert camera_of(run.info, tmp_path).letterbox


def test_training_says_what_the_set_holds_and_where_the_background_is(
    product: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    train("mats", product, tmp_path / "run", replace(QUIET, epochs=1), FitControl(tell=told.append))
    assert told[:3] == [
        (
            "6 normal images to train on, 4 to validate with; with depth: 0.1 mm per count,"
            " background plane 400 mm away"
        ),
        "the parts are moved into one place, where they are more alike",
        "4 defective images (dent 2, stain 2): not trained on",
    ]
    told.clear()
    options = replace(QUIET, epochs=1, with_depth=False)
    train("mats", product, tmp_path / "flat", options, FitControl(tell=told.append))
    assert told[0] == "6 normal images to train on, 4 to validate with; color only: --no-depth"


def test_overwriting_goes_on_with_a_training_that_was_stopped(
    product: Path, whole: TrainedRun, tmp_path: Path
) -> None:
    again = replace(QUIET, overwrite=True)
    other = replace(QUIET, seed=1, epochs=1)
    run = train("mats", product, tmp_path / "run", other, control()).folder
    for name in ("report.html", "evaluate.json", "evaluations/other-123456/report.html"):
        (run / name).parent.mkdir(exist_ok=True, parents=True)
        (run / name).write_text("of the run that is replaced")
    stop = control()
    stop.stop_after = 3
    with pytest.raises(Interrupted):
        train("mats", product, run, again, stop)
    assert {path.name for path in run.iterdir()} == {"cache", "checkpoint.pt"}
    resumed = train("mats", product, run, again, control())
    assert resumed.info.normal_scores == whole.info.normal_scores


@pytest.mark.parametrize("rate", ["5", "0", "-1%", "80%", "abc"])
def test_a_rate_that_is_none_is_refused_before_any_image_is_read(tmp_path: Path, rate: str) -> None:
    arguments = [
        "train",
        "mats",
        str(tmp_path / "nothing"),
        "--out",
        str(tmp_path / "run"),
        f"--false-rejects={rate}",
    ]
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
    product: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    try:
        monkeypatch.setattr(
            sys, "argv", ["trainer", "train", "mats", str(product), "--out", str(disk / "run")]
        )
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
