"""A call in a thread of its own, for what may block for minutes or for ever."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_background(name: str, function: Callable[[], Result]) -> Future[Result]:
    """Begin `function()` in a daemon thread of that name: one that never returns ends with the process.

    The future gets what it returns or raises; it cannot be cancelled.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001  carried to the caller's thread, whatever it is
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def keep_running(
    log: logging.Logger, work: Callable[[], None], stopping: threading.Event, pause_s: float = 1.0
) -> None:
    """`work()` until it returns: a bug in it is told with its traceback, once, and it begins again after pause_s.

    For a thread that nobody would miss at once: without it the station would go on and something would never come back.
    """
    said: set[str] = set()
    while not stopping.is_set():
        try:
            work()
            return
        except Exception as error:  # whatever it is, the thread must not end of it
            if repr(error) not in said:
                log.exception("thread %s broke and goes on: report this", threading.current_thread().name)
            said.add(repr(error))
            stopping.wait(pause_s)
