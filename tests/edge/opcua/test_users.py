"""The file of users: who is in it, and who can read it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.opcua.users import Role, new_user, read_users, role_for, write_users


def test_a_user_is_known_by_the_password_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep/users.json"
    write_users(path, {"plc": new_user("plc", "operate-me", Role.OPERATE)})
    users = read_users(path)
    assert role_for(users, "plc", "operate-me") is Role.OPERATE
    for name, password in (("plc", "operate-m"), ("plc", ""), ("other", "operate-me")):
        assert role_for(users, name, password) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "operate-me" not in path.read_text()


def test_two_users_of_one_password_have_different_hashes() -> None:
    first, second = (new_user("plc", "operate-me", Role.LOOK) for _ in range(2))
    assert first.hash != second.hash


@pytest.mark.parametrize(
    ("name", "password"),
    [("", "long-enough"), ("a b", "long-enough"), ("x" * 33, "long-enough"), ("plc", "short"),
     ("plc", "x" * 129), ("plc", "two\nlines-of-it")],
)  # fmt: skip
def test_a_name_or_password_that_cannot_be_one_is_refused(name: str, password: str) -> None:
    with pytest.raises(ConfigError):
        new_user(name, password, Role.LOOK)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    write_users(path, {})
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_users(path)


@pytest.mark.parametrize("text", ["", "[]", '{"plc": {"role": "all", "salt": "", "hash": ""}}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="is damaged"):
        read_users(path)
