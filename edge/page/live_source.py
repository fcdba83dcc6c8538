"""What the station does now, as the page knows it: asked of `edge run`, once for all tabs, and only
while somebody looks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

LEAST_S = 0.2  # between two questions, whatever the number of tabs: five pictures a second


@dataclass(frozen=True, eq=False)
class Look:
    """One look at the station.

    station: "online", "degraded" or "fault" as the station says; "stopped" if no `edge run` is at
    work, "starting" if it has not said anything yet, "silent" if it has said nothing for seconds.
    said: the fields of the state, as edge.runtime.report.Report.for_status gives them; empty where
    nothing was said. last: the fields of the last verdict. picture: JPEG; None if there is none.
    """

    station: str
    said: Mapping[str, Any] = field(default_factory=dict)
    last: Mapping[str, Any] | None = None
    picture: bytes | None = None


class LiveSource(Protocol):
    """Whoever can say what the station does."""

    async def look(self) -> Look:
        """Now; "stopped" and the like are answers, not errors."""
        ...

    async def close(self) -> None:
        """Ends what was opened. May be called twice."""
        ...


class SharedLook:
    """One answer for everybody who asks within LEAST_S. Of one event loop."""

    def __init__(self, source: LiveSource, now_s: Callable[[], float] = time.monotonic) -> None:
        """now_s: monotonic seconds. Nobody is asked before the first get()."""
        self._source, self._now_s = source, now_s
        self._lock = asyncio.Lock()
        self._look, self._at_s = Look("starting"), -LEAST_S

    async def get(self) -> Look:
        """At most LEAST_S old."""
        async with self._lock:
            if self._now_s() - self._at_s >= LEAST_S:
                self._look = await self._source.look()
                self._at_s = self._now_s()
            return self._look

    async def close(self) -> None:
        """The page ends."""
        await self._source.close()
