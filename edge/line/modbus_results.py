"""Which verdict the Modbus registers show, how long it may be acted on, and which ones wait. Pure.

A verdict is valid from the moment it is shown until its acknowledgment or its deadline, whichever
comes first: a PLC that reads later finds words that it must not act on. Unless the PLC asks for
them one by one, the newest is shown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.line.modbus_map import WORD_LIMIT

ROOM = 16  # verdicts that may wait behind the one that is shown, as over MQTT


@dataclass
class Shown:
    """One verdict. fields: of its record. completed_ns: from then on its `ms` counts. is_kept: it
    stays until its acknowledgment or its deadline, even if there is a newer one.
    """

    fields: Mapping[str, Any]
    deadline_ns: int
    completed_ns: int
    was_read: bool = False
    is_kept: bool = False


@dataclass
class ResultCounts:
    """read: verdicts that a client has read while they were valid. unread: those that none has.
    overrun: not acknowledged in time by a PLC that acknowledges.
    """

    read: int = 0
    unread: int = 0
    overrun: int = 0


class Results:
    """The verdict that is shown and those behind it. Not thread-safe: edge/line/modbus_board.py has
    the lock.

    number: of the one that is shown, 1 to 65,535 and round; it changes with each that is shown.
    current: None once it is acknowledged or its deadline has passed.
    """

    def __init__(self, first: int) -> None:
        """first: the number of the first verdict: another one after each start, so that an
        acknowledgment that the PLC repeats from before is not taken for one of it.
        """
        self.number = (first - 2) % WORD_LIMIT + 1
        self.counts = ResultCounts()
        self.current: Shown | None = None
        self._waiting: deque[Shown] = deque()
        self._acknowledges = False  # whether the PLC has ever done it

    @property
    def is_drained(self) -> bool:
        """Whether every verdict was read, or is over."""
        return not self._waiting and (self.current is None or self.current.was_read)

    def add(self, shown: Shown, one_by_one: bool, now_ns: int) -> Shown | None:
        """A verdict was given. Returns what is shown from now on, None if nothing changes."""
        self.expire(now_ns)
        shown.is_kept = one_by_one
        if not one_by_one:
            self._replace(shown)
            return self._show(shown)
        if self.current is not None and not self.current.is_kept:  # the mode has changed
            self._replace(shown)
        self._acknowledges = True
        if any(one.fields["seq"] == shown.fields["seq"] for one in self._all()):
            return None  # the answer to a repeated trigger, which waits to be read already
        if self.current is None and not self._waiting:
            return self._show(shown)
        self._waiting.append(shown)
        if len(self._waiting) > ROOM:
            self._leave(self._waiting.popleft(), lost=True)
        return None

    def acknowledge(self, number: int) -> None:
        """The PLC has taken the verdict of this number; any other number says nothing."""
        if self.current is None or number != self.number:
            return
        self._acknowledges = True
        self.note_read()
        self.current = None

    def expire(self, now_ns: int) -> None:
        """The deadline of what is shown may have passed."""
        current = self.current
        if current is not None and now_ns >= current.deadline_ns:
            self._leave(current, lost=self._acknowledges)
            self.current = None

    def next(self, now_ns: int) -> Shown | None:
        """What is shown from now on, where nothing is; None if nothing waits.

        One whose deadline has passed meanwhile is not shown: the PLC's timer has rejected the part.
        """
        while self.current is None and self._waiting:
            one = self._waiting.popleft()
            if now_ns < one.deadline_ns:
                return self._show(one)
            self._leave(one, lost=True)
        return None

    def note_read(self) -> None:
        """A client has read what is shown."""
        if self.current is not None and not self.current.was_read:
            self.current.was_read = True
            self.counts.read += 1

    def _all(self) -> list[Shown]:
        return [*([] if self.current is None else [self.current]), *self._waiting]

    def _show(self, shown: Shown) -> Shown:
        self.number = self.number % WORD_LIMIT + 1
        self.current = shown
        return shown

    def _replace(self, shown: Shown) -> None:
        """What was given before `shown` is over, unless it is the same verdict."""
        for one in self._all():
            if one.fields["seq"] != shown.fields["seq"]:
                self._leave(one, lost=self._acknowledges)
        self._waiting.clear()
        self.current = None

    def _leave(self, shown: Shown, lost: bool) -> None:
        """It is valid no longer. lost: without the acknowledgment of a PLC that acknowledges."""
        self.counts.overrun += lost
        self.counts.unread += not shown.was_read
