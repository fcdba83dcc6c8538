"""One calibration session: parts that are shown to a client of the socket and get no verdict.

    decision thread    take: a frame of the camera; add: a part that triggers have told apart
    a client's thread  open, next_part, next_frame, recall, close

What the decision thread hands over lies in small queues. Where one is full, because the client does
not fetch, a part is left out and counted: nothing waits for a client.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge.decide.aggregate import STATION_FAULTS
from edge.decide.gate import Gate, Part
from edge.errors import BusyError, CalibrationError, ConfigError
from edge.runtime.active import ActiveBundle
from edge.runtime.current import CurrentBundle
from edge.runtime.parts import JudgedFrame
from edge.runtime.pause import Pause
from edge.types import Frame, Judgment, Reason

log = logging.getLogger(__name__)

WAITING_PARTS, WAITING_FRAMES = 2, 4  # that a client has not fetched yet
WAITING_BYTES = 256 << 20  # of the parts that wait, but for the first
MEMORY_BYTES = 256 << 20  # of the frames that are remembered, so that they can be scored again
NOT_FRESH = (Reason.STALE, Reason.BLIND, Reason.CAMERA_MISMATCH)

NewGate = Callable[[ActiveBundle], Gate["Shown"] | None]


@dataclass(frozen=True, eq=False)
class Shown:
    """One frame of a part that is shown, cropped, and how the station has judged it."""

    window: Frame
    judgment: Judgment

    @property
    def size(self) -> int:
        """Bytes of its pixels."""
        depth = self.window.depth
        return self.window.color.nbytes + (0 if depth is None else depth.nbytes)


@dataclass(eq=False)
class Session:
    """One of them. owner: whoever has opened it. active: what judges, as long as the session lasts.

    who, what: as the client says. gate: tells parts apart in free run; None where triggers do.
    ended: why it is over, empty while it is not. parts: that were fetched. missed: that the client
    did not fetch in time.
    """

    owner: object
    who: str
    what: str
    active: ActiveBundle
    gate: Gate[Shown] | None
    ended: str = ""
    parts: int = 0
    missed: int = 0
    wants_frames: bool = False
    waiting: queue.Queue[Part[Shown]] = field(default_factory=lambda: queue.Queue(WAITING_PARTS))
    frames: queue.Queue[Frame] = field(default_factory=lambda: queue.Queue(WAITING_FRAMES))
    memory: dict[int, Frame] = field(default_factory=dict)
    used: int = 0  # bytes of `memory`


class Sessions:
    """At most one session at a time. Thread-safe, as the module says."""

    def __init__(
        self,
        pause: Pause,
        current: CurrentBundle,
        is_between_parts: Callable[[], bool],
        new_gate: NewGate,
    ) -> None:
        """new_gate: tells the parts of a session apart; gives None where triggers do."""
        self._pause, self._current = pause, current
        self._is_between_parts, self._new_gate = is_between_parts, new_gate
        self._lock = threading.Lock()  # of the clients' threads: one opens or closes at a time
        self._session: Session | None = None  # replaced as a whole; the decision thread reads it

    # --- the threads of the clients ---

    def open(self, owner: object, who: str, what: str) -> Session:
        """Show parts to `owner` from now on.

        Raises: BusyError if another session or a part is open.
        """
        with self._lock:
            other = self._session
            if other is not None:
                raise BusyError(
                    f"{other.who} is calibrating this station ({other.what}): wait for the end, or"
                    " stop that command"
                )
            active = self._current.get()
            opened = Session(owner, who, what, active, self._new_gate(active))
            self._session = opened  # before its first frame
            if self._pause.begin_session(self._is_between_parts, f"{what}, by {who}"):
                return opened
            self._session = None
        raise BusyError("a part is open: repeat the command between two parts")

    def of(self, owner: object) -> Session:
        """The session of this client.

        Raises: CalibrationError if it has none, or it is over.
        """
        session = self._session
        if session is None or session.owner is not owner:
            raise CalibrationError("no calibration is open on this connection: repeat the command")
        if session.ended:
            raise CalibrationError(f"the calibration has ended, {session.ended}: repeat it")
        return session

    def close(self, owner: object) -> Session | None:
        """Judge parts again; returns the session that is over, None if this client had none."""
        with self._lock:
            session = self._session
            if session is None or session.owner is not owner:
                return None
            self._pause.end_session()
            self._session = None
            return session

    def end_of(self, owner: object) -> str:
        """Why the station has ended the session of this client; empty where it has not."""
        session = self._session
        return session.ended if session is not None and session.owner is owner else ""

    def is_open_for(self, owner: object) -> bool:
        """Whether this client has a session."""
        session = self._session
        return session is not None and session.owner is owner

    def told(self) -> Mapping[str, Any] | None:
        """Who is calibrating what; None if nobody is."""
        session = self._session
        return None if session is None else {"who": session.who, "what": session.what}

    # --- the decision thread ---

    def take(self, judged: JudgedFrame) -> None:
        """A frame of the camera. Never waits."""
        session = self._session
        if session is None or session.ended or judged.frame is None:
            return
        if not _is_same(judged.active, session.active):
            session.ended = "another bundle or engine judges now"
            return
        if session.wants_frames and judged.judgment.reason not in NOT_FRESH:
            _put(session.frames, judged.frame)
        gate = session.gate
        if gate is None:
            return
        if judged.active is not session.active:  # other site inputs, the same engine
            session.active, gate = judged.active, gate.under(judged.active.rule)
            session.gate = gate
        shown = shown_of(judged)
        is_blind = judged.judgment.reason in STATION_FAULTS
        for part in gate.lose(shown) if is_blind else gate.feed(judged.sighting, shown):
            _add(session, part)

    def add(self, part: Part[JudgedFrame]) -> None:
        """A part that triggers have told apart. Never waits."""
        session = self._session
        frames = tuple(shown_of(one) for one in part.frames if one.frame is not None)
        if session is not None and not session.ended and frames:
            _add(session, Part(frames))


def shown_of(judged: JudgedFrame) -> Shown:
    """The crop, with pixels of its own: the whole frame can be freed."""
    frame = judged.frame
    assert frame is not None
    try:
        window = frame.cropped(*judged.active.site(frame.serial).crop)
    except ConfigError:  # the judgment says so
        window = frame
    depth = None if window.depth is None else np.array(window.depth)
    return Shown(replace(window, color=np.array(window.color), depth=depth), judged.judgment)


def remember(session: Session, shown: Shown) -> int | None:
    """Keep a frame, so that it can be scored again; returns its name, or None if the memory is
    full. For the thread of the session's client.
    """
    if session.used + shown.size > MEMORY_BYTES:
        return None
    name = len(session.memory)
    session.memory[name] = shown.window
    session.used += shown.size
    return name


def recall(session: Session, name: int) -> Frame:
    """A frame that is remembered. Raises: CalibrationError if it is not."""
    try:
        return session.memory[name]
    except KeyError:
        raise CalibrationError(f"frame {name} is not remembered: repeat the calibration") from None


def _is_same(one: ActiveBundle, other: ActiveBundle) -> bool:
    return one.installed.digest == other.installed.digest and one.engine is other.engine


def _add(session: Session, part: Part[Shown]) -> None:
    waiting = session.waiting
    size = sum(shown.size for shown in part.frames)
    held = sum(shown.size for one in tuple(waiting.queue) for shown in one.frames)
    if (held and held + size > WAITING_BYTES) or not _put(waiting, part):
        session.missed += 1


def _put(waiting: queue.Queue[Any], item: object) -> bool:
    """False where it finds no room."""
    try:
        waiting.put_nowait(item)
    except queue.Full:
        return False
    return True
