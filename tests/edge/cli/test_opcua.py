"""`edge opcua` as it is typed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edge.cli.opcua import app
from edge.errors import ConfigError, MissingDependency
from edge.opcua.users import Role, read_users, role_for
from tests.support.opcua import FOLDER, ClientKey


def edge(*words: str, said: str = "") -> Any:
    return CliRunner().invoke(app, words, input=said)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "var/lib/edge").mkdir(parents=True)
    return tmp_path


def test_a_user_is_made_changed_and_removed(root: Path) -> None:
    path = root / FOLDER / "users.json"
    made = edge("user", "plc", "--role", "operate", "--root", str(root), said="operate-me\n")
    assert (made.exit_code, made.stdout) == (0, f"{path}: user plc may operate\n")
    assert role_for(read_users(path), "plc", "operate-me") is Role.OPERATE
    removed = edge("user", "plc", "--remove", "--root", str(root))
    assert (removed.exit_code, read_users(path)) == (0, {})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["plc"], "the password of plc must have 8 to 128 characters"),
        (["p l c"], "cannot be a user's name"),
        (["plc", "--role", "all"], "--role 'all': there are look, operate"),
        (["plc", "--remove"], "has no user plc"),
    ],
)
def test_a_mistake_is_one_sentence(root: Path, words: list[str], sentence: str) -> None:
    done = edge("user", *words, "--root", str(root), said="short\n")
    assert isinstance(done.exception, ConfigError)
    assert sentence in str(done.exception)


def test_a_clients_certificate_is_trusted(root: Path) -> None:
    key = ClientKey(root / "keys")
    done = edge("trust", str(key.certificate), "--root", str(root))
    assert done.exit_code == 0, done.stdout
    (trusted,) = (root / FOLDER / "trusted").iterdir()
    assert trusted.read_bytes() == key.certificate.read_bytes()


def test_without_the_section_or_the_library_it_says_what_to_do(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = edge("--root", str(root))
    assert "enabled is false in [opcua]" in str(done.exception)
    monkeypatch.setitem(sys.modules, "asyncua", None)
    done = edge("--root", str(root))
    assert isinstance(done.exception, MissingDependency)
    assert "pip install 'rgbd-inspection[opcua]'" in str(done.exception)
