"""The counters of the shift: counted once in the records, and from then on as the station counts.

The records are counted again each minute, when a shift begins, and when `edge run` was restarted.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from edge.archive.reading import has_table, reading
from edge.errors import EdgeError
from edge.trouble import Trouble

log = logging.getLogger(__name__)

CODES = {1: "ok", 2: "ng", 3: "unknown"}
AGAIN_S = 60.0
WINDOW = 4000  # records that one statement looks at
# only CASE fixes the order: json_extract fails on what is no JSON
AT = "CASE WHEN json_valid(fields) THEN json_extract(fields, '$.judged_at') END"
COUNT = f"""SELECT CASE WHEN json_valid(fields) THEN json_extract(fields, '$.code') END,
    sum({AT} >= ?), min({AT}) FROM records WHERE seq > ? AND seq <= ? GROUP BY 1"""


class Shift(BaseModel):
    """Parts since the shift began."""

    model_config = ConfigDict(frozen=True)

    since: str = Field(description="ISO 8601, with the station's time zone")
    ok: int
    ng: int
    unknown: int


@dataclass(frozen=True)
class _Base:
    """What was counted in the records, None if they could not be read, while the station counted
    `told`.
    """

    since: datetime
    counted: Mapping[str, int] | None
    told: Mapping[str, int]
    pid: object
    at_s: float


class ShiftCounts:
    """Of one event loop."""

    def __init__(
        self,
        root: Path,
        begins: Sequence[str],
        now: Callable[[], datetime] = lambda: datetime.now().astimezone(),
    ) -> None:
        """begins: HH:MM by the station's clock; none: there are no shifts."""
        self._root, self._begins, self._now = root, begins, now
        self._base: _Base | None = None
        self._trouble = Trouble(log, "the parts of the shift are counted again")

    async def of(self, said: Mapping[str, Any]) -> Shift | None:
        """With what the station says of itself; None without shifts, if it says nothing, and where
        the records cannot be read.
        """
        if not self._begins or not isinstance(said.get("seq"), int):
            return None
        since = began_at(self._now(), self._begins)
        told = {name: _count(said, name) for name in CODES.values()}
        if not self._is_valid(since, told, said.get("pid")):
            counted = await run_in_threadpool(self._counted, since, said["seq"])
            self._base = _Base(since, counted, told, said.get("pid"), time.monotonic())
        base = self._base
        if base is None or base.counted is None:
            return None
        counts = {name: base.counted[name] + told[name] - base.told[name] for name in told}
        return Shift(since=since.isoformat(timespec="minutes"), **counts)

    def _is_valid(self, since: datetime, told: Mapping[str, int], pid: object) -> bool:
        base = self._base
        return (
            base is not None
            and (base.since, base.pid) == (since, pid)
            and all(told[name] >= base.told[name] for name in told)
            and time.monotonic() < base.at_s + AGAIN_S
        )

    def _counted(self, since: datetime, seq: int) -> dict[str, int] | None:
        """The parts of the records up to this number."""
        try:
            found = count_since(self._root, since, seq)
        except EdgeError as error:
            self._trouble.happened(f"the parts of the shift are not counted: {error}")
            return None
        self._trouble.ended()
        return {name: found[code] for code, name in CODES.items()}


def count_since(root: Path, since: datetime, seq: int) -> Counter[int]:
    """How many of the parts that were judged since then have which code; up to this number.

    It goes back through the records, a few thousand at a time, to the first that is older, so that
    neither the age of the database matters nor a statement takes long. edge.archive.query would
    do, too, and bring numpy into this process.
    Raises: StorageError.
    """
    first = utc_text(since)
    found: Counter[int] = Counter()
    with reading(root) as connection:
        if connection is None or not has_table(connection, "records"):
            return found
        for last in range(seq, 0, -WINDOW):
            rows = connection.execute(COUNT, (first, last - WINDOW, last)).fetchall()
            found.update({code: count for code, count, _ in rows if code in CODES})
            if any(str(oldest) < first for code, _, oldest in rows if code in CODES):
                break
    return found


def utc_text(moment: datetime) -> str:
    """As records have times, which sort as texts do."""
    utc = moment.astimezone(timezone.utc)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def began_at(now: datetime, begins: Sequence[str]) -> datetime:
    """When the shift of this moment began. begins: HH:MM, at least one."""
    days = (now - timedelta(days=1), now)
    starts = (
        day.replace(hour=int(begin[:2]), minute=int(begin[3:]), second=0, microsecond=0)
        for day in days
        for begin in begins
    )
    return max(start for start in starts if start <= now)


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    return value if type(value) is int and value >= 0 else 0
