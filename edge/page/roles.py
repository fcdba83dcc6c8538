"""The three roles, each of which may do what those before it may."""

from __future__ import annotations

from enum import Enum


class Role(str, Enum):
    """What a user may do."""

    LOOK = "look"  # see everything, and say which part was good or bad
    CALIBRATE = "calibrate"  # also calibrate the station
    ADMINISTER = "administer"  # also choose what judges

    def includes(self, other: Role) -> bool:
        """Whether who has this role may do what `other` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)
