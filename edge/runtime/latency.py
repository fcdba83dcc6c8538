"""How long each stage of judging takes: bounded samples per stage, for the last line of the log and
for the state message.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

SAMPLES = 1000  # of the newest of each stage
# wait: of a frame, from its capture to the engine. engine: of a frame, through the graph and the
# rule. commit, publish: of a part.
STAGES = ("wait", "engine", "commit", "publish")


class StageTimes:
    """The newest samples of every stage, milliseconds. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: dict[str, deque[float]] = {stage: deque(maxlen=SAMPLES) for stage in STAGES}

    def note(self, stage: str, duration_ms: float) -> None:
        """One more sample."""
        with self._lock:
            self._samples[stage].append(duration_ms)

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Measure the body."""
        start_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self.note(stage, (time.monotonic_ns() - start_ns) / 1e6)

    def medians(self) -> dict[str, float]:
        """Median of every stage that has samples, milliseconds to two decimals."""
        with self._lock:
            return {
                stage: round(statistics.median(kept), 2)
                for stage, kept in self._samples.items()
                if kept
            }
