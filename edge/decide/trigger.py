"""Which frames belong to a triggered part, and when its answer is due: pure logic over times that
it is given. It knows no camera, no broker and no disk, and reads no clock.

    window     [arrival + delay, + `frames` periods of the camera + one], fixed when the trigger
               arrives. The first `frames` frames with their mid-exposure in it are the part's own;
               a later frame never is. Two windows never overlap.
    deadline   from the arrival on. The answer is due a little before it: one of the judgment and
               the clock claims it, whichever is first, and the other one comes too late.

All times are nanoseconds of the host's monotonic clock, the one of Frame.captured_mono_ns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

MS = 1_000_000  # nanoseconds
MARGIN_MS = 50  # the answer leaves this long before the deadline,
MARGIN_SHARE = 0.2  # or this share of it, whichever is less: broker and network need time
OPEN_LIMIT = 16  # triggers that wait for answer and judgment at one time
FRAMES_LIMIT = 60  # frames that these may wait for, so that a queue of images stays in memory


@dataclass(frozen=True)
class Window:
    """The times of the frames of one part: after start_ns, up to end_ns; the first `frames`."""

    start_ns: int
    end_ns: int
    frames: int

    def holds(self, captured_ns: int) -> bool:
        """Whether a frame of that mid-exposure lies in it."""
        return self.start_ns < captured_ns <= self.end_ns

    def overlaps(self, other: Window) -> bool:
        """Whether one frame could lie in both."""
        return self.start_ns < other.end_ns and other.start_ns < self.end_ns


def window_of(arrival_ns: int, delay_ms: int, frames: int, period_ns: int) -> Window:
    """The window of a trigger. period_ns: of the camera's frames."""
    start_ns = arrival_ns + delay_ms * MS
    return Window(start_ns, start_ns + (frames + 1) * period_ns, frames)


def due_of(arrival_ns: int, deadline_ms: int) -> int:
    """When the answer has to leave so that it is there by the deadline."""
    return arrival_ns + round((deadline_ms - min(MARGIN_MS, MARGIN_SHARE * deadline_ms)) * MS)


@dataclass(eq=False)
class Trigger(Generic[T]):
    """One trigger from its arrival until its record is final. Changed by Triggers alone.

    name: part and n, by which a repeat is known. is_fixed: its answer leaves when it is due, and
    not as soon as there is one. claimed: how many frames are its own so far.
    frames: those of them that were judged. is_accepted: its number is on disk and the PLC was told.
    is_closed: no further frame will be its own. is_answered: its verdict was claimed. is_decided:
    its frames were handed out. is_concluded: whoever got them is done.
    """

    name: tuple[str, int | None]
    window: Window
    arrival_ns: int
    due_ns: int
    deadline_ns: int
    is_fixed: bool = False
    frames: list[T] = field(default_factory=list)
    claimed: int = 0
    is_accepted: bool = False
    is_closed: bool = False
    is_answered: bool = False
    is_decided: bool = False
    is_concluded: bool = False

    @property
    def is_over(self) -> bool:
        """Whether neither an answer nor a judgment is still to come."""
        return self.is_answered and self.is_concluded

    @property
    def is_complete(self) -> bool:
        """Whether every frame that it will ever have was judged, and nobody has been told yet."""
        whole = self.is_closed and len(self.frames) >= self.claimed
        return whole and self.is_accepted and not self.is_decided


class Triggers(Generic[T]):
    """The triggers of one station that are not over. T is whatever is kept of a judged frame.

    Not thread-safe: edge/runtime/triggering.py has the lock.
    """

    def __init__(self, period_ns: int, patience_ns: int) -> None:
        """period_ns: of the camera's frames. patience_ns: a frame that comes this long after its
        exposure would be stale: a window that has ended this long ago gets no more frames.
        """
        self._period_ns, self._patience_ns = period_ns, patience_ns
        self._all: list[Trigger[T]] = []  # in the order of their arrival

    @property
    def waiting(self) -> int:
        """How many have no answer yet, or still wait for their judgment."""
        return sum(not one.is_over for one in self._all)

    def holds(self, trigger: Trigger[T]) -> bool:
        """Whether it is not over."""
        return trigger in self._all

    def find_repeated(
        self, name: tuple[str, int | None], is_dup: bool, now_ns: int
    ) -> Trigger[T] | None:
        """The trigger that one of this name repeats; None if it is a part of its own.

        A repeat has the same part and the same n, before the first one's deadline. Without n only
        a packet that the broker itself marks as sent before (DUP) is a repeat.
        """
        if name[1] is None and not is_dup:
            return None
        return next(
            (one for one in self._all if one.name == name and now_ns < one.deadline_ns), None
        )

    def open(
        self,
        name: tuple[str, int | None],
        arrival_ns: int,
        deadline_ms: int,
        delay_ms: int,
        frames: int,
        answer_ms: int = 0,
    ) -> Trigger[T] | None:
        """Own the window of this trigger from now on; None if another window overlaps it, or too
        many parts wait for their judgment.

        answer_ms: from the arrival until the answer leaves; 0: as soon as there is one.
        """
        window = window_of(arrival_ns, delay_ms, frames, self._period_ns)
        pending = sum(one.window.frames for one in self._all if not one.is_decided)
        if (
            any(one.window.overlaps(window) for one in self._all)
            or self.waiting >= OPEN_LIMIT
            or pending + frames > FRAMES_LIMIT
        ):
            return None
        is_fixed = answer_ms > 0
        due_ns = arrival_ns + answer_ms * MS if is_fixed else due_of(arrival_ns, deadline_ms)
        deadline_ns = arrival_ns + deadline_ms * MS
        opened: Trigger[T] = Trigger(name, window, arrival_ns, due_ns, deadline_ns, is_fixed)
        self._all.append(opened)
        return opened

    def cancel(self, trigger: Trigger[T]) -> None:
        """It is not accepted after all: its window is free again."""
        self._all = [one for one in self._all if one is not trigger]

    def claim(self, captured_ns: int) -> Trigger[T] | None:
        """Whose a frame of that mid-exposure is; None if nobody's. Frames come in their order."""
        owner = None
        for one in self._all:
            if one.is_closed:
                continue
            if one.window.holds(captured_ns):
                owner = one
                one.claimed += 1
            one.is_closed = one.claimed >= one.window.frames or captured_ns > one.window.end_ns
        return owner

    def lose(self, now_ns: int, lost: T) -> None:
        """The camera was lost: the windows that have begun get no more frames but `lost`."""
        for one in self._all:
            if not one.is_closed and one.window.start_ns <= now_ns:
                one.is_closed = True
                one.claimed += 1
                one.frames.append(lost)

    def close(self) -> None:
        """The source has ended: no window gets another frame."""
        for one in self._all:
            one.is_closed = True

    def complete(self, now_ns: int) -> list[Trigger[T]]:
        """Those whose frames are all judged: each is handed out once."""
        for one in self._all:
            one.is_closed = one.is_closed or now_ns > one.window.end_ns + self._patience_ns
        whole = [one for one in self._all if one.is_complete]
        for one in whole:
            one.is_decided = True
        return whole

    def answer(self, trigger: Trigger[T]) -> bool:
        """Claim its answer; False if it was given before."""
        first, trigger.is_answered = not trigger.is_answered, True
        return first

    def next_due_ns(self) -> int | None:
        """When the next answer is due; None if none waits."""
        waiting = (one.due_ns for one in self._all if one.is_accepted and not one.is_answered)
        return min(waiting, default=None)

    def due(self, now_ns: int) -> list[Trigger[T]]:
        """Those whose answer is due and was not given: it is claimed with this."""
        late = [
            one
            for one in self._all
            if one.is_accepted and not one.is_answered and now_ns >= one.due_ns
        ]
        for one in late:
            one.is_answered = True
        return late

    def drop_finished(self, now_ns: int, patience_ns: int) -> list[Trigger[T]]:
        """Forget those that are over, or were never accepted; returns those whose judgment did not
        come within patience_ns after the deadline, which count as decided from now on.
        """
        given_up = [
            one
            for one in self._all
            if one.is_answered and not one.is_decided and now_ns > one.deadline_ns + patience_ns
        ]
        for one in given_up:
            one.is_decided = one.is_concluded = True
            one.frames.clear()
        self._all = [
            one
            for one in self._all
            if now_ns <= one.deadline_ns or (one.is_accepted and not one.is_over)
        ]
        return given_up
