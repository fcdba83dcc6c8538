"""Whether parts are judged: not while the station is paused, nor while a command is at work that
changes what judges.

Frames are still judged, so that the state is true; they only belong to no part. Triggers are
refused, because `ready` is false.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge.runtime.health import Health
from edge.types import Reason

AT_WORK = "a command is at work"
ASKED_FOR = "by the command `pause`, until `resume` or a restart"


class Pause:
    """Thread-safe. The decision thread holds `deciding` while it takes a frame; the thread of the
    commands calls the methods.

    is_on: no part is judged. is_asked_for: by the command `pause`, until `resume`.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self.deciding = threading.Lock()
        self.is_on = self.is_asked_for = False

    def begin(self, is_between_parts: Callable[[], bool]) -> bool:
        """Judge no more parts from now on; False, with nothing changed, if one is open."""
        if not is_between_parts():
            return False
        self._explain(AT_WORK)
        self._health.note_pause(True)  # from here on no trigger is accepted
        with self.deciding:
            self.is_on = is_between_parts() or self.is_on
        if not self.is_on:
            self._health.note_pause(False)
        return self.is_on

    def _explain(self, why: str) -> None:
        self._health.explain(Reason.PAUSED, why)

    def end(self) -> None:
        """Judge parts again, unless `pause` was asked for."""
        with self.deciding:
            self.is_on = self.is_asked_for
        self._explain(ASKED_FOR)
        self._health.note_pause(self.is_on)
