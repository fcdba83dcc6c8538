"""Messages that were sent and have not come back yet. The station subscribes to its own topics, so
that the broker delivers to it what it delivers to the PLC.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False)
class Echo:
    """One message on its way. due_mono_s: from when on it is late.

    done: called once, with whether the message came back.
    """

    topic: str
    payload: bytes
    due_mono_s: float
    done: Callable[[bool], None]
    sent_mono_s: float = field(default_factory=time.monotonic)


class Echoes:
    """The messages of one connection that have not come back.

    Thread-safe; `done` is called outside the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._out: dict[tuple[str, bytes], Echo] = {}
        self._is_closed = False
        self.back: dict[str, float] = {}  # topic -> when the newest that came back had been sent
        self.slowest_s = 0.0  # of the latest round trips; earlier ones count less and less

    def expect(self, echo: Echo) -> None:
        """To be called before the message is sent, since it may be back at once."""
        with self._lock:
            if not self._is_closed:
                self._out[echo.topic, echo.payload] = echo
                return
        echo.done(False)

    def forget(self, echo: Echo) -> None:
        """The message was not sent after all; `done` is not called."""
        with self._lock:
            self._out.pop((echo.topic, echo.payload), None)

    def note(self, topic: str, payload: bytes) -> bool:
        """A message arrived; returns whether it was expected.

        Earlier ones on the same topic are lost: a broker keeps the order of a topic.
        """
        with self._lock:
            echo = self._out.pop((topic, payload), None)
            if echo is None:
                return False
            lost = [
                one
                for one in self._out.values()
                if one.topic == topic and one.sent_mono_s < echo.sent_mono_s
            ]
            for one in lost:
                del self._out[one.topic, one.payload]
            self.back[topic] = max(echo.sent_mono_s, self.back.get(topic, 0.0))
            self.slowest_s = max(0.8 * self.slowest_s, time.monotonic() - echo.sent_mono_s)
        echo.done(True)
        for one in lost:
            one.done(False)
        return True

    @property
    def is_unheard(self) -> bool:
        """Whether messages are on their way and none has ever come back."""
        return bool(self._out) and not self.back

    def oldest_age_s(self) -> float:
        """For how long the oldest one has been on its way; 0 if all came back."""
        with self._lock:
            return max(
                (time.monotonic() - echo.sent_mono_s for echo in self._out.values()), default=0.0
            )

    def silent_s(self) -> float:
        """For how long nothing has come back, beyond the usual round trip; 0 on a connection on
        which nothing came back yet.
        """
        with self._lock:
            oldest_s = min((echo.sent_mono_s for echo in self._out.values()), default=math.inf)
            if not self.back or max(self.back.values()) >= oldest_s:
                return 0.0
            return max(0.0, time.monotonic() - oldest_s - self.slowest_s)

    def overdue(self, besides: str) -> Echo | None:
        """One that is late, on any topic but `besides`; None if there is none."""
        now_s = time.monotonic()
        with self._lock:
            late = (
                echo
                for echo in self._out.values()
                if echo.due_mono_s < now_s and echo.topic != besides
            )
            return next(late, None)

    def close(self) -> None:
        """The connection has ended: what is on its way will not come back."""
        with self._lock:
            self._is_closed = True
            lost = list(self._out.values())
            self._out.clear()
        for echo in lost:
            echo.done(False)
