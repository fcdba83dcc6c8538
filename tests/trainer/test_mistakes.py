"""What people get wrong on the command line ends in one sentence: which file, what is wrong, what to do.

No traceback, exit code 1, and nothing is changed or left behind.
"""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import cv2
import numpy as np
import pytest
import torch

from edge import cli as edge_cli
from edge.bundle.install import install_bundle
from edge.bundle.store import Store
from edge.config import BrokerConfig
from edge.errors import ConfigError, DataError, StorageError
from edge.files import read_text, require_file_target, require_folder_target
from edge.line.mqtt import Link
from tests.support.root import Answer, snapshot, trusting_root
from tests.support.standin_run import MODULE, write_product, write_standin_run
from tests.support.tiny_bundle import make_key, make_tiny_bundle
from trainer import cli as trainer_cli
from trainer.features import LITE0, build_trunk
from trainer.fit import FitControl, Phase, fit_phases
from trainer.layers.point_features import COMPACT_POINTS
from trainer.layers.pointmae import PointTransformer
from trainer.pretrain.checkpoint import load_pointmae
from trainer.pretrain.pdn import FORMAT, read_pdn
from trainer.run import load_run
from trainer.systems import base

pytestmark = pytest.mark.timeout(60)
Run = Callable[..., Answer]
COMMANDS = {"edge": edge_cli.run_command, "trainer": trainer_cli.run_command}
UTF8_MARK = b"\xef\xbb\xbf"


# --- what there is ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """line.key, line.pub, washer.bundle, and `root`, where it is installed."""
    folder = tmp_path_factory.mktemp("prepared")
    key = make_key(folder)
    bundle = make_tiny_bundle(folder, key)
    trusting_root(folder / "root", key)
    install_bundle(bundle, folder / "root")
    bundle.rename(folder / "washer.bundle")
    return folder


@pytest.fixture
def place(tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where the commands run: a copy of what is prepared, a file, an empty folder, files of other kinds."""
    shutil.copytree(prepared, tmp_path, symlinks=True, dirs_exist_ok=True)
    (tmp_path / "file").write_text("a file\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    for name, content in OTHER_KINDS.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _zip() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "no tensors")
    return buffer.getvalue()


def _saved(value: Any, legacy: bool = False) -> bytes:
    buffer = BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


OTHER_KINDS: dict[str, bytes] = {
    "text": b"hello\n",
    "picture": cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes(),
    "archive": _zip(),
    "pickled": pickle.dumps({"a": Path("/")}),
    "noise": np.random.default_rng(0).bytes(3000),
}
NO_TENSORS: dict[str, bytes] = {
    **OTHER_KINDS,
    "nothing": b"",
    "objects": _saved({"a": Path("/")}),
    "cut": _saved({"a": torch.zeros(500)})[:900],
    "cut_legacy": _saved({"a": torch.zeros(500)}, legacy=True)[:300],
    "list": _saved([1, 2]),
    "safe_cut": (100).to_bytes(8, "little") + b'{"a":',
}


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in this process, through its entry point; an error that keeps its traceback is raised here."""

    def command(program: str, *arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", [program, *(str(argument) for argument in arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            COMMANDS[program]()
        printed = capfd.readouterr()
        return Answer(int(end.value.code or 0), printed.out, printed.err)

    return command


def refused(answer: Answer, program: str, *words: str) -> str:
    """The sentence, which holds all these words."""
    assert answer.code == 1, answer
    said = answer.err.splitlines()
    sentence = said[-1]
    assert [line for line in said if line.startswith(f"{program}: ")] == [sentence], answer.err
    assert "Traceback" not in answer.err
    for word in words:
        assert word in sentence
    assert_no_advice(sentence)
    return sentence


def assert_no_advice(sentence: str) -> None:
    """Of a library, to whoever programs with it: weights_only=False runs whatever the file holds."""
    for foreign in ("weights_only", "torch.load", "cryptography.io", "pydantic", "[Errno", "\x1b"):
        assert foreign not in sentence


# --- edge -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "words"), [
    ("inspect picture --root root --out file", ["--out file is a file where a folder is needed", "name another path"]),
    ("inspect picture --root root --out file/deeper", ["file is a file", "name another path"]),
    ("inspect picture --root root --precision fp8", ["--precision fp8", "fp32, fp16, int8"]),
    ("status --root file", ["--root file is a file", "name the folder of a station"]),
    ("run --root file", ["--root file is a file"]),
    ("verify --root file", ["--root file is a file"]),
    ("inspect --root file", ["--root file is a file"]),
    ("install washer.bundle --root file", ["--root file is a file"]),
    ("trust line.pub --root file", ["--root file is a file"]),
    ("calibrate threshold --false-rejects 5% --root file", ["--root file is a file"]),
    ("calibrate plane --root file", ["--root file is a file"]),
    ("bundle list --root file", ["--root file is a file"]),
    ("bundle select washer --root nowhere", ["washer has no current bundle under nowhere", "edge install"]),
    ("bundle rollback washer --root nowhere", ["washer has no current bundle under nowhere", "edge install"]),
    ("bundle select gear --root root", ["gear", "installed products: washer", "edge install"]),
    ("bundle select washer/ --root root", ["'washer/'", "installed products: washer"]),
    ("bundle select ../washer --root root", ["'../washer'", "installed products: washer"]),
    ("bundle show gear --root root", ["gear", "installed products: washer"]),
    ("verify --product= --root root", ["''", "installed products: washer"]),
    ("calibrate threshold --product gear --false-rejects 5% --root root", ["gear", "installed products: washer"]),
    ("calibrate plane --product gear --root root", ["gear", "installed products: washer"]),
    ("calibrate threshold --false-rejects 0 --root root", ["--false-rejects 0", "such as 5%"]),
    ("calibrate threshold --false-rejects abc --root root", ["--false-rejects abc", "such as 5%"]),
    ("calibrate threshold --false-rejects 200% --root root", ["--false-rejects 200%", "such as 5%"]),
    ("trust line.key --root root", ["line.key is a private key", "never leave the workstation", "line.pub"]),
    ("trust nowhere.pub --root root", ["nowhere.pub does not exist", "trainer keygen"]),
    ("trust folder --root root", ["folder is a folder where a file is needed"]),
    ("trust empty --root root", ["empty is not a public key", ".pub file"]),
    ("trust noise --root root", ["noise is not a public key", ".pub file"]),
    ("trust washer.bundle --root root", ["washer.bundle is larger than 16 KiB", "check the path"]),
    ("install line.key --root root", ["line.key", "a private key, which should never leave", ".bundle file"]),
    ("install line.pub --root root", ["line.pub", "a public key, which `edge trust` takes", ".bundle file"]),
    ("install folder --root root", ["folder (a folder)", ".bundle file"]),
    ("install nowhere --root root", ["nowhere", ".bundle file"]),
    ("install empty --root root", ["empty", "it is empty", ".bundle file"]),
    ("install archive --root root", ["archive", "a zip archive", ".bundle file"]),
    ("run --source nowhere --root root", ["--source nowhere does not exist"]),
])
def test_a_mistake_on_the_station(place: Path, run: Run, line: str, words: list[str]) -> None:
    before = snapshot(place)
    refused(run("edge", *line.split()), "edge", *words)
    assert snapshot(place) == before


@pytest.mark.parametrize("line", [
    "calibrate plane --frames 0 --root root", "calibrate plane --frames abc --root root", "run --max-parts 0",
    "status --rot root", "instal washer.bundle", "calibrate threshold --root root",
])
def test_a_line_that_cannot_be_read_is_a_usage_error(place: Path, run: Run, line: str) -> None:
    before = snapshot(place)
    answer = run("edge", *line.split())
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert "Usage: " in answer.err
    assert snapshot(place) == before


@pytest.mark.parametrize(("content", "words"), [
    (b"[camera]\nknid = 'folder'\n", ["camera.knid", "there is no such key", "remove it or correct its name", "kind"]),
    (b"[cam]\nkind = 'folder'\n", ["cam:", "there is no such key", "camera"]),
    (b"[broker]\nport = 'x'\n", ["broker.port", "correct it"]),
    (b"broker = 3\n", ["broker: this is a section", "[broker]"]),
    (b"[broker\n", ["is not TOML", "line 1"]),
    ("[runtime]\nthreads = 1\n".encode("utf-16"), ["UTF-16", "save it as UTF-8"]),
    ("# Müller\n".encode("latin-1"), ["not text in UTF-8", "save it as UTF-8"]),
    (b"#" * 300_000, ["larger than 256 KiB", "check the path"]),
    (None, ["is a folder where a file is needed"]),
])
def test_a_damaged_station_toml(place: Path, run: Run, content: bytes | None, words: list[str]) -> None:
    path = Path("root/etc/edge/station.toml")
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    before = snapshot(place)
    for line in ("verify --root root", "run --once --root root"):
        refused(run("edge", *line.split()), "edge", str(path), *words)
    assert snapshot(place) == before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"washer\ngear\n", b"../washer\n", None])
def test_a_damaged_active_file(place: Path, run: Run, content: bytes | None) -> None:
    path = Path("root/var/lib/edge/active")
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    words = ["is a folder"] if content is None else ["does not name a product", "edge bundle select"]
    for line in ("status --root root", "bundle list --root root", "verify --root root"):
        refused(run("edge", *line.split()), "edge", str(path), *words)


def test_a_database_that_is_none(place: Path, run: Run) -> None:
    database = Path("root/var/lib/edge/line.sqlite")
    for beside in database.parent.glob("line.sqlite*"):
        beside.unlink()
    database.write_bytes(OTHER_KINDS["noise"])
    make_key(place, "other")
    line = ("trust", "other.pub", "--root", "root")
    refused(run("edge", *line), "edge", str(database), "not a database", "Move")
    assert len(list((place / "root/etc/edge/trust").glob("*.pub"))) == 1
    database.unlink()
    database.mkdir()
    refused(run("edge", *line), "edge", str(database), "Check that it is a file")


READ_ONLY = """
set -e
mount --bind root root
mount -o remount,ro,bind root
for line in status verify "inspect frames --out overlays" "trust other.pub" "calibrate threshold --false-rejects 5%" \
    "run --once --source frames"
do
    code=0
    "$0" -c 'from edge.cli import run_command; run_command()' $line --root root > out 2> err || code=$?
    printf '%s\\t%s\\t%s\\t%s\\n' "$line" $code "$(tail -n 1 out)" "$(tail -n 1 err)"
done
"""


def test_a_root_that_is_mounted_read_only(place: Path) -> None:
    """What only reads works; what would write is refused before any work is done."""
    make_key(place, "other")
    (place / "frames").mkdir()
    cv2.imwrite("frames/0000_color.png", np.zeros((96, 128, 3), np.uint8))
    cv2.imwrite("frames/0000_depth.png", np.full((96, 128), 2500, np.uint16))
    about = {"width": 128, "height": 96, "depth_unit_m": 0.0001, "fx": 200.0, "fy": 200.0, "cx": 63.5, "cy": 47.5}
    Path("frames/intrinsics.json").write_text(json.dumps(about))
    before = snapshot(place / "root")
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "mount", "--bind", "root", "root"]).returncode:
        pytest.skip("this machine allows no mount of one's own: util-linux, and user namespaces that are not forbidden")
    done = subprocess.run([*alone, "sh", "-c", READ_ONLY, sys.executable], capture_output=True, text=True, check=True)
    answers = {line: rest for line, *rest in (row.split("\t") for row in done.stdout.splitlines())}
    assert [line for line, (code, *_) in answers.items() if code == "0"] == [
        "status", "verify", "inspect frames --out overlays",
    ]
    assert "verify passed; not kept: " in answers["verify"][1]
    for line in list(answers)[3:]:
        code, printed, said = answers[line]
        assert (code, printed) == ("1", ""), line
        assert said.startswith("edge: root/var/lib/edge"), said
        assert "read-only" in said
        assert ":" in said.removeprefix("edge: ")
    assert snapshot(place / "root") == before


@pytest.mark.parametrize(("content", "words"), [
    ("Müller\n".encode("latin-1"), "not text in UTF-8"),
    ("secret\r\n".encode("utf-16"), "UTF-16"),
    (b"", "the first line of"),
    (b"\r\nsecret\r\n", "the first line of"),
    (UTF8_MARK, "the first line of"),
    (b"a" * 100_000, "larger than 64 KiB"),
    (None, "is a folder"),
])
def test_a_password_file_that_holds_no_password(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "password"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        Link(BrokerConfig(username="edge", password_file=str(path)), "id", None, 1000)
    assert str(error.value).startswith("broker.password_file: ")
    assert str(path) in str(error.value)
    assert words in str(error.value)


@pytest.mark.parametrize("content", [
    b"secret", b"secret\n", b"secret\r\n", UTF8_MARK + b"secret\r\n", b"secret\r\nnotes\r\n",
])
def test_a_password_as_any_editor_saves_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "password").write_bytes(content)
    link = Link(BrokerConfig(username="edge", password_file=str(tmp_path / "password")), "id", None, 1000)
    assert link._new_client(threading.Event()).password == "secret"


def test_a_byte_order_mark_is_no_mistake(place: Path, run: Run) -> None:
    for path in (Path("line.pub"), Path("root/etc/edge/station.toml")):
        path.write_bytes(UTF8_MARK + path.read_bytes())
    for line in ("trust line.pub --root root", "status --root root", "verify --root root"):
        assert run("edge", *line.split()).code == 0


def test_text_is_read_as_editors_save_it(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(UTF8_MARK + "Müller\r\n".encode())
    assert read_text(path) == "Müller\r\n"
    path.write_bytes("Müller\n".encode("latin-1"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        read_text(path, DataError)


def test_what_cannot_be_locked_is_named(place: Path) -> None:
    (place / "root/var/lib/edge/change.lock").unlink()
    (place / "root/var/lib/edge/change.lock").mkdir()
    for root, named in ((Path("file"), "file/var"), (Path("root"), "root/var/lib/edge/change.lock")):
        with pytest.raises(StorageError, match=f"{named}.*: check the path"), Store(root).change("a test"):
            pass


# --- the last resort --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["edge", "trainer"])
def test_what_the_system_refuses_is_a_sentence_and_a_bug_keeps_its_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    def fail(error: Exception) -> None:
        def app() -> NoReturn:
            raise error

        monkeypatch.setattr(edge_cli if program == "edge" else trainer_cli, "app", app)

    for number, words in (
        (errno.EACCES, "permission denied: check its owner"), (errno.EROFS, "read-only: mount it writable"),
        (errno.ENOTDIR, "check the path"), (errno.EIO, "(Input/output error): check the path and the disk"),
        (errno.ENOSPC, "free some"),
    ):
        fail(OSError(number, "Input/output error", "/data/file"))
        refused(run(program), program, "/data/file", words)
    for bug in (ValueError("a bug"), OSError("without a file"), KeyError("file")):
        fail(bug)
        with pytest.raises(type(bug)):
            COMMANDS[program]()


def test_a_target_is_looked_at_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    require_folder_target(tmp_path / "a/b/c", "--out")
    require_file_target(tmp_path / "a/b.pth", "--out")
    require_file_target(tmp_path / "file", "--out")
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(ConfigError, match=f"--out {path}.* is a file where a folder is needed: name another path"):
            require_folder_target(path, "--out")
    for path, words in ((tmp_path, "is a folder where a file"), (tmp_path / "file/a.pth", "is a file where a folder")):
        with pytest.raises(ConfigError, match=f"--out {path}.* {words}"):
            require_file_target(path, "--out")
    monkeypatch.setattr("edge.files.os.access", lambda *_: False)
    with pytest.raises(ConfigError, match=f"--out {tmp_path / 'new'}: {tmp_path} cannot be written: check its owner"):
        require_folder_target(tmp_path / "new", "--out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- trainer ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "words"), [
    ("synthesize file --products washer", ["file is a file where a folder", "name another path"]),
    ("synthesize new --products wsher", ["--products wsher", "washer"]),
    ("keygen file/line", ["file is a file where a folder", "name another path"]),
    ("keygen line", ["line.key exists already", "choose another name"]),
    ("keygen ..", ["..", "such as ../line"]),
    ("pretrain pdn nowhere --out folder", ["--out folder is a folder where a file", "name the file"]),
    ("pretrain pdn nowhere --out file/new", ["file is a file where a folder"]),
    ("pretrain pdn nowhere --out new --weights nothing", ["nothing", "tf_efficientnet_lite0", "--weights"]),
    ("pretrain pdn nowhere --out new --weights picture", ["picture", "tf_efficientnet_lite0", "--weights"]),
    ("pretrain pdn nowhere --out new --preset paper", ["wide_resnet50_2", "--weights FILE"]),
    ("pretrain pdn nowhere --out new --device gpu", ["--device 'gpu'", "cpu, cuda"]),
    ("pretrain pointmae nowhere --out folder", ["--out folder is a folder where a file", "name the file"]),
    ("pretrain pointmae nowhere --out new --preset small", ["'small'", "compact, paper"]),
    ("benchmark --out file --data a=folder", ["--out file is a file where a folder"]),
    ("benchmark --out new --data a=nowhere", ["--data a=nowhere", "check the path"]),
    ("benchmark --out new --data a=folder --systems ,", ["--systems", "mats,ntsnet"]),
    ("benchmark --out new --data a=folder --systems aand,aand", ["--systems", "once"]),
    ("benchmark --out new --data a=folder --seeds -1", ["--seeds", "0,1,2"]),
    ("benchmark --out new --data a=folder --systems aand --preset small", ["'small'", "choose one of"]),
    ("benchmark --out new --data a=folder --systems aand --weights folder", ["folder", "tf_efficientnet_lite0"]),
    ("benchmark --out new --data a=folder --systems aand --weights archive", ["archive", "tf_efficientnet_lite0"]),
    ("benchmark --out new --data a=folder --systems aand --preset paper", ["--weights FILE"]),
    ("benchmark --out new --data a=folder --systems aand --textures file", ["file is not a folder"]),
    ("benchmark --out new --data a=folder --systems vmpfd --pretrained vmpfd=text", ["text", "trainer pretrain pdn"]),
])
def test_a_mistake_on_the_workstation_is_found_before_an_image_is_read(
    place: Path, run: Run, line: str, words: list[str]
) -> None:
    """`nowhere` does not exist and `folder` holds no product: what is said first is not about them."""
    before = snapshot(place)
    refused(run("trainer", *line.split()), "trainer", *words)
    assert snapshot(place) == before


@pytest.mark.parametrize("line", [
    "synthesize new --seed -1", "synthesize new --train 0", "pretrain pdn folder --out new --seed -1",
])
def test_a_number_that_cannot_be_is_a_usage_error(place: Path, run: Run, line: str) -> None:
    before = snapshot(place)
    assert run("trainer", *line.split()).code == 2
    assert snapshot(place) == before


@pytest.mark.parametrize("kind", NO_TENSORS)
def test_weights_of_another_kind_are_refused_in_our_words(tmp_path: Path, kind: str) -> None:
    points, path = COMPACT_POINTS, tmp_path / kind
    transformer = PointTransformer(points.tokeniser, points.width, points.depth, points.heads, points.taps)
    phase = Phase("a", transformer, [*transformer.parameters()], lambda: 1, _no_loss, 1, 1, 1e-3)
    readers: list[tuple[Callable[[], object], str]] = [
        (lambda: build_trunk(LITE0, path), "timm's tf_efficientnet_lite0"),
        (lambda: load_pointmae(path, transformer), "`trainer pretrain pointmae`"),
        (lambda: read_pdn(path, "compact"), "`trainer pretrain pdn`"),
        (lambda: fit_phases(transformer, [phase], 0, FitControl(checkpoint=path)), "remove the file"),
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
    with pytest.raises(DataError, match=r"conv_stem\.weight, which should be \(32, 3, 3, 3\) and is \(2, 3\)") as error:
        build_trunk(LITE0, path)
    assert str(error.value).startswith(f"{path} does not fit tf_efficientnet_lite0: 198 of 198 tensors")
    for content in ({"format": FORMAT}, {"format": FORMAT, "kind": "compact"},
                    {"format": FORMAT, "kind": "compact", "state": {"a": torch.zeros(1)}}):
        torch.save(content, path)
        with pytest.raises(DataError, match=r"trainer pretrain pdn|leave --pretrained out"):
            read_pdn(path, "compact")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base.SYSTEM_MODULES, "standin", MODULE)
        return write_standin_run(folder / "run", write_product(folder / "product"))


@pytest.fixture
def run_folder(tmp_path: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(base.SYSTEM_MODULES, "standin", MODULE)
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.mark.parametrize(("name", "remedy"), [
    ("run.json", "train again"), ("model.pt", "train again"), ("curves.json", "remove it"),
])
@pytest.mark.parametrize("kind", [*NO_TENSORS, "half"])
def test_a_run_with_a_damaged_file(run_folder: Path, name: str, remedy: str, kind: str) -> None:
    path = run_folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if kind == "half" else NO_TENSORS[kind])
    with pytest.raises(DataError) as error:
        load_run(run_folder)
    assert str(error.value).startswith(f"{path} "), error.value
    assert remedy in str(error.value)
    assert "\n" not in str(error.value)
    assert_no_advice(str(error.value))


@pytest.mark.parametrize(("key", "value", "words"), [
    ("system", "nope", "there is no system 'nope'"), ("preset", "nope", "standin has no preset 'nope'"),
    ("seed", "x", "has a wrong seed"), ("extra", 1, "has a wrong extra"), ("schema_", 1, "has schema 1"),
])
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


@pytest.mark.parametrize(("key", "words"), [
    ("line.pub", ["line.pub is the public key", "line.key"]),
    ("nowhere", ["nowhere does not exist", "trainer keygen"]),
    ("folder", ["folder is a folder"]),
    ("empty", ["empty is not a private key", "trainer keygen"]),
    ("noise", ["noise is not a private key", "trainer keygen"]),
])
def test_a_key_that_signs_nothing(
    place: Path, run: Run, finished_run: Path, monkeypatch: pytest.MonkeyPatch, key: str, words: list[str]
) -> None:
    monkeypatch.setitem(base.SYSTEM_MODULES, "standin", MODULE)
    before = snapshot(place)
    line = f"export {finished_run} --product washer --version 1.0.0 --key {key} --out new.bundle"
    refused(run("trainer", *line.split()), "trainer", *words)
    assert snapshot(place) == before


@pytest.mark.parametrize(("options", "words"), [
    ("--product washer --version 1/0 --key line.key", ["--version '1/0'"]),
    ("--product a/b --version 1 --key line.key", ["--product 'a/b'"]),
    ("--product washer --version 1 --key line.key --precision foo", ["--precision 'foo'", "fp32, fp16 and int8"]),
    ("--product washer --version 1 --key line.key --false-rejects abc", ["--false-rejects abc", "such as 5%"]),
])
def test_an_export_that_cannot_be(
    place: Path, run: Run, finished_run: Path, monkeypatch: pytest.MonkeyPatch, options: str, words: list[str]
) -> None:
    monkeypatch.setitem(base.SYSTEM_MODULES, "standin", MODULE)
    before = snapshot(place)
    refused(run("trainer", "export", finished_run, *options.split()), "trainer", *words)
    assert snapshot(place) == before
