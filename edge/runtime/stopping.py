"""SIGTERM and SIGINT: asked once to stop, the station stops in good order; asked again, at once."""

from __future__ import annotations

import logging
import os
import signal
import threading
from types import FrameType

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Remembers the first signal for a main loop that looks; the second ends the process on the
    spot.

    The handler does nothing else. It runs in the main thread between any two instructions, also
    while that thread has the lock of an event or of the log: a handler that took one would wait for
    itself forever.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def install(self) -> None:
        """Remember signals from now to the end of the process: one that is about to end with 0 must
        not die of a late signal.

        Only in the main thread, where Python allows it; elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            signal.signal(number, self._handle)
        # edge/__main__.py has blocked them until here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    @property
    def name(self) -> str:
        """Name of the signal that came; "" if none did."""
        return "" if self.number is None else signal.Signals(self.number).name

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.number is not None:
            os._exit(128 + number)  # as a shell reports a process that this signal ended
        self.number = number


class StopRequest:
    """Whether a run is asked to stop, by a signal or by a call.

    event: what every thread looks at and waits for. A handler of a signal must not set it, so the
    main loop does, in `is_asked`.
    """

    def __init__(self, signals: StopSignals | None = None) -> None:
        self._signals = signals or StopSignals()
        self.event = threading.Event()

    def is_asked(self) -> bool:
        """For the main loop; passes a signal that has come on to the other threads."""
        if self._signals.number is not None and not self.event.is_set():
            log.info("%s: stopping", self._signals.name)
            self.event.set()
        return self.event.is_set()
