"""A station that is played to the PLC over a clock that a test moves: what it says is planned."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from edge.line.inbound import TriggerRequest
from edge.simulate.cell import Cell, Clock, Planned
from edge.simulate.conveyor import Belt
from edge.simulate.link import Acked, Event, Readiness, Told
from edge.simulate.plc import Rules

RULES = Rules(deadline_ms=400, verdict_ms=500, gate=700, ack_ms=100)


@dataclass
class Moved:
    """A clock that only its own `sleep` moves."""

    now_s: float = 1000.0

    def now(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass(frozen=True)
class Answer:
    """How the station answers one trigger. ack_ms, told_ms: from the trigger; None: not at all.
    again_ms: once more. part_shift, seq_shift: it answers for another part, or with the number of
    another.
    """

    ack_ms: float | None = 5.0
    told_ms: float | None = 60.0
    code: int = 1
    refused: str = ""
    again_ms: float | None = None
    part_shift: int = 0
    seq_shift: int = 0


@dataclass
class PlayedLink:
    """A PlcLink to a station that answers as planned; heartbeats come but for `silent` times."""

    clock: Moved
    answer: Callable[[int], Answer] = lambda _: Answer()
    silent: Callable[[float], bool] = lambda _: False
    is_up: bool = True
    sent: list[tuple[str, int]] = field(default_factory=list)
    _due: list[tuple[float, int, Event]] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)
    _beat_s: float = 0.0

    def connect(self, timeout_s: float) -> None:
        pass

    def trigger(self, request: TriggerRequest) -> bool:
        part, n = request.part, request.n
        assert n is not None
        if not self.is_up:
            return False
        how, seq = self.answer(n), 7000 + n
        self.sent.append((part, n))
        if how.ack_ms is not None:
            told = None if how.refused else seq
            ack = (part, n, not how.refused, how.refused, told)
            self._later(how.ack_ms, lambda at_s: Acked(*ack, at_s))
        if not how.refused:
            named = f"P{n + how.part_shift}", n, seq + how.seq_shift, how.code, "any"
            for after_ms in (how.told_ms, how.again_ms):
                if after_ms is not None:
                    self._later(after_ms, lambda at_s: Told(*named, at_s))
        return True

    def events(self) -> list[Event]:
        now_s = self.clock.now_s
        if now_s - self._beat_s >= 1.0 and not self.silent(now_s):
            self._beat_s = now_s
            self._later(0.0, lambda at_s: Readiness(True, at_s))
        found = []
        while self._due and self._due[0][0] <= now_s:
            found.append(heapq.heappop(self._due)[2])
        return found

    def close(self) -> None:
        pass

    def _later(self, after_ms: float, event: Callable[[float], Event]) -> None:
        at_s = self.clock.now_s + after_ms / 1000.0
        heapq.heappush(self._due, (at_s, next(self._count), event(at_s)))


def planned(count: int) -> list[Planned]:
    return [Planned(f"P{n}", n) for n in range(1, count + 1)]


def played(
    count: int, link: PlayedLink, rules: Rules = RULES, rate_hz: float = 5.0, seed: int = 0,
    jitter: float = 0.5, first_count: int = 0,
) -> Cell:  # fmt: skip
    """A cell that has been played to its end."""
    belt = Belt(rate_hz, jitter, 1000.0, first_count)
    clock = Clock(link.clock.now, link.clock.sleep)
    cell = Cell(link, rules, belt, planned(count), seed, clock)
    assert cell.wait_ready(10.0) is None
    assert cell.play(60.0) is None
    return cell
