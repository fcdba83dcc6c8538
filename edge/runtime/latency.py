"""How long each stage of a part takes: bounded samples per stage, for the closing line and the
state message.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

SAMPLES = 1000  # of the newest of each stage
STAGES = ("wait", "engine", "commit", "publish")
"""wait: capture to engine. engine: one frame through the graph and the rule.

commit, publish: of one part.
"""


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
