"""The decision thread: judged frames and what happens to the camera, in order, to parts."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge.errors import CameraMismatch
from edge.runtime.active import ActiveBundle
from edge.runtime.current import CurrentBundle
from edge.runtime.health import Health
from edge.runtime.mailbox import Ended, Lost
from edge.runtime.parts import JudgedFrame
from edge.runtime.pause import Pause
from edge.types import Reason

PASS_S = 0.1  # between two looks whether the station stops
QUEUE_LIMIT = 8  # judged frames that may wait for the disk


class Parts(Protocol):
    """What makes parts of judged frames: edge/runtime/parts.py in free run,
    edge/runtime/triggered_parts.py by trigger. Used by the decision thread alone, except
    `is_between_parts`.
    """

    @property
    def is_between_parts(self) -> bool:
        """Whether another bundle may take effect now. May be asked by any thread."""
        ...

    def feed(self, judged: JudgedFrame) -> None:
        """Take the next frame."""
        ...

    def look(self) -> None:
        """No frame came for a while: decide what waits for nothing but time."""
        ...

    def lose(self, last: JudgedFrame, reason: Reason) -> None:
        """The camera was lost; `last` was its last frame."""
        ...

    def refuse(self, active: ActiveBundle, reason: Reason) -> None:
        """The camera gives no frame that could be judged."""
        ...

    def finish(self) -> None:
        """The source has ended: open parts are complete."""
        ...

    def show(self, judged: JudgedFrame) -> None:
        """Take a frame while parts are shown to a calibration: none is decided."""
        ...

    def begin_anew(self) -> None:
        """No part is open, and frames were passed over: what is in view now is not judged."""
        ...


@dataclass(frozen=True)
class Look:
    """Something has changed that may complete a part without another frame."""


Item = JudgedFrame | Lost | Ended | Look


class Deciding:
    """What the decision thread does, and the queue through which the engine thread feeds it."""

    def __init__(
        self,
        parts: Parts,
        current: CurrentBundle,
        health: Health,
        stopping: threading.Event,
        max_parts: int | None = None,
        pause: Pause | None = None,
        watch: Callable[[JudgedFrame], None] = lambda _: None,
        show: Callable[[JudgedFrame], None] = lambda _: None,
    ) -> None:
        """max_parts: end after this many; None: after the source's end, or when stopped. pause:
        during which no part is decided; None: never. watch: is given each frame, show: each one in
        a session, in which parts are shown to a calibration; neither waits.
        """
        self._watch, self._show = watch, show
        self._parts, self._current, self._health = parts, current, health
        self._stopping, self._max_parts = stopping, max_parts
        self._queue: queue.Queue[Item] = queue.Queue(QUEUE_LIMIT)
        self._last: JudgedFrame | None = None
        self._pause, self._was_paused = pause or Pause(health), False
        self._mismatch_is_told = False  # to the line: once, until a frame comes through

    def put(self, item: Item) -> None:
        """Hand over the next item. Waits while the queue is full, so that a slow disk shows as
        dropped frames and not as stale ones. For the engine thread.
        """
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=PASS_S)
                return
            except queue.Full:
                continue

    def poke(self) -> None:
        """Let the decision thread look at its parts now. For any thread; waits for nothing: where
        the queue is full, the thread looks at them soon.
        """
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(Look())

    def is_between_parts(self, timeout_s: float) -> bool:
        """Wait until every item was dealt with; whether no part is open then. False if it took
        longer. For the engine thread: while it asks, it puts nothing.
        """
        end_s = time.monotonic() + timeout_s
        while self._queue.unfinished_tasks:
            if time.monotonic() > end_s:
                return False
            time.sleep(0.001)
        return self._parts.is_between_parts

    def run(self) -> None:
        """Until the source has ended, max_parts were decided or the station stops."""
        while not self._stopping.is_set():
            try:
                item = self._queue.get(timeout=PASS_S)
            except queue.Empty:
                self._parts.look()
                continue
            if isinstance(item, Ended):
                self._parts.finish()
                return
            if isinstance(item, Lost):
                self._lose(item)
            elif isinstance(item, Look):
                self._parts.look()
            else:
                self._health.note_frame(item.judgment)
                self._watch(item)
                self._feed(item)
                self._last, self._mismatch_is_told = item, False
            self._queue.task_done()
            if self._max_parts is not None and self._health.parts >= self._max_parts:
                return

    def _feed(self, frame: JudgedFrame) -> None:
        with self._pause.deciding:
            if self._pause.is_session:
                self._show(frame)
                self._parts.show(frame)
            elif not self._pause.is_on:
                if self._was_paused:
                    self._parts.begin_anew()
                self._parts.feed(frame)
            self._was_paused = self._pause.is_on

    def _lose(self, lost: Lost) -> None:
        mismatch = isinstance(lost.error, CameraMismatch)
        reason = Reason.CAMERA_MISMATCH if mismatch else Reason.CAMERA_LOST
        self._health.explain(reason, str(lost.error))
        self._health.note_lost(reason)
        with self._pause.deciding:
            if not self._pause.is_on:
                self._lose_parts(reason, mismatch)

    def _lose_parts(self, reason: Reason, mismatch: bool) -> None:
        if mismatch and not self._mismatch_is_told:
            self._parts.refuse(self._current.get(), reason)
            self._mismatch_is_told = True
        elif self._last is not None:
            self._parts.lose(self._last, reason)
