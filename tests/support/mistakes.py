"""For tests of mistakes on a command line: a folder of wrong files, and a command in this
process.
"""

from __future__ import annotations

import errno
import importlib
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
import pytest

from edge.install.install import install_bundle
from tests.support.root import Answer, trusting_root
from tests.support.tiny_bundle import make_key, make_tiny_bundle

Run = Callable[..., Answer]


def entry_of(program: str) -> Callable[[], None]:
    """The function that starts `edge` or `trainer`; only then is it imported."""
    entry: Callable[[], None] = importlib.import_module(f"{program}.cli").run_command
    return entry


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
    """The folder where the commands run: a copy of what is prepared, a file, an empty folder, files
    of other kinds.
    """
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


OTHER_KINDS: dict[str, bytes] = {
    "text": b"hello\n",
    "picture": cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes(),
    "archive": _zip(),
    "pickled": pickle.dumps({"a": Path("/")}),
    "noise": np.random.default_rng(0).bytes(3000),
}


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in this process, through its entry point; an error that keeps its traceback is
    raised here.
    """

    def command(program: str, *arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", [program, *(str(argument) for argument in arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            entry_of(program)()
        printed = capfd.readouterr()
        return Answer(int(end.value.code or 0), printed.out, printed.err)

    return command


def refused(answer: Answer, program: str, *words: str) -> str:
    """The sentence of the error, which must contain all these words."""
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
    """The sentence passes on no advice of torch to programmers: weights_only=False would run code
    from the file.
    """
    for foreign in ("weights_only", "torch.load", "cryptography.io", "pydantic", "[Errno", "\x1b"):
        assert foreign not in sentence


def check_the_last_resort(program: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the operating system is a sentence; a bug keeps its traceback."""

    def fail(error: Exception) -> None:
        def app() -> NoReturn:
            raise error

        monkeypatch.setattr(f"{program}.cli.app", app)

    for number, words in (
        (errno.EACCES, "permission denied: check its owner"),
        (errno.EROFS, "read-only: mount it writable"),
        (errno.ENOTDIR, "check the path"),
        (errno.EIO, "(Input/output error): check the path and the disk"),
        (errno.ENOSPC, "free some"),
    ):
        fail(OSError(number, "Input/output error", "/data/file"))
        refused(run(program), program, "/data/file", words)
    for bug in (ValueError("a bug"), OSError("without a file"), KeyError("file")):
        fail(bug)
        with pytest.raises(type(bug)):
            entry_of(program)()
