"""Whether the primary host application is there, by its STATE messages (Sparkplug 3.0.0, sections
4.3 and 5.4).
"""

from __future__ import annotations

import json
import threading
from typing import Any

STATE_LIMIT_BYTES = 1024
TIME_LIMIT = 1 << 63


class PrimaryHost:
    """One host application, by its identifier; without one there is nobody to wait for.

    Thread-safe. departures: how many times it went offline. ignored: messages on its topic that are
    not STATE messages.
    """

    def __init__(self, host_id: str) -> None:
        self.host_id, self.ignored, self.departures = host_id, 0, 0
        self._lock = threading.Lock()
        self._is_online = False
        self._newest_ms: int | None = None  # of the STATE messages that counted
        self._online_ms: int | None = None  # of those of them that said online

    @property
    def topic(self) -> str | None:
        """Where its STATE messages come; None without one."""
        return f"spBv1.0/STATE/{self.host_id}" if self.host_id else None

    @property
    def is_online(self) -> bool:
        """Whether births and data may be published."""
        return self._is_online or not self.host_id

    def forget(self) -> None:
        """Another connection begins: its STATE has to come again. Older times stay known."""
        with self._lock:
            self._is_online = False

    def hear(self, payload: bytes) -> None:
        """A message on its topic. One that is older than what is known already does not count: a
        late last will of an earlier session of the host.
        """
        with self._lock:
            said = _read(payload)
            if said is None:
                self.ignored += 1
                return
            is_online, at_ms = said
            known_ms = self._newest_ms if is_online else self._online_ms
            if known_ms is not None and at_ms < known_ms:
                return
            self.departures += self._is_online and not is_online
            self._is_online = is_online
            self._newest_ms = max(at_ms, self._newest_ms or 0)
            if is_online:
                self._online_ms = at_ms


def _read(payload: bytes) -> tuple[bool, int] | None:
    """(online, timestamp); None if it is no STATE message."""
    if len(payload) > STATE_LIMIT_BYTES:
        return None
    try:
        said: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    is_online, at_ms = said.get("online"), said.get("timestamp")
    if not isinstance(is_online, bool) or isinstance(at_ms, bool) or not isinstance(at_ms, int):
        return None
    return (is_online, at_ms) if 0 <= at_ms < TIME_LIMIT else None
