"""The played cell at work: the PLC's cycle over a link to a real station, until every part is at
the gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edge.line.inbound import TriggerRequest
from edge.simulate.conveyor import Belt, Conveyor
from edge.simulate.link import Event, PlcLink, Readiness
from edge.simulate.plc import Gated, Plc, Rules
from edge.simulate.referee import History, Sensed
from edge.types import Code

CYCLE_S = 0.002  # of the PLC
LINGER_S = 1.0  # after the last part: a second answer to it would come by then


@dataclass(frozen=True)
class Planned:
    """A part to come. n: its number, differs for each. expected: its code, None: nobody knows."""

    part: str
    n: int
    expected: Code | None = None


@dataclass(frozen=True)
class Clock:
    """Time and its passing, so that a test may give its own. now: seconds that never go back."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Cell:
    """Conveyor, PLC and gate over one connected link."""

    def __init__(
        self, link: PlcLink, rules: Rules, belt: Belt, parts: Sequence[Planned], seed: int = 0,
        clock: Clock | None = None, placed: Callable[[Planned], None] = lambda _: None,
        gated: Callable[[Gated], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """placed: called when a part reaches the sensor, before its trigger. gated: called with
        each part at the gate.
        """
        self.history = History()
        self._link, self._rules = link, rules
        self._clock = clock or Clock()
        self._coming: Iterator[Planned] = iter(parts)
        self._placed, self._gated = placed, gated
        self._conveyor = Conveyor(belt, len(parts), seed, self._clock.now())
        self._plc = Plc(rules)
        self._beat_s: float | None = None
        self.held_s = 0.0  # how long the feed was stopped

    @property
    def stops(self) -> int:
        """How often a timer that ended without a verdict stopped the feed."""
        return self._plc.stops

    def wait_ready(self, timeout_s: float) -> str | None:
        """Until the station says that it is ready. None if it does; else what is wrong."""
        end_s = self._clock.now() + timeout_s
        while not self._plc.feeds(self._clock.now()):
            self._hear(self._clock.now())
            if self._clock.now() > end_s:
                if self._beat_s is None:
                    return f"no heartbeat of the station within {timeout_s:g} s"
                return f"the station was not ready for {timeout_s:g} s: `edge status` says why"
            self._clock.sleep(CYCLE_S)
        return None

    def play(self, patience_s: float) -> str | None:
        """Every part, from the sensor to the gate. Returns None, or why it ended before: the feed
        was stopped for patience_s.
        """
        end_s: float | None = None
        before_s = fed_s = self._clock.now()
        while end_s is None or self._clock.now() < end_s:
            now_s = self._clock.now()
            feeds = self._cycle(now_s)
            if feeds or self._conveyor.is_over:
                fed_s = now_s
            else:
                self.held_s += now_s - before_s
            if now_s - fed_s > patience_s:
                return f"the feed was stopped for {patience_s:g} s: the station was not ready"
            if end_s is None and self._conveyor.is_over and self._plc.is_empty:
                end_s = now_s + LINGER_S
            before_s = now_s
            self._clock.sleep(CYCLE_S)
        return None

    def _cycle(self, now_s: float) -> bool:
        """Once: inputs, then timers and gate. Returns whether the PLC feeds."""
        self._hear(now_s)
        feeds, enc = self._plc.feeds(now_s), self._conveyor.move(now_s)
        for gated in self._plc.scan(now_s, enc):
            self.history.gated.append(gated)
            self._gated(gated)
        if self._conveyor.brings(feeds):
            self._sense(next(self._coming), enc)
        return feeds

    def _hear(self, now_s: float) -> None:
        for event in self._link.events():
            self._note(event)
            self._plc.hear(event, now_s)

    def _note(self, event: Event) -> None:
        self.history.heard.append(event)
        if isinstance(event, Readiness):
            self._beat_s = event.at_s

    def _sense(self, planned: Planned, enc: int) -> None:
        """The edge of the sensor: the part's timer starts, and its trigger leaves."""
        self._placed(planned)
        rules, at_s = self._rules, self._clock.now()
        asked = self._plc.sense(planned.part, planned.n, enc, at_s)
        request = TriggerRequest(
            planned.part, rules.deadline_ms, planned.n, rules.delay_ms, rules.frames, enc
        )
        if asked and not self._link.trigger(request):
            self._plc.note_unsent(planned.n)
            asked = False
        self.history.sensed.append(Sensed(planned.part, planned.n, at_s, asked, planned.expected))
