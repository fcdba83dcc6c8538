"""The PLC itself, as docs/mqtt.md asks for it ("What the PLC must do"): a timer for each part, the
match by part and n, the reject gate, and the feed that stops. Pure: it is told the time, in
seconds of one monotonic clock, and calls nobody.

It is called as a PLC's cycle is: `hear` what arrived, `sense` the sensor, `scan` timers and gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge.simulate.conveyor import counts_between
from edge.simulate.link import Acked, Event, Readiness, Told
from edge.types import Code

SILENT_S = 3.0  # without a heartbeat
SETTLE = 3  # heartbeats after a timer that ended without a verdict


@dataclass(frozen=True)
class Rules:
    """What the PLC is set to. deadline_ms, delay_ms, frames: of its triggers. ack_ms: from the
    sensor to the acknowledgment, at most. verdict_ms: its timer, from the sensor to the verdict:
    the deadline and the network both ways. gate: encoder counts from the sensor to the gate.
    """

    deadline_ms: int
    verdict_ms: int
    gate: int
    ack_ms: int = 100
    delay_ms: int = 0
    frames: int = 1


class Why(str, Enum):
    """Why the gate did what it did."""

    OK = "ok"  # the only one that accepts
    NG = "ng"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    ACK_LATE = "ack late"  # the trigger was held up: its frames may show another part
    NO_VERDICT = "no verdict"  # before the timer's end
    TOO_NEAR = "gate too near"  # it was reached before the timer's end
    NOT_READY = "not ready"  # the part was not asked for
    NOT_SENT = "not sent"  # there was no connection


BY_CODE = {Code.OK: Why.OK, Code.NG: Why.NG, Code.UNKNOWN: Why.UNKNOWN}


@dataclass(frozen=True)
class Gated:
    """A part at the gate: accepted, or rejected and why. at_s: when."""

    part: str
    n: int
    accepted: bool
    why: Why
    at_s: float


@dataclass
class Tracked:
    """A part between sensor and gate. why: as it stands now; None while it waits. is_dated: its
    acknowledgment came in time.
    """

    part: str
    n: int
    enc: int
    sensed_s: float
    is_dated: bool = False
    why: Why | None = None

    def is_named(self, part: str, n: int | None) -> bool:
        """Whether a message is about it; n is None in a dialect that does not repeat it."""
        return self.part == part and n in (None, self.n)


class Plc:
    """The parts between sensor and gate, and whether more may come."""

    def __init__(self, rules: Rules) -> None:
        """Nothing is fed before the first heartbeat that says ready."""
        self._rules = rules
        self._parts: list[Tracked] = []  # in the order of the belt
        self._ready, self._beat_s = False, float("-inf")
        self._settle = 0
        self.stops = 0  # how often a timer that ended stopped the feed

    @property
    def is_empty(self) -> bool:
        """Whether no part is between sensor and gate."""
        return not self._parts

    def feeds(self, now_s: float) -> bool:
        """Whether parts may come."""
        return self._ready and now_s - self._beat_s <= SILENT_S and self._settle == 0

    def sense(self, part: str, n: int, enc: int, now_s: float) -> bool:
        """A part reaches the sensor: its timer starts. Returns whether to trigger."""
        tracked = Tracked(part, n, enc, now_s)
        self._parts.append(tracked)
        if not self.feeds(now_s):
            tracked.why = Why.NOT_READY
        return tracked.why is None

    def note_unsent(self, n: int) -> None:
        """The trigger of that number did not leave."""
        for one in self._parts:
            if one.n == n:
                one.why = Why.NOT_SENT

    def hear(self, event: Event, now_s: float) -> None:
        """What the station says; now_s: of this cycle, by which the timers are read."""
        if isinstance(event, Acked):
            self._hear_ack(event, now_s)
        elif isinstance(event, Told):
            self._hear_verdict(event, now_s)
        else:
            self._hear_beat(event)

    def scan(self, now_s: float, enc: int) -> list[Gated]:
        """Timers, then the parts that are at the gate now."""
        for one in self._parts:
            if one.why is None and self._is_over(one, self._rules.verdict_ms, now_s):
                self._give_up(one, Why.NO_VERDICT)
        there = [one for one in self._parts if counts_between(one.enc, enc) >= self._rules.gate]
        for one in there:
            if one.why is None:
                self._give_up(one, Why.TOO_NEAR)
        self._parts = [one for one in self._parts if one not in there]
        return [
            Gated(one.part, one.n, one.why is Why.OK, one.why or Why.NO_VERDICT, now_s)
            for one in there
        ]

    def _hear_ack(self, ack: Acked, now_s: float) -> None:
        one = self._waiting(ack.part, ack.n)
        if one is None or one.is_dated:
            return
        if not ack.accepted:
            one.why = Why.REFUSED
        elif self._is_over(one, self._rules.ack_ms, now_s):
            one.why = Why.ACK_LATE
        else:
            one.is_dated = True

    def _hear_verdict(self, told: Told, now_s: float) -> None:
        one = self._waiting(told.part, told.n)
        is_in_time = one is not None and not self._is_over(one, self._rules.verdict_ms, now_s)
        if one is not None and one.is_dated and is_in_time and told.code in BY_CODE:
            one.why = BY_CODE[Code(told.code)]

    def _hear_beat(self, beat: Readiness) -> None:
        self._ready, self._beat_s = beat.ready, beat.at_s
        if beat.ready:  # also the end of a connection is told as one, and is no heartbeat
            self._settle = max(0, self._settle - 1)

    def _give_up(self, one: Tracked, why: Why) -> None:
        one.why = why
        self._settle = SETTLE
        self.stops += 1

    def _waiting(self, part: str, n: int | None) -> Tracked | None:
        return next((one for one in self._parts if one.why is None and one.is_named(part, n)), None)

    @staticmethod
    def _is_over(one: Tracked, limit_ms: int, now_s: float) -> bool:
        return now_s - one.sensed_s > limit_ms / 1000.0
