"""Users of the page: names, roles, and what proves who they are.

A user begins with a one-time code that the console shows, and chooses a password with it. A program
has a token instead and may only look. Whoever guesses waits twice as long after each wrong try; the
delay belongs to the name, whether or not there is such a user.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.clock import boot_time_s, read_boot_id
from edge.database import Database
from edge.errors import ConfigError
from edge.page.roles import Role
from edge.page.secrets_of_users import (
    hash_of,
    is_same,
    new_code,
    new_salt,
    new_token,
    require_password,
    token_hash,
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
CODE_S = 24 * 3600.0  # a code is good for this long
FREE_TRIES = 3  # wrong ones without a delay
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 300.0
TRIES_KEPT = 1000  # names; those that may try again longest go first
USERS_LIMIT = 100


@dataclass(frozen=True)
class User:
    """One user. secret: "code" until a password is chosen, "password", or "token"."""

    name: str
    role: Role
    secret: str
    made_at: str


class WaitFirst(Exception):
    """Too many wrong tries for this name. seconds: until the next one is looked at."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.0f} s")
        self.seconds = seconds


class Users:
    """The users in page.sqlite. A change by another process holds at once. Thread-safe."""

    def __init__(self, vault: Database, now_s: Callable[[], float] = boot_time_s) -> None:
        """now_s: seconds since the boot."""
        self._vault, self._now_s, self._boot = vault, now_s, read_boot_id()

    def all(self) -> list[User]:
        """By name."""
        with self._vault.errors("read"):
            rows = self._vault.connection().execute(
                "SELECT name, role, secret, made_at FROM users ORDER BY name"
            )
            return [_user(row) for row in rows]

    def find(self, name: str) -> User | None:
        """The user of this name."""
        return next((user for user in self.all() if user.name == name), None)

    def add(self, name: str, role: Role) -> str:
        """A new user; returns the one-time code.

        Raises: ConfigError if nobody may be called so, or there is such a user.
        """
        require_name(name)
        code = new_code()
        self._insert(name, role, "code", code)
        return code

    def add_program(self, name: str) -> str:
        """A new user that is a program and may look; returns its token. Raises: ConfigError."""
        require_name(name)
        token = new_token()
        self._insert(name, Role.LOOK, "token", token)
        return token

    def reset(self, name: str) -> str:
        """Another one-time code, or token of a program, in place of what a user has; the user's
        sessions end. Raises: ConfigError if there is no such user.
        """
        user = self._require(name)
        secret = new_token() if user.secret == "token" else new_code()
        self._write(name, "token" if user.secret == "token" else "code", secret)
        return secret

    def remove(self, name: str) -> None:
        """Remove a user and its sessions. Raises: ConfigError if there is no such user."""
        self._require(name)
        with self._vault.errors("change"), self._vault.transaction() as connection:
            connection.execute("DELETE FROM users WHERE name = ?", (name,))
            connection.execute("DELETE FROM sessions WHERE name = ?", (name,))

    def choose_password(self, name: str, password: str) -> None:
        """In place of the code or the old password; every session of the user ends.

        Raises: ConfigError if it cannot be a password.
        """
        require_password(name, password)
        self._write(name, "password", password)

    def check(self, name: str, secret: str) -> User | None:
        """The user whose code or password this is; None if name or secret is wrong. Takes as long
        for a name that does not exist.

        Raises: WaitFirst after too many wrong tries; the secret is then not looked at.
        """
        name = name[:64]
        self._require_turn(name)
        with self._vault.errors("read"):
            row = self._vault.connection().execute(
                "SELECT name, role, secret, made_at, salt, hash, until_s FROM users"
                " WHERE name = ? AND secret != 'token'",
                (name,),
            ).fetchone()  # fmt: skip
        salt, known = (new_salt(), bytes(32)) if row is None else (row[4], row[5])
        given = secret if row is None or row[2] != "code" else secret.strip().lower()
        is_right = is_same(given, salt, known) and row is not None and _is_in_time(row[6])
        self._note(name, is_right)
        return _user(row) if is_right else None

    def of_token(self, token: str) -> User | None:
        """The program whose token this is."""
        with self._vault.errors("read"):
            row = self._vault.connection().execute(
                "SELECT name, role, secret, made_at FROM users WHERE secret = 'token' AND hash = ?",
                (token_hash(token),),
            ).fetchone()  # fmt: skip
        return None if row is None else _user(row)

    # --- wrong tries ---

    def _require_turn(self, name: str) -> None:
        with self._vault.errors("read"):
            row = (
                self._vault.connection()
                .execute(
                    "SELECT until_s FROM tries WHERE name = ? AND boot = ?", (name, self._boot)
                )
                .fetchone()
            )
        left_s = 0.0 if row is None else row[0] - self._now_s()
        if left_s > 0:
            raise WaitFirst(left_s)

    def _note(self, name: str, is_right: bool) -> None:
        with self._vault.errors("change"), self._vault.transaction(durable=False) as connection:
            row = connection.execute(
                "SELECT wrong FROM tries WHERE name = ? AND boot = ?", (name, self._boot)
            ).fetchone()
            if is_right:
                connection.execute("DELETE FROM tries WHERE name = ?", (name,))
                return
            wrong = 1 + (0 if row is None else row[0])
            connection.execute(
                "INSERT OR REPLACE INTO tries VALUES (?, ?, ?, ?)",
                (name, self._boot, wrong, self._now_s() + delay_s(wrong)),
            )
            connection.execute(
                "DELETE FROM tries WHERE name NOT IN"
                " (SELECT name FROM tries ORDER BY until_s DESC LIMIT ?)",
                (TRIES_KEPT,),
            )

    # --- changes ---

    def _require(self, name: str) -> User:
        user = self.find(name)
        if user is None:
            known = ", ".join(one.name for one in self.all()) or "none"
            raise ConfigError(f"there is no user {name!a} (users: {known})")
        return user

    def _insert(self, name: str, role: Role, secret: str, plain: str) -> None:
        users = self.all()
        if any(user.name == name for user in users):
            raise ConfigError(
                f"there is a user {name} already: `edge page user reset {name}` gives a new code"
            )
        if len(users) >= USERS_LIMIT:
            raise ConfigError(f"there are {USERS_LIMIT} users already: remove one first")
        made_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with self._vault.errors("change"), self._vault.transaction() as connection:
            connection.execute(
                "INSERT INTO users (name, role, secret, salt, hash, until_s, made_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, role.value, secret, *_kept(secret, plain), made_at),
            )

    def _write(self, name: str, secret: str, plain: str) -> None:
        with self._vault.errors("change"), self._vault.transaction() as connection:
            connection.execute(
                "UPDATE users SET secret = ?, salt = ?, hash = ?, until_s = ? WHERE name = ?",
                (secret, *_kept(secret, plain), name),
            )
            connection.execute("DELETE FROM sessions WHERE name = ?", (name,))
            connection.execute("DELETE FROM tries WHERE name = ?", (name,))


def require_name(name: str) -> None:
    """Raises: ConfigError if nobody may be called so."""
    if NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!a} cannot be a user's name: letters, digits, . _ - (at most 32, a letter"
            " or digit first)"
        )


def delay_s(wrong: int) -> float:
    """Seconds to wait after this many wrong tries in a row."""
    doublings = wrong - FREE_TRIES - 1
    return 0.0 if doublings < 0 else min(FIRST_DELAY_S * 2.0 ** min(doublings, 30), LONGEST_DELAY_S)


def _kept(secret: str, plain: str) -> tuple[bytes, bytes, float | None]:
    """Salt, hash and end of a secret."""
    if secret == "token":
        return b"", token_hash(plain), None
    salt = new_salt()
    return salt, hash_of(plain, salt), time.time() + CODE_S if secret == "code" else None


def _is_in_time(until_s: float | None) -> bool:
    return until_s is None or until_s - CODE_S - 60 <= time.time() <= until_s


def _user(row: tuple[Any, ...]) -> User:
    return User(str(row[0]), Role(row[1]), str(row[2]), str(row[3]))
