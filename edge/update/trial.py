"""Whether a station is healthy with a new bundle: from what it says each second to a decision.

No file, no clock, no camera: edge/update/watch.py looks, this decides. What the station suffered
from before is not held against the bundle, nor is a camera that was unplugged meanwhile: such time
does not count, and the trial goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.update.state import TrialRecord

# what a bundle can be the cause of, by the reason that the station gives
OF_THE_BUNDLE = frozenset(
    {"bundle", "engine", "not_finite", "camera_mismatch", "uncalibrated", "slow"}
)
JUDGES_ALL_THE_SAME = frozenset({"", "archive", "power"})  # reasons with which parts are judged
TROUBLE_S = 20.0  # a fault that the bundle can be the cause of may last this long
DOWN_S = 60.0  # no process at all may last this long: systemd starts one after 2 s
LONGEST_S = 7200.0  # of the time in which it is to be taken up, however long its trial is
RESTARTS = 2  # of the process, within one trial
WHY_LIMIT = 300  # characters of what the station says, in a sentence that is remembered
PARTS_LEAST = 5  # rejects of fewer parts say nothing at the end of the time


@dataclass(frozen=True)
class Bounds:
    """What a trial asks for, as [update] has it. share: of the parts that may be NG or UNKNOWN."""

    parts: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Look:
    """The station at one moment.

    at_s: on a clock that never goes back. said: the station's status file; None if no `edge run` is
    at work, empty if it says nothing (yet).
    """

    at_s: float
    said: Mapping[str, Any] | None


class Trial:
    """One bundle on trial. `look` is told the station's state about once a second."""

    def __init__(self, record: TrialRecord, bounds: Bounds) -> None:
        """record: how far an earlier process came."""
        self._record, self._bounds = record, bounds
        self._patience_s = min(bounds.seconds, LONGEST_S)
        self._parts, self._rejected = record.parts, record.rejected
        self._judged_s = record.judged_s
        self._last: Look | None = None
        self._since: dict[str, float] = {}  # when it was first seen that ...
        self._counted: tuple[int, int] | None = None  # (parts, rejected) as the station counts
        self._process: tuple[int, float] | None = None
        self._restarts = 0

    @property
    def record(self) -> TrialRecord:
        """How far it came, to be kept."""
        now = {"parts": self._parts, "rejected": self._rejected, "judged_s": self._judged_s}
        return self._record.model_copy(update=now)

    @property
    def is_healthy(self) -> bool:
        """Whether it has passed: enough parts, or enough time in which the station judged."""
        enough = self._parts >= self._bounds.parts or self._judged_s >= self._bounds.seconds
        return enough and not self._too_many_rejected()

    def look(self, look: Look) -> str:
        """Take one look into account. Returns why the station is not healthy with this bundle;
        empty while nothing speaks against it.
        """
        passed_s = 0.0 if self._last is None else max(0.0, look.at_s - self._last.at_s)
        self._last = look
        why = self._without(look) or self._of_process(look.said) or self._of_state(look, passed_s)
        return why or (self._rejects() if self._too_many_rejected() else "")

    def _without(self, look: Look) -> str:
        """A station that is down, or does not say anything."""
        down_s = self._lasts("down", look.said is None, look.at_s)
        if down_s > DOWN_S:
            return f"`edge run` has not been at work for {down_s:.0f} s"
        silent_s = self._lasts("silent", not look.said, look.at_s)  # also if it starts in vain
        if silent_s > self._patience_s:
            return f"`edge run` has not judged for {silent_s / 60:.0f} min"
        return ""

    def _of_process(self, said: Mapping[str, Any] | None) -> str:
        """A process that ends again and again."""
        if not said:
            return ""
        process = (said["pid"], float(said.get("uptime_s") or 0))
        before, self._process = self._process, process
        if before is not None and (process[0] != before[0] or process[1] < before[1]):
            self._restarts += 1
            self._counted = None
        if self._restarts <= RESTARTS:
            return ""
        return f"`edge run` ended {self._restarts} times with it"

    def _of_state(self, look: Look, passed_s: float) -> str:
        said = look.said
        if not said:
            return ""
        reason = str(said["reason"])
        is_taken = said.get("bundle") == self._record.slot
        if is_taken:
            self._count(said)
        if is_taken and said["ready"] and reason in JUDGES_ALL_THE_SAME:
            self._judged_s += passed_s
        if self._lasts("waits", not is_taken, look.at_s) > self._patience_s:
            return f"the station did not take it up within {self._patience_s / 60:.0f} min"
        is_fault = reason in OF_THE_BUNDLE and reason != self._record.reason_before
        if self._lasts("fault", is_fault, look.at_s) > TROUBLE_S:
            more = f": {said['why'][:WHY_LIMIT]}" if said.get("why") else ""
            return f"the station is in state {said['state'][:WHY_LIMIT]}, reason {reason}{more}"
        return ""

    def _lasts(self, what: str, is_so: bool, at_s: float) -> float:
        """For how many seconds something has been so without a break."""
        if not is_so:
            self._since.pop(what, None)
            return 0.0
        return at_s - self._since.setdefault(what, at_s)

    def _count(self, said: Mapping[str, Any]) -> None:
        """Parts since the last look; a count that went back began anew."""
        ok, rejected = int(said.get("ok") or 0), int(said.get("ng") or 0)
        rejected += int(said.get("unknown") or 0)
        now, before = (ok + rejected, rejected), self._counted
        self._counted = now
        if before is None or now[0] < before[0] or now[1] < before[1]:
            return
        self._parts += now[0] - before[0]
        self._rejected += now[1] - before[1]

    def _too_many_rejected(self) -> bool:
        """More than the share allows, of the parts that a trial has or, at its end, had."""
        of = self._bounds.parts
        if self._judged_s >= self._bounds.seconds and PARTS_LEAST <= self._parts < of:
            of = self._parts
        return self._rejected > self._bounds.share * of

    def _rejects(self) -> str:
        share = self._bounds.share
        return (
            f"{self._rejected} of {self._parts} parts were NG or UNKNOWN with it, max_rejected"
            f" allows {share:.0%}"
        )
