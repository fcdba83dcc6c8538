"""The examples of docs/python.md, as printed; the stand-in detector is trained in MATS's place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.bundle.key_files import generate_key
from edge.frames.dataset import open_dataset
from edge.types import Code
from tests.support.standin_run import MODULE, write_product
from trainer.api import TrainOptions
from trainer.systems import registry

PAGE = Path(__file__).resolve().parents[3] / "docs/python.md"


def example(name: str) -> str:
    return re.findall(rf"```python {name}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[0]


@pytest.mark.endurance
def test_train_evaluate_export_and_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mats", "standin"):
        monkeypatch.setitem(registry.SYSTEM_MODULES, name, MODULE)
    write_product(tmp_path / "parts/washer")
    generate_key(tmp_path / "line")
    known: dict[str, object] = {}
    exec(example("api"), known)
    assert (tmp_path / "runs/washer/report.html").is_file()
    assert known["exported"].path == Path("washer-1.0.0.bundle")  # type: ignore[attr-defined]
    frame = open_dataset(tmp_path / "parts/washer").split("train")[0].load()
    known |= {"color": frame.color, "depth": frame.depth}
    exec(example("judge"), known)
    judgment = known["judgment"]
    assert judgment.code in (Code.OK, Code.NG)  # type: ignore[attr-defined]
    assert judgment.code.name in capsys.readouterr().out  # type: ignore[attr-defined]


def test_options_default_to_the_commands() -> None:
    assert TrainOptions().preset == "compact"
    assert TrainOptions().false_rejects == 0.05
