"""From the camera's thread to the engine's: the newest frame, never a queue of stale ones."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from edge.errors import CameraError
from edge.types import Frame


@dataclass(frozen=True)
class Lost:
    """The camera stopped delivering, or delivers something else than it was set to."""

    error: CameraError


@dataclass(frozen=True)
class Ended:
    """The source has played its last frame."""


Item = Frame | Lost | Ended


class Mailbox:
    """The newest frame, and between frames what happened to the camera, in order. Thread-safe.

    lossless: a frame waits until the one before it is taken, for files that must be judged one by
    one.
    """

    def __init__(self, lossless: bool = False) -> None:
        self._lossless = lossless
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        # frames that were replaced by newer ones before the engine could take them
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Leave a frame or an event.

        A frame replaces one that was not taken, unless lossless: then this waits.
        """
        with self._changed:
            if self._lossless:
                self._changed.wait_for(lambda: not self._items or self._closed)
            elif isinstance(item, Frame) and self._items and isinstance(self._items[-1], Frame):
                self._items.pop()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

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
