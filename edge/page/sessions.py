"""Who is logged in. A session is a random id in a cookie; only its hash is kept, with times that
count from the boot, so that a clock that jumps ends none and prolongs none.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from edge.clock import boot_time_s, read_boot_id
from edge.database import Database
from edge.page.roles import Role

IDLE_S = 12 * 3600.0  # without a request a session ends
RESTS_S = 15 * 60.0  # and what is above `look` asks for the password again
PROVED_S = 5 * 60.0  # a dangerous act needs the password this recently
LONGEST_S = 30 * 86_400.0
TOUCH_S = 20.0  # a session's last use is written at most this often
PER_USER = 20  # sessions; the oldest ends


@dataclass(frozen=True)
class Caller:
    """Who has sent a request.

    key: hash of the session's id, empty for a program with a token. rests: nothing was done for
    RESTS_S. is_proved: the password was given less than PROVED_S ago. must_choose: logged in with
    a code, without a password so far.
    """

    name: str
    role: Role
    key: bytes = b""
    rests: bool = False
    is_proved: bool = False
    must_choose: bool = False

    def may(self, role: Role) -> bool:
        """Whether the role suffices; whether it rests is another question."""
        return self.role.includes(role)


class Sessions:
    """The sessions in page.sqlite. Thread-safe."""

    def __init__(self, vault: Database, now_s: Callable[[], float] = boot_time_s) -> None:
        """now_s: seconds since the boot."""
        self._vault, self._now_s, self._boot = vault, now_s, read_boot_id()

    def begin(self, name: str) -> str:
        """A new session of a user whose secret was just checked; returns its id for the cookie."""
        session, now_s = secrets.token_urlsafe(32), self._now_s()
        with self._vault.errors("change"), self._vault.transaction(durable=False) as connection:
            connection.execute("DELETE FROM sessions WHERE boot != ?", (self._boot,))
            connection.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)",
                (key_of(session), name, self._boot, now_s, now_s, now_s),
            )
            connection.execute(
                "DELETE FROM sessions WHERE name = ? AND key NOT IN (SELECT key FROM sessions"
                " WHERE name = ? ORDER BY seen_s DESC, made_s DESC LIMIT ?)",
                (name, name, PER_USER),
            )
        return session

    def find(self, session: str, is_act: bool) -> Caller | None:
        """Who has this session, None if it has ended.

        is_act: a person did something; a view that renews itself keeps only lookers logged in.
        """
        key, now_s = key_of(session), self._now_s()
        with self._vault.errors("read"):
            row = self._vault.connection().execute(
                "SELECT users.name, role, secret, made_s, seen_s, proved_s FROM sessions"
                " JOIN users ON users.name = sessions.name WHERE key = ? AND boot = ?",
                (key, self._boot),
            ).fetchone()  # fmt: skip
        if row is None:
            return None
        name, role, secret, made_s, seen_s, proved_s = row
        if now_s - seen_s > IDLE_S or now_s - made_s > LONGEST_S:
            self.end(key)
            return None
        rests = now_s - max(seen_s, proved_s) > RESTS_S and role != Role.LOOK.value
        if not rests and (is_act or role == Role.LOOK.value) and now_s - seen_s > TOUCH_S:
            self._write("UPDATE sessions SET seen_s = ? WHERE key = ?", now_s, key)
        is_proved = now_s - proved_s < PROVED_S
        return Caller(name, Role(role), key, rests, is_proved, secret == "code")

    def prove(self, key: bytes) -> None:
        """The user of this session has given the password again."""
        now_s = self._now_s()
        self._write("UPDATE sessions SET seen_s = ?, proved_s = ? WHERE key = ?", now_s, now_s, key)

    def end(self, key: bytes) -> None:
        """Log out."""
        self._write("DELETE FROM sessions WHERE key = ?", key)

    def _write(self, statement: str, *values: object) -> None:
        with self._vault.errors("change"), self._vault.transaction(durable=False) as connection:
            connection.execute(statement, values)


def key_of(session: str) -> bytes:
    """What is kept of a session's id."""
    return hashlib.sha256(session.encode()).digest()
