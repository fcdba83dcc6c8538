"""The last verdicts of a running station, for those who look at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

KEPT = 20
KEYS = ("seq", "part", "n", "code", "reason", "score", "thr", "at", "judged_at", "images")


class RecentVerdicts:
    """The newest KEPT of them. `note` is called by the threads that decide and never waits; any
    thread may read.
    """

    def __init__(self) -> None:
        """None yet."""
        self._kept: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def note(self, fields: Mapping[str, Any]) -> None:
        """fields: of the record, as it was told."""
        self._kept.append({key: fields[key] for key in KEYS if key in fields})

    def newest_last(self) -> list[dict[str, Any]]:
        """A copy."""
        return list(self._kept.copy())
