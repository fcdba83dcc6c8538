"""How long a session lasts, and what it allows meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.database import Database
from edge.page import sessions as sessions_module
from edge.page.roles import Role
from edge.page.sessions import IDLE_S, LONGEST_S, PER_USER, PROVED_S, RESTS_S, Sessions
from edge.page.users import Users
from edge.page.vault import PLACE, open_vault
from tests.support.served_page import add_user


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with two users, which each test gets a copy of."""
    root = tmp_path_factory.mktemp("made")
    for name, role in (("anna", Role.ADMINISTER), ("lena", Role.LOOK)):
        add_user(root, name, role)
    return root


@pytest.fixture
def vault(tmp_path: Path, made: Path) -> Iterator[Database]:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    vault = open_vault(tmp_path)
    yield vault
    vault.close()


@pytest.fixture
def users(vault: Database) -> Users:
    return Users(vault)


@pytest.fixture
def sessions(vault: Database, users: Users, clock: Clock) -> Sessions:
    return Sessions(vault, clock)


def test_an_id_is_kept_as_its_hash_alone(sessions: Sessions, tmp_path: Path) -> None:
    session = sessions.begin("anna")
    assert len(session) >= 43  # 256 bits
    files = (tmp_path / PLACE).parent.iterdir()
    assert session.encode() not in b"".join(path.read_bytes() for path in files)
    caller = sessions.find(session, is_act=True)
    assert caller is not None
    assert (caller.name, caller.role) == ("anna", Role.ADMINISTER)
    assert sessions.find(session[:-1], is_act=True) is None


def test_rights_rest_without_an_act_and_come_back_with_the_password(
    sessions: Sessions, clock: Clock
) -> None:
    session = sessions.begin("anna")
    for _ in range(20):  # a view that renews itself is no act
        clock.now_s += RESTS_S / 10
        caller = sessions.find(session, is_act=False)
        assert caller is not None
    assert caller.rests
    assert sessions.find(session, is_act=True).rests, "an act does not wake them"  # type: ignore[union-attr]
    sessions.prove(caller.key)
    again = sessions.find(session, is_act=True)
    assert again is not None
    assert (again.rests, again.is_proved) == (False, True)


def test_acts_keep_rights_awake_but_prove_nothing(sessions: Sessions, clock: Clock) -> None:
    session = sessions.begin("anna")
    for _ in range(20):
        clock.now_s += RESTS_S / 2
        caller = sessions.find(session, is_act=True)
        assert caller is not None
        assert not caller.rests
    assert not caller.is_proved
    assert clock.now_s > 1000 + PROVED_S


def test_a_screen_of_a_looker_stays(sessions: Sessions, clock: Clock) -> None:
    session = sessions.begin("lena")
    begun_s = clock.now_s
    while clock.now_s < begun_s + 3 * IDLE_S:
        clock.now_s += 600
        assert sessions.find(session, is_act=False) is not None
    clock.now_s += IDLE_S + 1
    assert sessions.find(session, is_act=False) is None


def test_nothing_lasts_longer_than_a_month(sessions: Sessions, clock: Clock) -> None:
    session, begun_s = sessions.begin("lena"), clock.now_s
    while clock.now_s < begun_s + LONGEST_S:
        assert sessions.find(session, is_act=True) is not None
        clock.now_s += IDLE_S / 2
    clock.now_s += 1
    assert sessions.find(session, is_act=True) is None


def test_a_change_of_the_user_holds_at_once(sessions: Sessions, users: Users) -> None:
    session = sessions.begin("anna")
    users.choose_password("anna", "another horse")
    assert sessions.find(session, is_act=True) is None
    session = sessions.begin("anna")
    users.remove("anna")
    assert sessions.find(session, is_act=True) is None


def test_a_restart_of_the_page_keeps_sessions_and_one_of_the_machine_ends_them(
    sessions: Sessions, vault: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = sessions.begin("anna")
    assert Sessions(vault, clock).find(session, is_act=True) is not None
    monkeypatch.setattr(sessions_module, "read_boot_id", lambda: "another boot")
    assert Sessions(vault, clock).find(session, is_act=True) is None


def test_a_user_has_a_bounded_number_of_sessions(sessions: Sessions, clock: Clock) -> None:
    begun = []
    for _ in range(PER_USER + 5):
        clock.now_s += 1
        begun.append(sessions.begin("lena"))
    alive = [sessions.find(session, is_act=True) is not None for session in begun]
    assert alive == [False] * 5 + [True] * PER_USER
