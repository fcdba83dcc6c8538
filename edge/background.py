"""Threads beside the work: a call that may block for minutes or for ever, and work that is done
again and again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_background(name: str, function: Callable[[], Result]) -> Future[Result]:
    """Begin `function()` in a daemon thread of that name: one that never returns ends with the
    process.

    The future gets what it returns or raises; it cannot be cancelled.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        # carried to the caller's thread, whatever it is
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def keep_running(
    log: logging.Logger, work: Callable[[], None], stopping: threading.Event, pause_s: float = 1.0
) -> None:
    """`work()` until it returns: a bug in it is told with its traceback, once, and it begins again
    after pause_s.

    For a thread that nobody would miss at once: without it the station would go on and something
    would never come back.
    """
    said: set[str] = set()
    while not stopping.is_set():
        try:
            work()
            return
        except Exception as error:  # whatever it is, the thread must not end of it
            if repr(error) not in said:
                log.exception(
                    "thread %s broke and goes on: report this", threading.current_thread().name
                )
            said.add(repr(error))
            stopping.wait(pause_s)


class Repeated:
    """A daemon thread that does `work` again and again until it is stopped, whatever bug is in it:
    keep_running.

    stopping: set when it is asked to end, so that a long `work` can look.
    """

    def __init__(
        self, name: str, log: logging.Logger, work: Callable[[], None], every_s: float
    ) -> None:
        """Nothing is done before start()."""
        self.stopping = threading.Event()
        self._log, self._work, self._every_s = log, work, every_s
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Do it now, and every_s after each end of it."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End it after what it is at; waits at most for timeout_s."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        keep_running(self._log, self._again_and_again, self.stopping, self._every_s)

    def _again_and_again(self) -> None:
        while not self.stopping.is_set():
            self._work()
            self.stopping.wait(self._every_s)
