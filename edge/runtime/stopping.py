"""SIGTERM and SIGINT: asked once to stop, the station stops in good order; asked again, at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Remembers the first signal for a main loop that looks; the second ends the process on the
    spot.

    The handler does nothing else. It runs in the main thread between any two instructions, also
    while that thread holds the lock of an event or of the log, and would wait for itself for ever
    if it took one.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def install(self) -> None:
        """From now to the end of the process: a process that is about to end with 0 must not die of
        a late signal.

        Only in the main thread, where Python allows it; elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            signal.signal(number, self._handle)
        signal.pthread_sigmask(
            signal.SIG_UNBLOCK, SIGNALS
        )  # edge/__main__.py held them back until here

    @property
    def name(self) -> str:
        """Of the signal that came; "" if none did."""
        return "" if self.number is None else signal.Signals(self.number).name

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.number is not None:
            os._exit(128 + number)  # as a shell reports a process that this signal ended
        self.number = number
