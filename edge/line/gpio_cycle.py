"""From edges and verdicts to the outputs that are active: pure logic over times that it is given.
It knows no chip and no station, and reads no clock.

    trigger   ends what is shown; one at a time: the next is missed until `busy` has fallen
    busy      from its acceptance to its verdict or deadline, and never less than its window, in
              which the station would refuse another trigger
    verdict   `ok`, `ng` or `unknown`, and `valid`; never two of the three, never after its deadline
    pulse     ends after its length, and with the next trigger; a level ends with the next trigger
    free run  a pulse for each part, one after the other with a pause of the same length

All times are nanoseconds of the host's monotonic clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge.types import Code

SHOWN = {Code.OK: "ok", Code.NG: "ng", Code.UNKNOWN: "unknown"}
WAITING_LIMIT = 8  # verdicts of free run that wait for the pulses before them


@dataclass(frozen=True)
class Told:
    """A verdict for the lines. n: of its trigger, None in free run."""

    n: int | None
    code: Code
    deadline_ns: int


@dataclass
class _Open:
    """A trigger until `busy` falls. is_accepted: the station has said so. is_told: it has its
    verdict, and only its window is not over.
    """

    n: int
    window_ns: int
    deadline_ns: int
    is_accepted: bool = False
    is_told: bool = False

    @property
    def end_ns(self) -> int:
        """When it ends by itself."""
        return self.window_ns if self.is_told else self.deadline_ns


class Cycle:
    """What the outputs show. Not thread-safe."""

    def __init__(self, pulse_ns: int, is_level: bool, is_triggered: bool) -> None:
        """is_triggered: the triggers come on a line; else every verdict is shown as a pulse."""
        self._pulse_ns, self._is_triggered = pulse_ns, is_triggered
        self._is_level = is_level and is_triggered
        self._open: _Open | None = None
        self._shown: frozenset[str] = frozenset()
        self._until_ns: int | None = None  # the end of the pulse that is shown
        self._pause_ns = 0  # no pulse begins before this moment
        self._told_ns = self._free_ns = 0  # the last verdict, and the last end of `busy`
        self._waiting: deque[Told] = deque()
        self.dropped = 0  # verdicts that had to wait beyond their deadline

    @property
    def active(self) -> frozenset[str]:
        """The outputs that are active, by their keys in [gpio]; without `ready` and `fault`."""
        is_busy = self._open is not None and self._open.is_accepted
        return self._shown | {"busy"} if is_busy else self._shown

    @property
    def next_ns(self) -> int | None:
        """When `pass_time` has something to do; None if nothing ends by itself."""
        times = [
            None if self._open is None else self._open.end_ns,
            self._until_ns,
            self._pause_ns if self._waiting and not self._shown else None,
        ]
        return min((one for one in times if one is not None), default=None)

    def begin(self, n: int, moment_ns: int, window_ns: int, deadline_ns: int, now_ns: int) -> bool:
        """The trigger's edge number n, at moment_ns: what was shown at that moment belongs to the
        part before it, and ends.

        window_ns: until when the station would refuse another trigger.
        Returns whether the station is to be asked: not if another trigger was open at that moment.
        """
        self.pass_time(now_ns)
        if moment_ns >= self._told_ns:
            self._shown, self._until_ns = frozenset(), None
        if self._open is not None or moment_ns < self._free_ns:
            return False
        self._open = _Open(n, window_ns, deadline_ns)
        return True

    def acknowledge(self, n: int, is_accepted: bool) -> None:
        """What the station has said to the trigger."""
        if self._open is None or self._open.n != n:
            return
        if is_accepted:
            self._open.is_accepted = True
        else:
            self._open = None

    def tell(self, told: Told, now_ns: int) -> bool:
        """Show a verdict; returns False where it is late or no open trigger's.

        In free run it may have to wait for the pulse before it, and is dropped if that takes until
        its deadline.
        """
        self.pass_time(now_ns)
        if not self._is_triggered:
            return self._queue(told, now_ns)
        opened = self._open
        if opened is None or opened.n != told.n or not opened.is_accepted or opened.is_told:
            return False
        opened.is_told, self._told_ns = True, now_ns
        is_in_time = now_ns < told.deadline_ns
        if is_in_time:
            self._show(told.code, now_ns)
        self.pass_time(now_ns)
        return is_in_time

    def pass_time(self, now_ns: int) -> None:
        """End what ends by itself: a pulse, a pause, the wait for a verdict."""
        if self._open is not None and now_ns >= self._open.end_ns:
            self._open, self._free_ns = None, now_ns
        if self._until_ns is not None and now_ns >= self._until_ns:
            self._shown, self._until_ns = frozenset(), None
            self._pause_ns = now_ns + self._pulse_ns
        while self._waiting and not self._shown and now_ns >= self._pause_ns:
            told = self._waiting.popleft()
            if now_ns < told.deadline_ns:
                self._show(told.code, now_ns)
            else:
                self.dropped += 1

    def reset(self) -> None:
        """The lines were released: whatever was open gets no verdict on them."""
        self._open = self._until_ns = None
        self._shown = frozenset()
        self._pause_ns = self._told_ns = self._free_ns = 0
        self.dropped += len(self._waiting)
        self._waiting.clear()

    def _queue(self, told: Told, now_ns: int) -> bool:
        if len(self._waiting) >= WAITING_LIMIT or now_ns >= told.deadline_ns:
            return False
        self._waiting.append(told)
        self.pass_time(now_ns)
        return True

    def _show(self, code: Code, now_ns: int) -> None:
        self._shown = frozenset((SHOWN[code], "valid"))
        self._until_ns = None if self._is_level else now_ns + self._pulse_ns
