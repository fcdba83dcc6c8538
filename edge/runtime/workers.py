"""The threads that every frame passes through: none of them goes on without the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from edge.errors import EdgeError

BROKEN = "a thread of `edge run` broke: the traceback above says where. Report it"


class Workers:
    """Daemon threads, one for each work. The first that ends, ends the run; so does one that fails.

    Belongs to the main thread. What the workers write is the first failure, under a lock.
    """

    def __init__(self, works: Mapping[str, Callable[[], None]], stopping: threading.Event) -> None:
        """Nothing runs before start().

        works: by the name of the thread. stopping: once it is set, a work is expected to end.
        """
        self._stopping, self._ended = stopping, threading.Event()
        self._lock = threading.Lock()
        self._failure: EdgeError | None = None
        self._threads = {
            name: threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for name, work in works.items()
        }

    @property
    def failure(self) -> EdgeError | None:
        """Why the first that failed did: what the operator can act on, or that it is a bug."""
        with self._lock:
            return self._failure

    def start(self) -> None:
        """Start all of them."""
        for thread in self._threads.values():
            thread.start()

    def wait_ended(self, timeout_s: float) -> bool:
        """Wait until one has ended without being asked to; False if none did in time."""
        return self._ended.wait(timeout_s)

    def join(self, name: str, until_s: float) -> bool:
        """Wait for one until the monotonic clock shows until_s; False if it is still at work."""
        thread = self._threads[name]
        thread.join(max(0.0, until_s - time.monotonic()))
        return not thread.is_alive()

    def is_alive(self, name: str) -> bool:
        """Whether it is still at work."""
        return self._threads[name].is_alive()

    def _guard(self, work: Callable[[], None]) -> None:
        """An operator's error is kept for the caller; a bug shows its traceback."""
        failure: EdgeError | None = EdgeError(BROKEN)
        try:
            work()
            failure = None
        except EdgeError as error:
            failure = error
        finally:
            with self._lock:
                self._failure = self._failure or failure
            if not self._stopping.is_set():
                self._ended.set()
