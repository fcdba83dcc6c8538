"""When a part begins and ends, in free run: a pure state machine over where the foreground of each
frame lies.

    EMPTY    no part in view
    OPENING  something is there, not yet for `open_frames` frames
    OPEN     a part is in view; its frames are collected
    LEAVING  it is decided; it has to leave, or another part has to come, before another can open

A view that holds more than `max_area` also opens a part: two parts that touch, or a hand, must end
in UNKNOWN `too_large` and not in silence. A part that is cut by the border of the view opens too,
but of its frames only those are collected that show it whole. Whether a frame can be judged is the
decision rule's business, not the gate's.

A flicker of one frame changes nothing: a part is open for as long as no two frames in a row lack
it, and one frame that shows something on an empty belt opens nothing. Parts that follow each other
more closely are told apart by their place (edge.decide.motion): a jump closes a part and opens the
next. One that had been seen for too few frames when the next one came cannot be judged: it is
handed out as `two_parts`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, TypeVar

from edge.decide.gate import Part
from edge.decide.motion import Motion, Sighting
from edge.decide.verdict import DecisionRule

T = TypeVar("T")


class Phase(Enum):
    """What the gate believes to be in view."""

    EMPTY = "empty"
    OPENING = "opening"
    OPEN = "open"
    LEAVING = "leaving"


@dataclass
class PresenceGate(Generic[T]):
    """Tells parts apart by what is in view. See edge.decide.gate.Gate.

    min_area: foreground share of the region of interest above which something is in view, 0..1.
    max_area: share above which it is more than one part: its center is not followed.
    max_border: share of the view's border above which a part is cut by it.
    open_frames: frames that must show it before it counts as a part; one dropout among them is
    forgiven.
    leave_frames: frames in a row without it that end it.
    max_frames: a part is decided after this many frames, if it has not left before.
    starts_unsure: what is in view at the start may have been decided before: it has to leave first.
    """

    min_area: float
    max_area: float = 1.0
    max_border: float = 1.0
    open_frames: int = 3
    leave_frames: int = 2
    max_frames: int = 30
    starts_unsure: bool = False
    phase: Phase = field(default=Phase.EMPTY, init=False)
    _motion: Motion = field(default_factory=Motion, init=False)
    _frames: list[T] = field(default_factory=list, init=False)
    _gaps: list[int] = field(default_factory=list, init=False)
    _seen: int = field(default=0, init=False)
    _absent: int = field(default=0, init=False)
    _dropouts: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.starts_unsure:
            self.phase = Phase.LEAVING

    @property
    def is_between_parts(self) -> bool:
        """True when no part waits for its verdict: the moment at which a new bundle may take
        effect.
        """
        return self.phase in (Phase.EMPTY, Phase.LEAVING)

    def feed(self, sighting: Sighting, frame: T) -> list[Part[T]]:
        """Take the next frame; returns the parts that it completes, in their order: none, one,
        seldom two.
        """
        if sighting.area < self.min_area:
            return self._lacking()
        after_gap, self._absent = self._absent > 0, 0
        ended = self._ended_by(sighting)
        if self.phase is not Phase.LEAVING:
            if after_gap and self._frames:
                self._gaps.append(len(self._frames))
            ended += self._take(sighting, frame)
        return ended

    def feed_blind(self, frame: T) -> list[Part[T]]:
        """Take a frame that could not be measured: its area is unknown, so it may hold a part.

        An open part is complete at once, because such a frame makes it UNKNOWN whatever follows.
        With nothing in view before, `open_frames` such frames make one part, so that a blind
        station says so once and not in every frame.
        """
        self._absent = 0
        if self.phase is Phase.LEAVING:
            return []
        self._frames.append(frame)
        self.phase = Phase.OPENING if self.phase is Phase.EMPTY else self.phase
        return self._complete() if len(self._frames) >= self.open_frames else []

    def lose(self, frame: T) -> list[Part[T]]:
        """The camera was lost: an open part ends with `frame` as its last; none if none was
        open.
        """
        return self.feed_blind(frame) if self.phase is Phase.OPEN else []

    def close(self) -> list[Part[T]]:
        """End the open part now: the source has ended."""
        return self._left()

    def under(self, rule: DecisionRule) -> PresenceGate[T]:
        """With that rule's limits: a part that was decided and is still in view has to leave
        first.
        """
        return replace(
            self,
            min_area=rule.min_area,
            max_area=rule.max_area,
            max_border=rule.max_border,
            starts_unsure=self.phase is Phase.LEAVING,
        )

    def unsure(self) -> PresenceGate[T]:
        """As at the start of a station: what is in view may have been decided before."""
        return replace(self, starts_unsure=True)

    def _lacking(self) -> list[Part[T]]:
        """One frame without a part is forgiven, while opening once; more of them end what was in
        view.
        """
        self._absent += 1
        if self._absent >= self.leave_frames:
            return self._left()
        if self.phase is Phase.OPENING:
            self._dropouts += 1
            if self._dropouts > 1:
                self._reset()
        return []

    def _ended_by(self, sighting: Sighting) -> list[Part[T]]:
        """The part that was in view before, if this frame shows wholly another one."""
        if sighting.area > self.max_area or self._is_cut(sighting):
            return []
        ended: list[Part[T]] = []
        if self._motion.is_another(sighting):
            if self.phase is Phase.OPEN:
                ended = [self._part()]
            elif self.phase is Phase.OPENING and len(self._frames) > 1:
                ended = [Part(tuple(self._frames), two_parts=True)]
            self._reset()
        self._motion.follow(sighting)
        return ended

    def _take(self, sighting: Sighting, frame: T) -> list[Part[T]]:
        """Collect the frame. Once a part is open, frames that cut it off are worth nothing."""
        self._seen += 1
        if self.phase is not Phase.OPEN or not self._is_cut(sighting):
            self._frames.append(frame)
        if self.phase is not Phase.OPEN:
            self.phase = Phase.OPEN if self._seen >= self.open_frames else Phase.OPENING
        return self._complete() if len(self._frames) >= self.max_frames else []

    def _is_cut(self, sighting: Sighting) -> bool:
        return sighting.border > self.max_border

    def _part(self) -> Part[T]:
        return Part(tuple(self._frames), tuple(self._gaps))

    def _complete(self) -> list[Part[T]]:
        """Hand out the part; what is in view has to leave, or another part has to come, before
        another can open.
        """
        part = self._part()
        self._clear(Phase.LEAVING)
        return [part]

    def _left(self) -> list[Part[T]]:
        ended = [self._part()] if self.phase is Phase.OPEN else []
        self._reset()
        return ended

    def _reset(self) -> None:
        self._motion.forget()
        self._clear(Phase.EMPTY)

    def _clear(self, phase: Phase) -> None:
        self.phase, self._frames, self._gaps, self._seen, self._dropouts = phase, [], [], 0, 0
