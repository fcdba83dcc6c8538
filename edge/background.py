"""A call in a thread of its own, for what may block for minutes or for ever."""

from __future__ import annotations

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
