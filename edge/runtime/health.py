"""Whether the station can judge, and what it has counted: the content of the `state` message."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from edge.runtime.latency import StageTimes
from edge.types import Code, Judgment, Reason

FAULT, DEGRADED, ONLINE = "fault", "degraded", "online"

# fault: every part is UNKNOWN until somebody does something. degraded: the station tries to come
# back by itself. A lost camera becomes a fault when no remedy helped (note_camera). A calibration
# comes before what it may be there to mend.
LEVELS: dict[Reason, str] = {
    Reason.STORAGE: FAULT,
    Reason.CALIBRATING: DEGRADED,
    Reason.CAMERA_MISMATCH: FAULT,
    Reason.UNCALIBRATED: FAULT,
    Reason.ENGINE: FAULT,
    Reason.NOT_FINITE: FAULT,
    Reason.CAMERA_LOST: DEGRADED,
    Reason.BLIND: DEGRADED,
    Reason.STALE: DEGRADED,
    Reason.PAUSED: DEGRADED,
    Reason.SLOW: DEGRADED,
    Reason.LINK: DEGRADED,
    Reason.ARCHIVE: DEGRADED,
    Reason.BUNDLE: DEGRADED,
    Reason.POWER: DEGRADED,
}
NOT_OF_FRAMES = (
    Reason.STORAGE,
    Reason.CALIBRATING,
    Reason.PAUSED,
    Reason.SLOW,
    Reason.BUNDLE,
    Reason.LINK,
    Reason.ARCHIVE,
    Reason.POWER,
)
# a good frame ends them
OF_FRAMES = tuple(reason for reason in LEVELS if reason not in NOT_OF_FRAMES)
# with nothing worse, a part is judged and its verdict told
JUDGES_ALL_THE_SAME = {Reason.BUNDLE, Reason.ARCHIVE, Reason.POWER}
STALL_S = 2.0  # after this long without a judged frame the engine does not keep up


class Health:
    """What is wrong now, worst first. Thread-safe."""

    def __init__(self, stall_s: float | None = STALL_S) -> None:
        """stall_s: after this long without a judged frame it is SLOW; None where frames wait for
        the engine (files).
        """
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._stall_s = stall_s
        self.times = StageTimes()
        self._lock = threading.Lock()
        self._wrong: set[Reason] = set()
        self._why: dict[Reason, str] = {}
        self._verdicts: Counter[str] = Counter()  # since the counters began
        self._parts_before = 0  # decided before they began
        self._seen_frame = False
        self._frame_at_s = 0.0
        self._camera_is_given_up = False

    def listen(self, changed: Callable[[], None]) -> None:
        """Call `changed` from now on whenever something that is noted changes what is wrong: in the
        thread that noted it, outside the lock.
        """
        with self._lock:
            self._listeners = (*self._listeners, changed)

    def note_frame(self, judgment: Judgment) -> None:
        """A frame was judged: its own fault is wrong now, the other faults of frames are over."""
        wrong = {judgment.reason} & set(OF_FRAMES)
        self._replace(OF_FRAMES, wrong, seen=True)

    def note_lost(self, reason: Reason) -> None:
        """The camera was lost or is another one."""
        self._replace(OF_FRAMES, {reason}, seen=False)

    def note_camera(self, is_given_up: bool) -> None:
        """Every remedy was tried on a camera that gives no frames: its loss is then a fault."""
        self._camera_is_given_up = is_given_up

    def note_storage(self, works: bool) -> None:
        """The last commit worked, or did not."""
        self._replace((Reason.STORAGE,), set() if works else {Reason.STORAGE})

    def note_pace(self, keeps_up: bool) -> None:
        """The engine judges most of the camera's frames, or it does not."""
        self._replace((Reason.SLOW,), set() if keeps_up else {Reason.SLOW})

    def note_bundle(self, judges: bool) -> None:
        """The active bundle is the one that judges, or it could not be opened and another does."""
        self._replace((Reason.BUNDLE,), set() if judges else {Reason.BUNDLE})

    def note_power(self, why: str) -> None:
        """Why the board's power is not as commissioned, in a sentence; blank where it is."""
        self.explain(Reason.POWER, why)
        self._replace((Reason.POWER,), {Reason.POWER} if why else set())

    def note_pause(self, is_on: bool) -> None:
        """No part is judged because of a command, or it is over."""
        self._replace((Reason.PAUSED,), {Reason.PAUSED} if is_on else set())

    def note_calibrating(self, is_on: bool) -> None:
        """Parts are shown to a calibration, or it is over."""
        self._replace((Reason.CALIBRATING,), {Reason.CALIBRATING} if is_on else set())

    def note_line(self, verdicts: bool, records: bool) -> None:
        """Whether a verdict would reach the PLC now, and whether the broker takes records."""
        wrong = {
            reason
            for reason, works in ((Reason.LINK, verdicts), (Reason.ARCHIVE, records))
            if not works
        }
        self._replace((Reason.LINK, Reason.ARCHIVE), wrong)

    def explain(self, reason: Reason, sentence: str) -> None:
        """Keep a sentence about a reason that is noted, for `edge status`."""
        with self._lock:
            self._why[reason] = sentence

    @property
    def why(self) -> str:
        """The sentence for the reason that state() gives; empty where none was kept."""
        reason = self.state()[1]
        with self._lock:
            return next(
                (sentence for known, sentence in self._why.items() if known.value == reason), ""
            )

    @property
    def frame_problem(self) -> str:
        """What is wrong with the frames now, in a sentence; empty where nothing is."""
        with self._lock:
            reason = next((one for one in LEVELS if one in self._wrong and one in OF_FRAMES), None)
            return "" if reason is None else f"{reason.value}: {self._why.get(reason, '')}"

    def count(self, code: Code) -> None:
        """One more part."""
        with self._lock:
            self._verdicts[code.name.lower()] += 1

    @property
    def parts(self) -> int:
        """Parts decided since the start."""
        with self._lock:
            return self._parts_before + self._verdicts.total()

    def reset_counts(self) -> None:
        """`verdicts` begins at 0 again."""
        with self._lock:
            self._parts_before += self._verdicts.total()
            self._verdicts.clear()

    def state(self) -> tuple[str, str, bool]:
        """(state, reason, ready).

        Ready: a part would be judged now and its verdict told. So frames arrive, the engine keeps
        up, the disk and the link to the PLC work; an archive that does not take records, a
        bundle that cannot be opened while the previous one judges, or another power mode than at
        commissioning, does not stop the line.
        """
        with self._lock:
            stalled = {Reason.SLOW} if self._is_stalled() else set()
            for reason, level in LEVELS.items():
                if reason in self._wrong | stalled:
                    judges = self._wrong | stalled <= JUDGES_ALL_THE_SAME
                    is_fault = reason is Reason.CAMERA_LOST and self._camera_is_given_up
                    return FAULT if is_fault else level, reason.value, judges and self._seen_frame
            return ONLINE, "", self._seen_frame

    @property
    def is_ready(self) -> bool:
        """As in state()."""
        return self.state()[2]

    def _is_stalled(self) -> bool:
        limit_s = self._stall_s
        return (
            limit_s is not None
            and self._seen_frame
            and time.monotonic() - self._frame_at_s > limit_s
        )

    def verdicts(self) -> dict[str, int]:
        """Parts since the start or the last reset, by code."""
        with self._lock:
            return {name: self._verdicts[name] for name in ("ok", "ng", "unknown")}

    def _replace(
        self, cleared: tuple[Reason, ...], wrong: set[Reason], seen: bool | None = None
    ) -> None:
        with self._lock:
            before = (set(self._wrong), self._seen_frame)
            self._wrong = (self._wrong - set(cleared)) | wrong
            self._seen_frame = self._seen_frame if seen is None else seen
            self._frame_at_s = time.monotonic() if seen else self._frame_at_s
            after, listeners = (set(self._wrong), self._seen_frame), self._listeners
        if before != after:
            for changed in listeners:
                changed()
