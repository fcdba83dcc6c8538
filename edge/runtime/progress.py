"""What shows that the station gets on with its work; edge/runtime/capture.py says what that is."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Steps:
    """Since the start. last_s: when the last one was made, on the monotonic clock."""

    count: int
    last_s: float


class Progress:
    """Counts steps; made by the engine thread and the one that starts cameras, read by the main
    loop. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps = Steps(0, time.monotonic())

    def step(self) -> None:
        """One more."""
        with self._lock:
            self._steps = Steps(self._steps.count + 1, time.monotonic())

    @property
    def steps(self) -> Steps:
        """Count and time, of the same moment."""
        with self._lock:
            return self._steps
