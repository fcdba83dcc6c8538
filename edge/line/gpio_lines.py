"""Discrete lines as the dialect uses them: the protocol that edge/line/gpio_chip.py implements over
libgpiod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class LinesLost(Exception):
    """The lines cannot be had, or were lost: one sentence with the remedy."""


@dataclass(frozen=True)
class Edge:
    """The trigger became active. moment_ns: by the kernel, host monotonic clock. number: counts
    from 1 with every request of the line, also edges that were lost since.
    """

    moment_ns: int
    number: int


class Lines(Protocol):
    """The lines of one station, held until they are released. For one thread at a time."""

    @property
    def fd(self) -> int | None:
        """Becomes readable when the trigger's edges wait; None without a trigger."""
        ...

    def read_edges(self) -> Sequence[Edge]:
        """The edges that wait, oldest first; for `fd` readable. Raises: LinesLost."""
        ...

    def set(self, values: Mapping[str, bool]) -> None:
        """Make outputs active or inactive together, by their keys in [gpio]. Raises: LinesLost."""
        ...

    def release(self) -> None:
        """Give all of them back to the kernel; a second call does nothing."""
        ...
