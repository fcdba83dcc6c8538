"""What people get wrong at the workstation ends in one sentence: which file, what is wrong, what to
do.

No traceback, exit code 1, and nothing is changed or left behind.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edge.errors import DataError
from tests.support.mistakes import (
    OTHER_KINDS,
    Run,
    assert_no_advice,
    check_the_last_resort,
    refused,
)
from tests.support.root import snapshot
from tests.support.standin_run import MODULE, write_product, write_standin_run
from trainer.fit import FitControl, Phase, fit_phases
from trainer.layers.backbone import LITE0, build_trunk
from trainer.systems import registry
from trainer.systems.m3dm.checkpoint import load_pointmae
from trainer.systems.m3dm.point_features import COMPACT_POINTS
from trainer.systems.m3dm.pointmae import PointTransformer
from trainer.systems.vmpfd.checkpoint import FORMAT, read_pdn
from trainer.train.trained_run import load_run

pytestmark = pytest.mark.timeout(600)
UTF8_MARK = b"\xef\xbb\xbf"


def _saved(value: Any, legacy: bool = False) -> bytes:
    buffer = BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


NO_TENSORS: dict[str, bytes] = {
    **OTHER_KINDS,
    "nothing": b"",
    "objects": _saved({"a": Path("/")}),
    "cut": _saved({"a": torch.zeros(500)})[:900],
    "cut_legacy": _saved({"a": torch.zeros(500)}, legacy=True)[:300],
    "list": _saved([1, 2]),
    "safe_cut": (100).to_bytes(8, "little") + b'{"a":',
}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "synthesize file --products washer",
            ["file is a file where a folder", "name another path"],
        ),
        ("synthesize new --products wsher", ["--products wsher", "washer"]),
        ("keygen file/line", ["file is a file where a folder", "name another path"]),
        ("keygen line", ["line.key exists already", "choose another name"]),
        ("keygen ..", ["..", "such as ../line"]),
        (
            "pretrain pdn nowhere --out folder",
            ["--out folder is a folder where a file", "name the file"],
        ),
        ("pretrain pdn nowhere --out file/new", ["file is a file where a folder"]),
        (
            "pretrain pdn nowhere --out new --weights nothing",
            ["nothing", "tf_efficientnet_lite0", "--weights"],
        ),
        (
            "pretrain pdn nowhere --out new --weights picture",
            ["picture", "tf_efficientnet_lite0", "--weights"],
        ),
        ("pretrain pdn nowhere --out new --preset paper", ["wide_resnet50_2", "--weights FILE"]),
        ("pretrain pdn nowhere --out new --device gpu", ["--device 'gpu'", "cpu, cuda"]),
        (
            "pretrain pointmae nowhere --out folder",
            ["--out folder is a folder where a file", "name the file"],
        ),
        ("pretrain pointmae nowhere --out new --preset small", ["'small'", "compact, paper"]),
        ("benchmark --out file --data a=folder", ["--out file is a file where a folder"]),
        ("benchmark --out new --data a=nowhere", ["--data a=nowhere", "check the path"]),
        ("benchmark --out new --data a=folder --systems ,", ["--systems", "mats,ntsnet"]),
        ("benchmark --out new --data a=folder --systems aand,aand", ["--systems", "once"]),
        ("benchmark --out new --data a=folder --seeds -1", ["--seeds", "0,1,2"]),
        (
            "benchmark --out new --data a=folder --systems aand --preset small",
            ["'small'", "choose one of"],
        ),
        (
            "benchmark --out new --data a=folder --systems aand --weights folder",
            ["folder", "tf_efficientnet_lite0"],
        ),
        (
            "benchmark --out new --data a=folder --systems aand --weights archive",
            ["archive", "tf_efficientnet_lite0"],
        ),
        ("benchmark --out new --data a=folder --systems aand --preset paper", ["--weights FILE"]),
        (
            "benchmark --out new --data a=folder --systems aand --textures file",
            ["file is not a folder"],
        ),
        (
            "benchmark --out new --data a=folder --systems vmpfd --pretrained vmpfd=text",
            ["text", "trainer pretrain pdn"],
        ),
    ],
)
def test_a_mistake_on_the_workstation_is_found_before_an_image_is_read(
    place: Path, run: Run, line: str, words: list[str]
) -> None:
    """`nowhere` does not exist and `folder` holds no product: what is said first is not about
    them.
    """
    before = snapshot(place)
    refused(run("trainer", *line.split()), "trainer", *words)
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "line",
    [
        "synthesize new --seed -1",
        "synthesize new --train 0",
        "pretrain pdn folder --out new --seed -1",
    ],
)
def test_a_number_that_cannot_be_is_a_usage_error(place: Path, run: Run, line: str) -> None:
    before = snapshot(place)
    assert run("trainer", *line.split()).code == 2
    assert snapshot(place) == before


@pytest.mark.parametrize("kind", NO_TENSORS)
def test_weights_of_another_kind_are_refused_in_our_words(tmp_path: Path, kind: str) -> None:
    points, path = COMPACT_POINTS, tmp_path / kind
    transformer = PointTransformer(
        points.tokenizer, points.width, points.depth, points.heads, points.taps
    )
    phase = Phase("a", transformer, [*transformer.parameters()], lambda: 1, _no_loss, 1, 1, 1e-3)
    readers: list[tuple[Callable[[], object], str]] = [
        (lambda: build_trunk(LITE0, path), "timm's tf_efficientnet_lite0"),
        (lambda: load_pointmae(path, transformer), "`trainer pretrain pointmae`"),
        (lambda: read_pdn(path, "compact"), "`trainer pretrain pdn`"),
        (
            lambda: fit_phases(transformer, [phase], 0, FitControl(checkpoint=path)),
            "remove the file",
        ),
    ]
    path.write_bytes(NO_TENSORS[kind])
    for reader, wanted in readers:
        with pytest.raises(DataError) as error:
            reader()
        sentence = str(error.value)
        assert sentence.startswith(f"{path} "), sentence
        assert wanted in sentence
        if kind in OTHER_KINDS and kind != "archive":
            assert "was written neither by torch.save nor by safetensors" in sentence
        assert "\n" not in sentence
        assert_no_advice(sentence)


def _no_loss(_: torch.Tensor, __: torch.Generator) -> torch.Tensor:
    raise AssertionError("nothing is to be trained")


def test_weights_of_another_model_are_named_with_the_shapes_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv_stem.weight": torch.zeros(2, 3)}, path)
    with pytest.raises(
        DataError, match=r"conv_stem\.weight, which should be \(32, 3, 3, 3\) and is \(2, 3\)"
    ) as error:
        build_trunk(LITE0, path)
    assert str(error.value).startswith(
        f"{path} does not fit tf_efficientnet_lite0: 198 of 198 tensors"
    )
    for content in (
        {"format": FORMAT},
        {"format": FORMAT, "kind": "compact"},
        {"format": FORMAT, "kind": "compact", "state": {"a": torch.zeros(1)}},
    ):
        torch.save(content, path)
        with pytest.raises(DataError, match=r"trainer pretrain pdn|leave --pretrained out"):
            read_pdn(path, "compact")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
        return write_standin_run(folder / "run", write_product(folder / "product"))


@pytest.fixture
def run_folder(tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("run.json", "train again"),
        ("model.safetensors", "train again"),
        ("curves.json", "remove it"),
    ],
)
@pytest.mark.parametrize("kind", [*NO_TENSORS, "half"])
def test_a_run_with_a_damaged_file(run_folder: Path, name: str, remedy: str, kind: str) -> None:
    path = run_folder / name
    path.write_bytes(
        path.read_bytes()[: path.stat().st_size // 2] if kind == "half" else NO_TENSORS[kind]
    )
    with pytest.raises(DataError) as error:
        load_run(run_folder)
    assert str(error.value).startswith(f"{path} "), error.value
    assert remedy in str(error.value)
    assert "\n" not in str(error.value)
    assert_no_advice(str(error.value))


def test_a_run_whose_weights_torch_wrote_is_read_as_before(run_folder: Path) -> None:
    before = load_run(run_folder).deployed.state_dict()
    torch.save(load_file(run_folder / "model.safetensors"), run_folder / "model.pt")
    (run_folder / "model.safetensors").unlink()
    after = load_run(run_folder).deployed.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("system", "nope", "there is no system 'nope'"),
        ("preset", "nope", "standin has no preset 'nope'"),
        ("seed", "x", "has a wrong seed"),
        ("extra", 1, "has a wrong extra"),
        ("schema_", 1, "has schema 1"),
    ],
)
def test_a_run_of_something_else(run_folder: Path, key: str, value: object, words: str) -> None:
    path = run_folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DataError, match=words) as error:
        load_run(run_folder)
    assert str(path) in str(error.value)
    assert str(error.value).endswith("train again with this version")


def test_a_run_saved_with_a_byte_order_mark_is_read(run_folder: Path) -> None:
    path = run_folder / "run.json"
    path.write_bytes(UTF8_MARK + path.read_bytes())
    assert load_run(run_folder).info.system == "standin"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("line.pub", ["line.pub is the public key", "line.key"]),
        ("nowhere", ["nowhere does not exist", "trainer keygen"]),
        ("folder", ["folder is a folder"]),
        ("empty", ["empty is not a private key", "trainer keygen"]),
        ("noise", ["noise is not a private key", "trainer keygen"]),
    ],
)
def test_a_key_that_signs_nothing(
    place: Path,
    run: Run,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    words: list[str],
) -> None:
    monkeypatch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
    before = snapshot(place)
    line = f"export {finished_run} --product washer --version 1.0.0 --key {key} --out new.bundle"
    refused(run("trainer", *line.split()), "trainer", *words)
    assert snapshot(place) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--product washer --version 1/0 --key line.key", ["--version '1/0'"]),
        ("--product a/b --version 1 --key line.key", ["--product 'a/b'"]),
        (
            "--product washer --version 1 --key line.key --precision foo",
            ["--precision 'foo'", "fp32, fp16 and int8"],
        ),
        (
            "--product washer --version 1 --key line.key --false-rejects abc",
            ["--false-rejects abc", "such as 5%"],
        ),
    ],
)
def test_an_export_that_cannot_be(
    place: Path,
    run: Run,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    words: list[str],
) -> None:
    monkeypatch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
    before = snapshot(place)
    refused(run("trainer", "export", finished_run, *options.split()), "trainer", *words)
    assert snapshot(place) == before


# --- the last resort ---


def test_what_the_system_refuses_is_a_sentence_and_a_bug_keeps_its_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_the_last_resort("trainer", run, monkeypatch)
