"""Background threads: one for a call that may block for minutes or forever, one for work that is
repeated.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_background(name: str, function: Callable[[], Result]) -> Future[Result]:
    """Begin `function()` in a daemon thread of that name, so that a call that never returns ends
    with the process.

    The future gets what the function returns or raises; it cannot be canceled.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        # every exception is carried to the caller's thread
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def keep_running(
    log: logging.Logger, work: Callable[[], None], stopping: threading.Event, pause_s: float = 1.0
) -> None:
    """Call `work()` until it returns. An exception from it is logged with its traceback, once, and
    `work()` is called again after pause_s.

    For a thread whose end nobody would notice at once: the station would go on without it, for
    example without ever connecting again.
    """
    said: set[str] = set()
    while not stopping.is_set():
        try:
            work()
            return
        except Exception as error:  # no exception may end the thread
            if repr(error) not in said:
                log.exception(
                    "thread %s failed and begins again: report this",
                    threading.current_thread().name,
                )
            said.add(repr(error))
            stopping.wait(pause_s)


class Repeated:
    """A daemon thread that repeats `work` until it is stopped, and goes on after an exception
    (keep_running).

    stopping: set when the thread is asked to end, so that a long `work` can check it.
    """

    def __init__(
        self, name: str, log: logging.Logger, work: Callable[[], None], every_s: float
    ) -> None:
        """Nothing is done before start()."""
        self.stopping = threading.Event()
        self._log, self._work, self._every_s = log, work, every_s
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Do the work now, and again every_s after each time it has ended."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread after the work in progress; waits for that at most timeout_s."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        keep_running(self._log, self._repeat, self.stopping, self._every_s)

    def _repeat(self) -> None:
        while not self.stopping.is_set():
            self._work()
            self.stopping.wait(self._every_s)
