"""Which bundle judges now, and which one is to judge next: shared by all threads."""

from __future__ import annotations

import threading

from edge.engine.protocol import Engine
from edge.runtime.active import ActiveBundle


class CurrentBundle:
    """One reference to what judges, and one to what waits to take its place. Thread-safe.

    The main loop offers (edge/runtime/changes.py). The engine thread takes, between two parts.
    Every other thread only reads: capture for the camera contract, decision for a part without a
    frame, line and status for what they report. Each of them gets one whole ActiveBundle, which
    never changes, and must not expect the next read to give the same one.
    """

    def __init__(self, first: ActiveBundle) -> None:
        """first: judges until something is taken."""
        self._lock = threading.Lock()
        self._judging = first
        self._waiting: ActiveBundle | None = None

    def get(self) -> ActiveBundle:
        """What judges at this moment."""
        with self._lock:
            return self._judging

    @property
    def is_waited_for(self) -> bool:
        """Whether another one waits to be taken."""
        with self._lock:
            return self._waiting is not None

    @property
    def latest(self) -> ActiveBundle:
        """What waits or, where nothing does, what judges."""
        with self._lock:
            return self._waiting or self._judging

    def take(self) -> ActiveBundle:
        """Let what waits judge from now on; nothing changes where nothing waits. Returns what
        judged before.

        Only the engine thread calls this.
        """
        with self._lock:
            before = self._judging
            self._judging, self._waiting = self._waiting or before, None
            return before

    def offer(self, new: ActiveBundle) -> Engine | None:
        """Let `new` wait; returns the engine of what waited before, where nobody needs it any more.

        Only the main loop calls this.
        """
        with self._lock:
            overtaken, self._waiting = self._waiting, new
            needed = (self._judging.engine, new.engine)
        if overtaken is None or any(overtaken.engine is engine for engine in needed):
            return None
        return overtaken.engine
