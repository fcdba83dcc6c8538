"""Client identifiers, different for different stations, and the watch for a second station of the
same name.

MQTT 3.1.1, section 3.1.3.1: a server must take 1 to 23 characters of 0-9, a-z, A-Z, and may take
more and others.
"""

from __future__ import annotations

import hashlib
import string
import time
from collections.abc import Callable

from edge.line.message import is_foreign

ALPHABET = string.digits + string.ascii_letters
SHORT_LENGTH = 23
APART_S, MEMORY_S = 0.9, 60.0


def client_id(prefix: str, role: str) -> str:
    """E.g. edge:site:line:station:record of the topic prefix edge/site/line/station.

    No name in a prefix can contain a colon (edge/sections.py), so different prefixes have different
    identifiers. A slash would not do: mosquitto denies topics by pattern to identifiers that
    contain one.
    """
    return ":".join((*prefix.split("/"), role))


def short_id(identifier: str) -> str:
    """23 characters that every broker must take, from the SHA-256 of the readable identifier."""
    number = int.from_bytes(hashlib.sha256(identifier.encode()).digest(), "big")
    digits = []
    for _ in range(SHORT_LENGTH - len("edge")):
        number, digit = divmod(number, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "edge" + "".join(digits)


class TwinWatch:
    """Listens on a station's own topics for another process that uses its name.

    A broker disconnects the first of two clients with one identifier, and not every broker gives
    the reason. But each station has two clients, and of two stations with one name each may have
    one of them connected: then it receives messages with the mark of another process. One such
    message is not enough: a process that was just restarted may receive what the process before it
    sent.
    """

    def __init__(self, run: str, found: Callable[[], None]) -> None:
        """run: the mark of this process.

        found: called, in the library's thread, at each sign of a twin.
        """
        self._run, self._found = run, found
        self._first_s: float | None = None

    def hear(self, _: str, payload: bytes) -> None:
        """A message on one of the station's own topics, not retained, that this client has not
        sent.
        """
        if not is_foreign(payload, self._run):
            return
        now_s = time.monotonic()
        if self._first_s is None or now_s - self._first_s > MEMORY_S:
            self._first_s = now_s
        elif now_s - self._first_s > APART_S:
            self._found()
