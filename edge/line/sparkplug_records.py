"""Records of the outbox on their way to the host application, as DDATA, in the order of `seq`.

Sparkplug sends data with QoS 0, which nobody acknowledges. So the station subscribes to its own
DDATA: a record counts as sent when the broker has delivered it there. What was made before the
present session is marked historical and sent no faster than BACKLOG_PER_S.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge.backoff import backoff_s
from edge.line.base import LineCounters
from edge.line.consumers import Consumer
from edge.line.echo import Echo
from edge.line.sparkplug_link import now_ms
from edge.line.sparkplug_metrics import device_values, time_of
from edge.line.sparkplug_payload import data
from edge.line.sparkplug_session import Session
from edge.line.tables import Waiting

WINDOW = 64  # records in flight
BACKLOG_PER_S, BURST = 100.0, 20.0
BACK_S = 15.0  # without its echo for this long a record counts as discarded by the broker
REFUSED_S, REFUSED_LIMIT_S = 1.0, 30.0  # between two tries of a record that does not come back
PEEK = 8  # how far from the newest number a record that may be sent is looked for


@dataclass(eq=False)
class _InFlight:
    """One record. is_back: None until it is known."""

    seq: int
    due_s: float
    is_back: bool | None = None


class RecordFlow:
    """The records in flight in one session after the other. For one thread."""

    def __init__(
        self,
        consumer: Consumer,
        last_seq: Callable[[], int],
        counters: LineCounters,
        wake: Callable[[], None],
    ) -> None:
        """last_seq: the newest number of the outbox. wake: called when something came back."""
        self._consumer, self._last_seq = consumer, last_seq
        self._counters, self._wake = counters, wake
        self._flight: deque[_InFlight] = deque()
        self._after = self._shown = 0
        self._is_live = False
        self._newest: dict[str, Any] | None = None
        self._budget, self._budget_at_s = BURST, time.monotonic()
        self._refusals, self._retry_at_s = 0, 0.0
        self.problem: str | None = None

    @property
    def backlog(self) -> int:
        """How many records it has still to deliver."""
        return self._consumer.waiting

    @property
    def is_throttled(self) -> bool:
        """Whether records wait for nothing but their turn."""
        return not self._is_live and self._budget < BURST

    def begin(self) -> None:
        """Another session: what was in flight is sent again, after the births."""
        self._flight.clear()
        self._after = 0

    def newest(self) -> dict[str, Any] | None:
        """The newest record that is known, for DBIRTH: what the device's metrics are now. None
        before the first since the start. Those that wait are historical then.

        Raises: StorageError.
        """
        found = self._consumer.unsent(max(0, self._last_seq() - PEEK), PEEK)
        self._newest = found[-1].fields if found else self._newest
        self._is_live = False
        self._shown = 0 if self._newest is None else int(self._newest["seq"])
        return self._newest

    def work(self, session: Session) -> None:
        """Note what came back, and send what may be sent.

        Raises: StorageError.
        """
        self._settle(session)
        self._fill(session)

    def _settle(self, session: Session) -> None:
        """The cursor moves over what came back, from the lowest number on."""
        through, count = 0, 0
        while self._flight and self._flight[0].is_back:
            through, count = self._flight.popleft().seq, count + 1
        if count:
            self.problem, self._refusals = None, 0
            self._consumer.mark_sent_through(through)
            self._counters.records_sent += count
        now_s = time.monotonic()
        if self._flight and (self._flight[0].is_back is False or self._flight[0].due_s < now_s):
            self._take_back(session)

    def _take_back(self, session: Session) -> None:
        """The broker has discarded the lowest one: it and those behind it are sent again."""
        if not session.connection.is_up:
            return
        self.begin()
        self._is_live = False
        self._refusals += 1
        delay_s = max(REFUSED_S, backoff_s(self._refusals + 2, 1.0, REFUSED_LIMIT_S))
        self._retry_at_s = time.monotonic() + delay_s
        self.problem = (
            "the broker does not deliver DDATA to the station: allow this user to publish and to"
            " read it, in the broker's access list. Records wait in the outbox"
        )

    def _fill(self, session: Session) -> None:
        room = self._room()
        if room <= 0:
            return
        batch = self._consumer.unsent(self._after, room + 1)
        self._is_live = self._is_live or not batch
        for waiting in batch[:room]:
            # nothing is behind it: it is what the metrics are now
            self._is_live = self._is_live or waiting is batch[-1]
            if not self._send(session, waiting, not self._is_live or waiting.seq <= self._shown):
                return
            self._after = waiting.seq

    def _room(self) -> int:
        now_s = time.monotonic()
        self._budget = min(BURST, self._budget + (now_s - self._budget_at_s) * BACKLOG_PER_S)
        self._budget_at_s = now_s
        if now_s < self._retry_at_s:
            return 0
        room = (1 if self._refusals else WINDOW) - len(self._flight)
        return room if self._is_live else min(room, int(self._budget))

    def _send(self, session: Session, waiting: Waiting, is_historical: bool) -> bool:
        now = now_ms()
        one = _InFlight(waiting.seq, time.monotonic() + BACK_S)

        def note(is_back: bool) -> None:
            one.is_back = is_back
            self._wake()

        def encode(seq: int) -> bytes:
            values = device_values(waiting.fields)
            return data(values, seq, now, time_of(waiting.fields, now), is_historical)

        if not session.send("DDATA", encode, Echo("", b"", one.due_s, note)):
            return False
        self._flight.append(one)
        self._budget -= not self._is_live
        if not is_historical:
            self._newest = waiting.fields
        return True
