"""Which frames belong to one part: what every gate offers, and what it hands out.

A gate is one file that implements `Gate` (edge/decide/presence.py: parts that are seen to come and
leave; edge/decide/stills.py: every image is a part) and one case in edge/decide/gate_factory.py. It
knows no camera, no clock and no engine, and is used from one thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from edge.decide.motion import Sighting
from edge.decide.verdict import DecisionRule

T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """The frames of one part, oldest first. gaps: before which of them a frame without any part was
    forgiven.

    two_parts: they show more than one part, or one for too short a time to judge it.
    """

    frames: tuple[T, ...]
    gaps: tuple[int, ...] = ()
    two_parts: bool = False


class Gate(Protocol[T]):
    """Collects the frames of one part after another; T is whatever is kept of a frame.

    Each method returns the parts that the call completes, in their order: none, one, seldom two.
    """

    @property
    def is_between_parts(self) -> bool:
        """Whether no part waits for its verdict: only then may another bundle take effect.

        May be read from any thread: an implementation answers from one reference that it replaces.
        """
        ...

    def feed(self, sighting: Sighting, frame: T) -> list[Part[T]]:
        """Take the next frame, which was measured."""
        ...

    def feed_blind(self, frame: T) -> list[Part[T]]:
        """Take a frame that could not be measured: nobody knows whether it shows a part."""
        ...

    def lose(self, frame: T) -> list[Part[T]]:
        """The camera was lost: an open part ends with `frame` as its last."""
        ...

    def close(self) -> list[Part[T]]:
        """No frame follows: an open part is complete."""
        ...

    def under(self, rule: DecisionRule) -> Gate[T]:
        """The gate that goes on in place of this one when another bundle judges, between two parts.

        A part that was decided and is still in view stays decided.
        """
        ...

    def unsure(self) -> Gate[T]:
        """The gate that goes on in place of this one after frames that it was not given, between
        two parts: what is in view has to leave first.
        """
        ...
