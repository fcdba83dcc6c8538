"""What a station kept is trained on and evaluated again: its OK parts are the good ones, its NG
parts defects.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.frames.dataset import open_dataset
from edge.runtime.kept_files import Images
from edge.types import Code
from tests.support.kept import write_images
from tests.support.tiny_product import write_tiny_product
from trainer.cli import app
from trainer.train.run_info import read_info


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """12 parts of a tiny product with depth: 9 OK, 2 NG, 1 UNKNOWN, kept as `edge run` keeps
    them.
    """
    dataset = open_dataset(write_tiny_product(tmp_path / "disc"))
    good = [sample for sample in dataset.samples if not sample.is_defective][:10]
    bad = [sample for sample in dataset.samples if sample.is_defective][:2]
    codes = [Code.OK] * 9 + [Code.UNKNOWN] + [Code.NG] * 2
    for number, (sample, code) in enumerate(zip([*good, *bad], codes, strict=True)):
        record = {
            "id": f"s-{number}",
            "code": int(code),
            "reason": "normal",
            "score": 0.1,
            "thr": 1.0,
        }
        write_images(
            tmp_path / "parts/2026-11-29" / f"s-{number}", Images("", sample.load(), None, record)
        )
    return tmp_path / "parts"


def test_the_archive_trains_and_evaluates(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = CliRunner().invoke(
        app, ["train", "mats", str(archive), "--epochs", "1", "--out", str(out)]
    )
    assert trained.exit_code == 0, trained.output
    assert "the station's own verdicts stand in for the truth" in trained.output
    info = read_info(out)
    used = {int(name.rpartition("-")[2]) for name in (*info.train, *info.validation)}
    assert used == set(range(9)), "only what the station called OK"
    assert info.with_depth
    judged = CliRunner().invoke(app, ["evaluate", str(out)])
    assert judged.exit_code == 0, judged.output
    assert "1 test images count as neither good nor defective" in judged.output
    assert "of 2 defective parts found" in judged.output
