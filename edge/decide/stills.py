"""The gate of still images: every frame is a part. For data sets, and for graphs that cannot see
presence.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from edge.decide.gate import Part
from edge.decide.motion import Sighting
from edge.decide.verdict import DecisionRule

T = TypeVar("T")


class EachFrame(Generic[T]):
    """Keeps nothing from one frame to the next. See edge.decide.gate.Gate."""

    is_between_parts = True

    def feed(self, sighting: Sighting, frame: T) -> list[Part[T]]:  # noqa: ARG002  # as every Gate
        """One part, of this frame."""
        return [Part((frame,))]

    def feed_blind(self, frame: T) -> list[Part[T]]:
        """One part, of this frame: its verdict is UNKNOWN."""
        return [Part((frame,))]

    def lose(self, frame: T) -> list[Part[T]]:  # noqa: ARG002  # as every Gate
        """None: no part is ever open."""
        return []

    def close(self) -> list[Part[T]]:
        """None: no part is ever open."""
        return []

    def under(self, rule: DecisionRule) -> EachFrame[T]:  # noqa: ARG002  # as every Gate
        """The same: no limit of a bundle tells these parts apart."""
        return self

    def unsure(self) -> EachFrame[T]:
        """The same: no image has to do with the one before it."""
        return self
