"""Whether parts are judged: not while the station is paused, nor while a command is at work that
changes what judges, nor while parts are shown to a calibration.

Frames are still judged, so that the state is true; they only belong to no part. Triggers are
refused, because `ready` is false; but those that come in a session tell the parts apart that are
shown (edge/runtime/triggering.py).
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
    commands and those of the socket's clients call the methods.

    is_asked_for: by the command `pause`, until `resume`. is_session: parts are shown to a
    calibration.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self.deciding = threading.Lock()
        self.is_asked_for = self.is_session = self._is_at_work = False

    @property
    def is_on(self) -> bool:
        """Whether no part is judged."""
        return self.is_asked_for or self.is_session or self._is_at_work

    def begin(self, is_between_parts: Callable[[], bool]) -> bool:
        """A command is at work: judge no more parts from now on; False, with nothing changed, if
        one is open, or parts are shown to a calibration.
        """
        if self.is_session or not is_between_parts():
            return False
        self._explain(AT_WORK)
        self._health.note_pause(True)  # from here on no trigger is accepted
        with self.deciding:
            is_free = is_between_parts() or self.is_asked_for
            self._is_at_work = is_free and not self.is_session
        if not self._is_at_work:
            self._health.note_pause(self.is_asked_for)
        return self._is_at_work

    def _explain(self, why: str) -> None:
        self._health.explain(Reason.PAUSED, why)

    def end(self) -> None:
        """The command is done: judge parts again, unless `pause` was asked for."""
        with self.deciding:
            self._is_at_work = False
        self._explain(ASKED_FOR)
        self._health.note_pause(self.is_asked_for)

    def begin_session(self, is_between_parts: Callable[[], bool], why: str) -> bool:
        """Show parts to a calibration from now on; False, with nothing changed, if one is open.

        A command may be at work: it may be the one that calibrates. why: for `edge status`.
        """
        if not is_between_parts():
            return False
        self._health.explain(Reason.CALIBRATING, why)
        self._health.note_calibrating(True)  # from here on no trigger is judged
        with self.deciding:
            self.is_session = is_between_parts()
        if not self.is_session:
            self._health.note_calibrating(False)
        return self.is_session

    def end_session(self) -> None:
        """The calibration is over."""
        with self.deciding:
            self.is_session = False
        self._health.note_calibrating(False)
