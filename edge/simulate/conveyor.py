"""The belt of a played PLC: when the next part reaches the sensor, and what the encoder counts.
Pure: it is told the time.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

STALL_S = 0.05  # a cycle that comes later than this found the belt at rest meanwhile
ENCODER = 1 << 32  # its counts begin again from 0: a UDINT


def counts_between(earlier: int, later: int) -> int:
    """How far the belt has moved, also over the end of the encoder's range."""
    return (later - earlier) % ENCODER


@dataclass(frozen=True)
class Belt:
    """How the belt runs. rate_hz: parts a second. jitter: share of the distance between two parts,
    0 to 1, by which a part comes earlier or later. counts_per_s: of the encoder. first_count: at
    the start. feeder: counts from the feeder to the sensor: parts that are there when the feed
    stops still come.
    """

    rate_hz: float
    jitter: float = 0.2
    counts_per_s: float = 1000.0
    first_count: int = 0
    feeder: int = 200


class Conveyor:
    """Brings part after part while the PLC feeds; the belt itself does not stop.

    It moves with the PLC's cycle: if this machine does not run the cycle for a while, the belt
    stands as long, so that no two parts come at once afterwards.
    """

    def __init__(self, belt: Belt, parts: int, seed: int, start_s: float) -> None:
        """parts: how many it brings. start_s: from when the belt runs."""
        self._belt, self._chance = belt, random.Random(seed)
        self._seen_s, self._left = start_s, parts
        self._moved_s = self._next_s = 0.0  # of the belt's own time
        self._on_the_way: deque[float] = deque()  # when they reach the sensor
        self._is_held = False

    @property
    def is_over(self) -> bool:
        """Whether every part has reached the sensor."""
        return not self._left and not self._on_the_way

    def move(self, now_s: float) -> int:
        """To be called once a cycle. Returns the encoder's count."""
        self._moved_s += min(now_s - self._seen_s, STALL_S)
        self._seen_s = now_s
        belt = self._belt
        return (belt.first_count + round(self._moved_s * belt.counts_per_s)) % ENCODER

    def brings(self, feeds: bool) -> bool:
        """Whether a part reaches the sensor in this cycle.

        feeds: whether the PLC lets parts come. After a stop the next one is fed a whole distance
        later.
        """
        belt, now_s = self._belt, self._moved_s
        if not feeds:
            self._is_held = True
        elif self._is_held:
            self._is_held = False
            self._next_s = max(self._next_s, now_s + self._gap_s())
        if feeds and self._left and now_s >= self._next_s:
            self._left -= 1
            self._on_the_way.append(now_s + belt.feeder / belt.counts_per_s)
            self._next_s = now_s + self._gap_s()
        if not self._on_the_way or now_s < self._on_the_way[0]:
            return False
        self._on_the_way.popleft()
        return True

    def _gap_s(self) -> float:
        belt = self._belt
        return (1.0 + self._chance.uniform(-belt.jitter, belt.jitter)) / belt.rate_hz
