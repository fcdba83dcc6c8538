"""Who is a user, what proves it, and how long a wrong guess costs."""

from __future__ import annotations

import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.page import users as users_module
from edge.page.roles import Role
from edge.page.users import CODE_S, LONGEST_DELAY_S, Users, WaitFirst, delay_s
from edge.page.vault import PLACE, open_vault


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(tmp_path: Path, clock: Clock) -> Iterator[Users]:
    vault = open_vault(tmp_path)
    yield Users(vault, clock)
    vault.close()


def test_a_user_begins_with_a_code_and_goes_on_with_a_password(users: Users) -> None:
    code = users.add("anna", Role.CALIBRATE)
    found = users.check("anna", f" {code.upper()} ")
    assert found is not None
    assert (found.role, found.secret) == (Role.CALIBRATE, "code")
    users.choose_password("anna", "correct horse")
    assert users.check("anna", code) is None
    found = users.check("anna", "correct horse")
    assert found is not None
    assert found.secret == "password"


def test_a_code_is_good_for_a_day(users: Users, monkeypatch: pytest.MonkeyPatch) -> None:
    code, now_s = users.add("anna", Role.LOOK), time.time()
    for later_s, is_good in ((CODE_S - 60, True), (CODE_S + 60, False), (-CODE_S, False)):
        monkeypatch.setattr(users_module.time, "time", lambda at=now_s + later_s: at)
        assert (users.check("anna", code) is not None) is is_good, later_s


def test_the_file_is_closed_to_others_and_holds_no_secret(users: Users, tmp_path: Path) -> None:
    code, token = users.add("anna", Role.LOOK), users.add_program("prometheus")
    users.choose_password("anna", "correct horse")
    files = list((tmp_path / PLACE).parent.iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    written = b"".join(path.read_bytes() for path in files)
    for secret in (code, token, "correct horse"):
        assert secret.encode() not in written


def test_a_file_that_others_can_read_is_refused(users: Users, tmp_path: Path) -> None:
    (tmp_path / PLACE).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_vault(tmp_path)


@pytest.mark.parametrize("name", ["anna", "nobody"])
def test_each_wrong_try_after_the_third_doubles_the_wait(
    users: Users, clock: Clock, name: str
) -> None:
    """Of a name that does not exist, too: the answers tell nothing."""
    users.add("anna", Role.LOOK)
    waits_s = []
    for _ in range(6):
        assert users.check(name, "wrong") is None
        try:
            users._require_turn(name)
            waits_s.append(0.0)
        except WaitFirst as wait:
            waits_s.append(wait.seconds)
            with pytest.raises(WaitFirst):  # the right one is not looked at either
                users.check(name, "correct horse")
            clock.now_s += wait.seconds
    assert waits_s == [0, 0, 0, 1, 2, 4]


def test_a_right_password_ends_the_count(users: Users) -> None:
    code = users.add("anna", Role.LOOK)
    for _ in range(3):
        for _ in range(3):
            assert users.check("anna", "wrong") is None
        assert users.check("anna", code) is not None


def test_wrong_names_do_not_fill_the_disk(
    users: Users, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users_module, "TRIES_KEPT", 5)
    for number in range(20):
        users._note(f"name{number}", False)
    with closing(sqlite3.connect(tmp_path / PLACE)) as connection:
        assert connection.execute("SELECT count(*) FROM tries").fetchone() == (5,)


def test_a_name_that_is_unknown_takes_as_long(users: Users) -> None:
    """Both are hashed; processor time, so that other processes do not matter."""
    users.add("anna", Role.LOOK)

    def least_s(name: str) -> float:
        taken = []
        for _ in range(3):
            begun_s = time.process_time()
            assert users.check(name, "wrong") is None
            taken.append(time.process_time() - begun_s)
        return min(taken)

    known_s, unknown_s = least_s("anna"), least_s("nobody")
    assert 0.5 < unknown_s / known_s < 2


@pytest.mark.parametrize(
    ("wrong", "seconds"), [(1, 0), (3, 0), (4, 1), (5, 2), (6, 4), (12, 256), (13, 300), (999, 300)]
)
def test_the_wait(wrong: int, seconds: float) -> None:
    assert delay_s(wrong) == seconds <= LONGEST_DELAY_S


def test_reset_and_remove_end_what_was(users: Users) -> None:
    users.add("anna", Role.LOOK)
    users.choose_password("anna", "correct horse")
    code = users.reset("anna")
    assert users.check("anna", "correct horse") is None
    assert users.check("anna", code) is not None
    users.remove("anna")
    assert users.all() == []
    assert users.check("anna", code) is None


def test_a_program_has_a_token_and_no_password(users: Users) -> None:
    token = users.add_program("prometheus")
    found = users.of_token(token)
    assert found is not None
    assert (found.name, found.role) == ("prometheus", Role.LOOK)
    assert users.check("prometheus", token) is None
    assert users.of_token("") is None
    newer = users.reset("prometheus")
    assert users.of_token(token) is None
    assert users.of_token(newer) is not None


@pytest.mark.parametrize(
    "password", ["short", "x" * 129, "anna-and-more", "aaaaaaaaaaaa", "a\nbcdefghijk"]
)
def test_a_weak_password_is_refused(users: Users, password: str) -> None:
    users.add("anna", Role.LOOK)
    with pytest.raises(ConfigError):
        users.choose_password("anna", password)


@pytest.mark.parametrize("name", ["", "a b", "x" * 33, "-anna", "änna", "anna\n"])
def test_a_name_that_cannot_be_one_is_refused(users: Users, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a user's name"):
        users.add(name, Role.LOOK)


def test_mistakes_name_what_to_do(users: Users) -> None:
    users.add("anna", Role.LOOK)
    with pytest.raises(ConfigError, match="edge page user reset anna"):
        users.add("anna", Role.LOOK)
    with pytest.raises(ConfigError, match=r"no user 'tom' \(users: anna\)"):
        users.reset("tom")


def test_roles_include_those_before() -> None:
    allowed = [(one.value, other.value) for one in Role for other in Role if one.includes(other)]
    assert len(allowed) == 6
    assert ("look", "calibrate") not in allowed
    assert ("administer", "look") in allowed
