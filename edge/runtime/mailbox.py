"""From the camera's thread to the engine's: the newest frame, never a queue of stale ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.decide.trigger import Trigger
from edge.errors import CameraError
from edge.types import Frame


@dataclass(frozen=True)
class Lost:
    """The camera stopped delivering, or delivers something else than it was set to."""

    error: CameraError


@dataclass(frozen=True)
class Reopened:
    """The camera was closed in good order and is opened again: its numbers may begin anew."""


@dataclass(frozen=True)
class Ended:
    """The source has played its last frame."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """A frame that a trigger owns. received_ns: when it came from the camera, monotonic clock."""

    frame: Frame
    trigger: Trigger[Any]
    received_ns: int


Item = Frame | Wanted | Lost | Reopened | Ended


class Mailbox:
    """The newest frame, and between frames what happened to the camera, in order. Thread-safe.

    lossless: a frame waits until the one before it is taken, for files that must be judged one by
    one. admit: makes a Wanted of a frame that a trigger owns, which no newer one replaces.
    """

    def __init__(
        self, lossless: bool = False, admit: Callable[[Frame], Frame | Wanted] | None = None
    ) -> None:
        self._lossless, self._admit = lossless, admit
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # frames that were replaced by newer ones before the engine could take them
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Leave a frame or an event.

        A frame replaces one that was not taken, unless lossless: then this waits.
        """
        if self._admit is not None and isinstance(item, Frame):
            item = self._admit(item)
        with self._changed:
            if self._lossless:
                self._changed.wait_for(lambda: not self._items or self._closed)
            elif self._is_replaced_by(item):
                self._items.pop()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def _is_replaced_by(self, item: Item) -> bool:
        """Whether the last item is a frame that nobody owns, and this is a newer one."""
        is_frame = isinstance(item, Frame | Wanted)
        return is_frame and bool(self._items) and isinstance(self._items[-1], Frame)

    def take(self, timeout_s: float) -> Item | None:
        """The oldest item; None if there was none in time, or the mailbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            if self._closed or not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Wake everybody; nothing more is delivered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
