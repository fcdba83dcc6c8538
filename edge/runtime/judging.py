"""The engine thread: from the mailbox through the checks and the engine to the decision thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from edge.camera.contract import find_mismatch, find_staleness
from edge.decide.blind import Sight
from edge.decide.verdict import unjudged
from edge.errors import ConfigError
from edge.runtime.active import ActiveBundle
from edge.runtime.changes import close_engine
from edge.runtime.current import CurrentBundle
from edge.runtime.deciding import Deciding
from edge.runtime.health import Health
from edge.runtime.mailbox import Mailbox, Reopened, Wanted
from edge.runtime.pace import FramePace
from edge.runtime.parts import JudgedFrame
from edge.runtime.pipeline import inspect
from edge.runtime.progress import Progress
from edge.runtime.scoring import Scoring
from edge.types import Frame, Judgment, Reason

log = logging.getLogger(__name__)

PASS_S = 0.1  # without a frame the thread looks for a change after this long
SWAP_S = 0.2  # a bundle that waits may hold up one frame for this long
TELL_AGAIN_S = 60.0  # between two log lines for a reason that comes and goes with the frames


class FrameJudge:
    """Judges the frames of one camera, one after the other. Used by the engine thread alone."""

    def __init__(self, health: Health, max_age_ms: float, finds_freezes: bool) -> None:
        """max_age_ms: an older frame is stale. finds_freezes: whether a picture that repeats itself
        is a fault; False for still images, among which there may be two of the same.
        """
        self._health, self._max_age_ms, self._finds_freezes = health, max_age_ms, finds_freezes
        self._sight = Sight()
        self._previous: Frame | None = None
        self._refusal: Reason | None = None  # why the last frame was not given to the engine
        self._quiet_until_s: dict[Reason, float] = {}  # on the monotonic clock, for the log

    def judge(self, frame: Frame, active: ActiveBundle, received_ns: int | None = None) -> Judgment:
        """The frame's judgment: UNKNOWN without asking the engine where the frame cannot be
        trusted, or the site's files cannot be read.

        received_ns: when it came from the camera, if it has waited for the engine since then
        because a trigger owns it; its age is that of this moment.
        """
        refused = self._find_refusal(frame, active, received_ns or time.monotonic_ns())
        self._previous = frame
        if refused is not None:
            return self._refuse(*refused, active)
        try:
            site = active.site(frame.serial)
        except ConfigError as error:
            return self._refuse(Reason.UNCALIBRATED, str(error), active)
        self._refusal = None
        times = self._health.times
        times.note("wait", (time.monotonic_ns() - frame.captured_mono_ns) / 1e6)
        with times.measured("engine"):
            return inspect(frame, site, active.engine, active.rule)

    def forget_previous(self) -> None:
        """The next frame is of a camera that was opened again: nothing is to be compared."""
        self._previous = None

    def _find_refusal(
        self, frame: Frame, active: ActiveBundle, now_ns: int
    ) -> tuple[Reason, str] | None:
        """Why the frame cannot be trusted, and a sentence about it; the first reason of several."""
        checks: tuple[tuple[Reason, Callable[[], str | None]], ...] = (
            (Reason.STALE, lambda: find_staleness(self._previous, frame, now_ns, self._max_age_ms)),
            (Reason.STALE, lambda: self._sight.find_freeze(frame) if self._finds_freezes else None),
            (Reason.CAMERA_MISMATCH, lambda: find_mismatch(frame, active.manifest.camera)),
            (Reason.BLIND, lambda: self._sight.find_blindness(frame)),
        )
        for reason, check in checks:
            sentence = check()
            if sentence is not None:
                return reason, sentence
        return None

    def _refuse(self, reason: Reason, sentence: str, active: ActiveBundle) -> Judgment:
        """UNKNOWN; logged when it begins and not 30 times a second, nor with every other frame
        where a good one comes between.
        """
        if reason is not self._refusal:
            if time.monotonic() >= self._quiet_until_s.get(reason, 0.0):
                log.warning("%s: %s", reason.value, sentence)
                self._quiet_until_s[reason] = time.monotonic() + TELL_AGAIN_S
            self._health.explain(reason, sentence)
        self._refusal = reason
        return unjudged(reason, active.rule.threshold)


class Seen(NamedTuple):
    """frames: judged since the start. serial: of the camera that gave the last one."""

    frames: int
    serial: str


class Judging:
    """What the engine thread does.

    `seen` may be read by any thread: this one replaces it as a whole, which Python does at once.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        judge: FrameJudge,
        current: CurrentBundle,
        deciding: Deciding,
        health: Health,
        progress: Progress,
        took_effect: Callable[[], None],
        stopping: threading.Event,
        watches_pace: bool = True,
        scoring: Scoring | None = None,
    ) -> None:
        """took_effect: called after another bundle or other site state judges. watches_pace: the
        engine has to judge most of the camera's frames; False where triggers say which. scoring:
        what a calibration asks the engine for, between two frames.
        """
        self._scoring = scoring or Scoring()
        self._watches_pace = watches_pace
        self._mailbox, self._judge, self._current = mailbox, judge, current
        self._deciding, self._health, self._progress = deciding, health, progress
        self._took_effect, self._stopping = took_effect, stopping
        self._pace = FramePace()
        self.seen = Seen(0, "")

    def run(self) -> None:
        """Until the station stops."""
        while not self._stopping.is_set():
            self._score()
            item = self._mailbox.take(0.0 if self._scoring.has_work else PASS_S)
            self._take_change()
            if item is None:
                continue
            if isinstance(item, Frame):
                self._take_frame(item)
            elif isinstance(item, Wanted):
                self._take_frame(item.frame, item)
            elif isinstance(item, Reopened):
                self._judge.forget_previous()
            else:
                self._judge.forget_previous()
                self._deciding.put(item)
            self._progress.step()

    def _take_frame(self, frame: Frame, wanted: Wanted | None = None) -> None:
        active = self._current.get()
        received_ns = None if wanted is None else wanted.received_ns
        judgment = self._judge.judge(frame, active, received_ns)
        trigger = None if wanted is None else wanted.trigger
        self._deciding.put(JudgedFrame(frame, judgment, active, trigger))
        self.seen = Seen(self.seen.frames + 1, frame.serial)
        if self._watches_pace:
            self._health.note_pace(self._pace.keeps_up(frame.frame_number))

    def _score(self) -> None:
        """Frames that are passed over meanwhile do not make the station slow."""
        if self._scoring.has_work:
            self._scoring.work(self._current.get())
            self._pace = FramePace()

    def _take_change(self) -> None:
        """Between parts: no frame is on its way to the decision thread, and no part is open
        there.
        """
        if not self._current.is_waited_for or not self._deciding.is_between_parts(SWAP_S):
            return
        before, new = self._current.take(), self._current.get()
        if before.engine is not new.engine:
            close_engine(before.engine)
        log.info("product=%s bundle=%s takes effect", new.installed.product, new.bundle)
        self._took_effect()
