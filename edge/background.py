"""Background threads: for a call that may block for minutes or forever, and for repeated work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_background(name: str, function: Callable[[], Result]) -> Future[Result]:
    """Start `function()` in a daemon thread of that name: a call that never returns does not keep
    the process alive.

    The future gets the function's result or exception; it cannot be canceled.
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
    """Call `work()` until it returns without an exception; after one, again in pause_s.

    The same exception is logged with its traceback only the first time. For a thread without which
    the station would silently go on incomplete, for example never connect to the broker again.
    """
    said: set[str] = set()
    while not stopping.is_set():
        try:
            work()
            return
        except Exception as error:  # no exception may end the thread
            if repr(error) not in said:
                log.exception(
                    "thread %s failed and starts again: report this",
                    threading.current_thread().name,
                )
            said.add(repr(error))
            stopping.wait(pause_s)


class Repeated:
    """A daemon thread that repeats `work` until it is stopped, also after exceptions
    (keep_running).

    stopping: set by stop(), so that a long `work` can check it.
    """

    def __init__(
        self, name: str, log: logging.Logger, work: Callable[[], None], every_s: float
    ) -> None:
        """Nothing is done before start()."""
        self.stopping = threading.Event()
        self._log, self._work, self._every_s = log, work, every_s
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Do the work now, and again every_s after it has ended."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread after the work in progress, for which this waits at most timeout_s."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        keep_running(self._log, self._repeat, self.stopping, self._every_s)

    def _repeat(self) -> None:
        while not self.stopping.is_set():
            self._work()
            self.stopping.wait(self._every_s)
