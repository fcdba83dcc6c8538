"""When a part begins and ends, in free run: a pure state machine over the foreground area of each frame.

    EMPTY    no part in view
    OPENING  something is there, not yet for `open_frames` frames
    OPEN     a part is in view; its frames are collected
    LEAVING  it had its `max_frames` and is decided; it has to leave before another part can open

A view that holds more than `max_area` also opens a part: two parts that touch, or a hand, must end in UNKNOWN
`too_large` and not in silence. Whether a frame is too large is the decision rule's business, not the gate's.

A flicker of one frame changes nothing: a part is open for as long as no two frames in a row lack it, and one frame
that shows something on an empty belt opens nothing. So parts must be at least `leave_frames` empty frames apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


class Phase(Enum):
    """What the gate believes to be in view."""

    EMPTY = "empty"
    OPENING = "opening"
    OPEN = "open"
    LEAVING = "leaving"


@dataclass
class PresenceGate(Generic[T]):
    """Collects the frames of one part after another; T is whatever is kept of a frame.

    min_area: foreground share of the region from which on something is in view, 0..1.
    open_frames: frames that must show it before it counts as a part; one dropout among them is forgiven.
    leave_frames: frames in a row without it that end it.
    max_frames: a part is decided after so many frames, if it has not left before.
    """

    min_area: float
    open_frames: int = 3
    leave_frames: int = 2
    max_frames: int = 30
    phase: Phase = field(default=Phase.EMPTY, init=False)
    _frames: list[T] = field(default_factory=list, init=False)
    _absent: int = field(default=0, init=False)
    _dropouts: int = field(default=0, init=False)

    @property
    def is_between_parts(self) -> bool:
        """True when no part waits for its verdict: the moment at which a new bundle may take effect."""
        return self.phase in (Phase.EMPTY, Phase.LEAVING)

    def feed(self, area: float, frame: T) -> list[T] | None:
        """Take the next frame; returns a part's frames, oldest first, at the frame that completes it, else None."""
        present = area >= self.min_area
        self._absent = 0 if present else self._absent + 1
        if self._absent >= self.leave_frames:
            return self._left()
        if present and self.phase is not Phase.LEAVING:
            return self._seen(frame)
        self._forgive()
        return None

    def feed_blind(self, frame: T) -> list[T] | None:
        """Take a frame that could not be measured: its area is unknown, so it may hold a part.

        An open part is complete at once, because such a frame makes it UNKNOWN whatever follows. With nothing in view
        before, `open_frames` such frames make one part, so that a blind station says so once and not in every frame.
        """
        self._absent = 0
        if self.phase is Phase.LEAVING:
            return None
        self._frames.append(frame)
        self.phase = Phase.OPENING if self.phase is Phase.EMPTY else self.phase
        return self._complete() if len(self._frames) >= self.open_frames else None

    def lose(self, frame: T) -> list[T] | None:
        """The camera was lost: an open part ends with `frame` as its last; None if none was open."""
        return self.feed_blind(frame) if self.phase is Phase.OPEN else None

    def close(self) -> list[T] | None:
        """End the open part now: the source has ended. Returns its frames, or None if none is open."""
        return self._left()

    def follow(self, before: PresenceGate[T]) -> None:
        """Take over from a gate with other limits: a part that was decided and is still in view stays decided."""
        if before.phase is Phase.LEAVING:
            self.phase = Phase.LEAVING

    def _seen(self, frame: T) -> list[T] | None:
        self._frames.append(frame)
        if self.phase is not Phase.OPEN:
            self.phase = Phase.OPEN if len(self._frames) >= self.open_frames else Phase.OPENING
        return self._complete() if len(self._frames) >= self.max_frames else None

    def _complete(self) -> list[T]:
        """Hand out the part; what is in view has to leave before another can open."""
        part, self._frames, self._dropouts, self.phase = self._frames, [], 0, Phase.LEAVING
        return part

    def _forgive(self) -> None:
        """One absent frame: forgiven once while opening; a second dropout there is noise, not a part."""
        if self.phase is not Phase.OPENING:
            return
        self._dropouts += 1
        if self._dropouts > 1:
            self._reset()

    def _left(self) -> list[T] | None:
        part = self._frames if self.phase is Phase.OPEN else None
        self._reset()
        return part

    def _reset(self) -> None:
        self.phase, self._frames, self._dropouts = Phase.EMPTY, [], 0


@dataclass
class EachFrame(Generic[T]):
    """The gate of still images: every frame is a part. For data sets, and for graphs that cannot see presence."""

    @property
    def is_between_parts(self) -> bool:
        """Always: no part spans two frames."""
        return True

    def feed(self, area: float, frame: T) -> list[T] | None:  # noqa: ARG002  # PresenceGate's signature
        """Every frame completes a part."""
        return [frame]

    def feed_blind(self, frame: T) -> list[T] | None:
        """Also one that could not be measured: its verdict is UNKNOWN."""
        return [frame]

    def lose(self, frame: T) -> list[T] | None:  # noqa: ARG002  # PresenceGate's signature
        """No part is open."""
        return None

    def close(self) -> list[T] | None:
        """No part is open."""
        return None
