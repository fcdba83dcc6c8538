"""Photos of good parts are enough: train, export, install and inspect, and nothing claims more than
they can show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import pytest
import torch
from safetensors.torch import load_file
from typer import Typer
from typer.testing import CliRunner

import trainer.systems.mats.preset as mats
from edge.bundle.archive import open_bundle
from edge.bundle.key_files import read_public_key
from edge.cli import app as edge
from edge.engine.plan import Built
from edge.errors import ConfigError
from edge.proof.certificate import read_certificate
from tests.support.tiny_product import write_photos
from trainer.cli import app as trainer
from trainer.export import bundle, precisions

pytestmark = pytest.mark.xdist_group("good-parts-only")  # one run and one bundle for all
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


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mats.PRESETS, "compact", SMALL)
        torch.set_num_threads(1)
        yield


def said(app: Typer, *words: object) -> str:
    """What a command printed; it has to succeed."""
    answer = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output
    return answer.output


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ of 20 good parts, runs/photos trained on them with nothing else, line.key,
    photos.bundle.
    """
    bench = tmp_path_factory.mktemp("bench")
    write_photos(bench / "photos", "good", 20, 0)
    printed = said(trainer, "train", "mats", bench / "photos", "--out", bench / "runs/photos")
    (bench / "train.txt").write_text(printed)
    said(trainer, "keygen", bench / "line")
    exported = said(
        trainer,
        "export",
        bench / "runs/photos",
        "--product",
        "disc",
        "--version",
        "1.0.0",
        "--key",
        bench / "line.key",
        "--out",
        bench / "disc.bundle",
    )
    (bench / "export.txt").write_text(exported)
    return bench


def test_training_says_what_it_has_and_what_so_few_parts_can_promise(bench: Path) -> None:
    printed = (bench / "train.txt").read_text()
    assert (
        "16 normal images to train on, 4 to validate with; color only: the set has no depth"
        in printed
    )
    assert "4 validation parts are few" in printed
    assert (
        "5% would take 19 parts on average, 59 with 95% confidence; 1% would take 99 parts on"
        " average, 29" in printed
    )
    assert json.loads((bench / "runs/photos/run.json").read_text())["data"] == str(
        (bench / "photos").resolve()
    )


def test_export_reports_on_good_parts_alone_without_an_auroc(bench: Path) -> None:
    assert "the run has no report of them" in (bench / "export.txt").read_text()
    page = (bench / "runs/photos/report.html").read_text()
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "AUROC" not in text
    assert "No defective part was given: 12 synthetic defects" in text
    assert "does not tell how your own defects are found" in text
    assert "Of 4 good parts 0 are rejected" in text
    assert "the 4 normal validation parts count as the good ones: they set the threshold" in text
    assert all(f"synthetic {strength}" in text for strength in ("faint", "medium", "strong"))


def test_evaluate_without_a_folder_judges_the_runs_own_good_parts(bench: Path) -> None:
    printed = said(trainer, "evaluate", bench / "runs/photos")
    last = printed.strip().splitlines()[-1]
    assert re.fullmatch(
        r"Good parts only: 0 of 4 rejected\. Threshold 0\.\d+\. With 95% confidence at most 52\.7%"
        r" of normal parts are rejected, 20\.0% on average \(.*\)",
        last,
    )
    assert "AUROC" not in printed
    assert re.search(
        r"scores of the good parts: lowest [\d.]+, median [\d.]+, highest [\d.]+; threshold",
        printed,
    )
    assert re.search(r"synthetic strong +4 +\d", printed)


def test_the_bundle_installs_and_judges(bench: Path) -> None:
    root = bench / "station"
    said(edge, "trust", bench / "line.pub", "--root", root)
    said(edge, "install", bench / "disc.bundle", "--root", root)
    write_photos(bench / "stained", "stain", 3, 900)
    printed = said(edge, "inspect", bench / "stained", "--root", root, "--out", bench / "overlays")
    assert printed.count(" NG") >= 3


def unpacked(bench: Path, name: str) -> Path:
    """The folder that the bundle `name` was unpacked to."""
    folder = bench / f"unpacked {name}"
    folder.mkdir()
    with open_bundle(bench / name, [read_public_key(bench / "line.pub")]) as inside:
        inside.extract(folder)
    return folder


def test_a_few_defective_photos_given_later_count_in_report_and_certificate(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(bench / "bad/stain", "stain", 3, 500)
    write_photos(bench / "bad/dirt", "stain", 2, 600)
    before = load_file(bench / "runs/photos/model.safetensors")
    printed = said(trainer, "evaluate", bench / "runs/photos", "--defects", bench / "bad")
    assert f"5 defective images (dirt 2, stain 3) of {bench / 'bad'} count" in printed
    assert re.fullmatch(r"mean I-AUROC \d+\.\d P-AUROC - AUPRO -", printed.strip().splitlines()[-1])
    known = unpacked(bench, "disc.bundle") / "model/fp32.onnx"  # of the same run, and compiled
    monkeypatch.setattr(bundle, "export_checked", lambda _, path, *__, **___: copyfile(known, path))
    monkeypatch.setattr(precisions, "check_compiles", lambda _: Built(b"", None, 1, 0.0))
    exported = said(
        trainer,
        "export",
        bench / "runs/photos",
        "--product",
        "disc",
        "--version",
        "1.0.1",
        "--precision",
        "fp32",
        "--key",
        bench / "line.key",
        "--out",
        bench / "with.bundle",
    )
    assert f"5 defective images (dirt 2, stain 3) of {bench / 'bad'} count" in exported, (
        "as evaluate remembered"
    )
    folder = unpacked(bench, "with.bundle")
    assert read_certificate(folder / "parity.json").real_frames == 5
    assert "stain" in (folder / "report.html").read_text()
    after = load_file(bench / "runs/photos/model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_finished_run_is_replaced_only_on_demand_and_with_all_that_was_said_of_it(
    bench: Path,
) -> None:
    run = bench / "runs/photos"
    before = (run / "run.json").read_bytes()
    words = ["train", "mats", str(bench / "photos"), "--out", str(run)]
    refused = CliRunner().invoke(trainer, words)
    assert isinstance(refused.exception, ConfigError)
    assert (
        str(refused.exception)
        == f"--out {run} holds a finished run: name another folder, or replace the run with"
        " --overwrite"
    )
    assert (run / "run.json").read_bytes() == before
    assert (run / "report.html").is_file()
    said(trainer, *words, "--overwrite", "--seed", "1")
    assert json.loads((run / "run.json").read_text())["seed"] == 1
    assert not (run / "report.html").exists()
    assert not (run / "evaluate.json").exists()
