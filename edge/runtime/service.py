"""`edge run`: camera, engine, decision and line, each in its own thread, and the main loop that
watches over them.

capture thread   camera -> mailbox (the newest frame only): edge/runtime/capture.py
engine thread    mailbox -> judged frame (contract, staleness, graph, rule)
decision thread  judged frames -> parts -> commit -> verdict
line threads     MQTT: edge/line/ (verdicts.py, records.py, link.py)
images thread    edge/runtime/keeper.py, low priority
housekeeping     edge/runtime/housekeeping.py: the bounds of the records, and whether the disk works
status thread    edge/runtime/status.py: a file for `edge status`, each second
opening thread   a new bundle or site state, resolved beside the running one:
                 edge/runtime/changes.py
main loop        signals, watchdog; it never waits for an engine, a disk or the camera
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any

from edge.background import in_background
from edge.camera.contract import find_mismatch, find_staleness
from edge.config import EdgeConfig
from edge.decide.blind import Sight
from edge.decide.verdict import unjudged
from edge.errors import CameraMismatch, ConfigError, EdgeError, StorageError
from edge.line.credentials import with_paths_below
from edge.line.message import state_payload
from edge.line.mqtt import MqttLine
from edge.line.outbox import Fields, Outbox
from edge.runtime.active import ActiveStation, EngineLoader, first_station
from edge.runtime.capture import CameraMaker, Capture, Progress
from edge.runtime.changes import OPEN_LIMIT_S, Changes, close_engine
from edge.runtime.health import STALL_S, Health
from edge.runtime.housekeeping import Housekeeping
from edge.runtime.keeper import Keeper
from edge.runtime.mailbox import Ended, Lost, Mailbox
from edge.runtime.notify import Notifier
from edge.runtime.pace import FramePace
from edge.runtime.parts import JudgedFrame, PartMaker
from edge.runtime.pipeline import inspect
from edge.runtime.status import StatusFile
from edge.runtime.stopping import StopSignals
from edge.station.lock import RUN, locked
from edge.station.store import Store
from edge.types import Frame, Judgment, Reason

log = logging.getLogger(__name__)

PASS_S = 0.1  # one pass of the main loop
START_PASS_S = 1.0  # one pass while the first engine is opened
# past the unit's TimeoutStartSec, a start that hangs is noticed after so long
START_EXTEND_S = 30.0
SWAP_S = 0.2  # a bundle that waits may hold up one frame for so long
LINE_S = 5.0  # for the broker, where it is waited for
TELL_AGAIN_S = 60.0  # a reason that comes and goes with the frames is logged so often
END_S = 1.0  # after a signal the threads have so long to end, of the 2 s that it may all take
IMAGES_S = 10.0  # at the end of a finite source the disk has so long to take the images
DRAIN_S = 30.0  # at the end of a finite source the broker has so long to take the records

Decided = JudgedFrame | Lost | Ended


@dataclass(frozen=True)
class RunPlan:
    """What one call of `edge run` is to do.

    max_parts: end after so many parts; None: until stopped or the source has ended.
    each_frame: every image is a part (data sets of stills, graphs without presence).
    lossless: no frame is dropped for a newer one (files).
    waits_for_line: do not play before the broker is there, so that the first verdict of a finite
    play is not lost.
    """

    max_parts: int | None = None
    each_frame: bool = False
    lossless: bool = False
    waits_for_line: bool = False


class NoLine:
    """A station without a broker: verdicts are stored only."""

    # MqttLine's signature
    def publish_verdict(self, fields: Fields, deadline_mono_ns: int) -> bool:  # noqa: ARG002
        """Nobody listens."""
        return False

    def records_waiting(self) -> None:
        """They stay in the outbox."""


class Service:
    """One station at work.

    `run` returns when it was stopped, the source has ended, or max_parts were decided.
    """

    def __init__(
        self,
        store: Store,
        config: EdgeConfig,
        load_engine: EngineLoader,
        make_camera: CameraMaker,
        plan: RunPlan,
        notifier: Notifier | None = None,
        progress: Progress | None = None,
        signals: StopSignals | None = None,
    ) -> None:
        """progress: that the camera's process shares.

        signals: that ask this run to stop; None: only `stop` does.
        """
        self._store, self._config, self._plan = store, config, plan
        self._load_engine = load_engine
        self._notifier = notifier or Notifier()
        self._progress, self._signals = progress or Progress(), signals or StopSignals()
        self._stopping, self._done = threading.Event(), threading.Event()
        self._mailbox = Mailbox(plan.lossless)
        self._sight, self._pace = Sight(), FramePace()
        self._judged: queue.Queue[Decided] = queue.Queue(8)
        self.health = Health(self._state_changed, None if plan.lossless else STALL_S)
        self._line: MqttLine | None = None
        self._counts = {"seq": 0, "waiting": 0, "dropped": 0}
        self._started_s = time.monotonic()
        self._failure: EdgeError | None = None
        self._refusal: Reason | None = None  # why the last frame was not given to the engine
        self._told_until_s: dict[
            Reason, float
        ] = {}  # monotonic: until when it need not be logged again
        self._frames, self._serial = (
            0,
            "",
        )  # judged since the start; of the camera that gave the last one
        self._status = StatusFile(store.root, self._said)
        self._capture = Capture(
            make_camera, lambda: self._station, self._mailbox, self._stopping, config.camera.fps
        )
        self._workers = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for name, work in (
                ("capture", self._capture.run),
                ("engine", self._judge),
                ("decision", self._decide),
            )
        ]

    def stop(self) -> None:
        """End soon. Callable from any thread, not from a signal handler: see StopSignals."""
        self._stopping.set()

    def run(self) -> int:
        """Judge parts. Returns how many were decided: none if it was stopped before it had an
        engine.

        Raises: BusyError if another process runs this root; BundleError, EngineError or ConfigError
            if there is nothing to judge with; StorageError if the outbox cannot be opened;
            DataError if a file to play cannot be read.
        """
        with locked(self._store.data, RUN, "edge run"):
            self._status.forget()
            first = self._first_station()
            if first is None:
                self._notifier.stopping()
                return 0
            self._station = first
            self._changes = Changes(self._store, self._load_engine, first)
            self.health.note_bundle(not first.refused)
            self._outbox = Outbox(self._store.data / "line.sqlite")
            retention = self._config.retention
            self._keeper = Keeper(
                self._store.data, retention, self._outbox.clock, self._outbox.find_stamp
            )
            self._housekeeping = Housekeeping(self._outbox, retention, self.health.note_storage)
            self._open_line()
            self._parts = PartMaker(
                self._config.station.station,
                self._config.decision,
                retention.keep_ok_every,
                self._outbox,
                self._line or NoLine(),
                self._keeper,
                self.health,
                self._plan.each_frame,
                not self._plan.lossless,
            )
            self._keeper.start()
            self._housekeeping.start()
            self._status.start()
            if self._line is not None:
                self._line.start()
            if self._plan.waits_for_line:
                self._await_line()
            for worker in self._workers:
                worker.start()
            self._notifier.ready()
            try:
                self._watch()
            finally:
                self._shut_down()
        if self._failure is not None:
            raise self._failure
        return self.health.parts

    # --- main loop ---

    def _first_station(self) -> ActiveStation | None:
        """What is active, its engine opened or built, which may take minutes; None if the run is
        stopped meanwhile.

        The time for it is asked for here and not by the thread that opens: a main loop that hangs
        is started anew, and so is an engine that hangs, after OPEN_LIMIT_S.
        """
        limit_s = time.monotonic() + OPEN_LIMIT_S
        opening = in_background("opening", lambda: first_station(self._store, self._load_engine))
        while not futures.wait([opening], START_PASS_S).done:
            if self._is_asked_to_stop():
                return None
            if time.monotonic() < limit_s:
                self._notifier.extend(START_EXTEND_S)
        return opening.result()

    def _watch(self) -> None:
        seen, was_silent = -1, False
        while not self._is_asked_to_stop() and not self._done.wait(PASS_S):
            if self._progress.count != seen:
                seen = self._progress.count
                self._notifier.alive()
            was_silent, was_before = self._capture.is_silent(self._progress.last_s), was_silent
            if was_silent and not was_before:
                self.health.note_lost(Reason.CAMERA_LOST)
            self._changes.follow()
            self.health.note_bundle(not self._changes.refused)
        log.info("parts=%d p50_ms=%s", self.health.parts, self.health.times.medians())
        if self._failure is None:
            self._drain()

    def _drain(self) -> None:
        """The source has ended: let the broker take the records, unless it is away or the station
        is asked to stop.
        """
        if self._line is None:
            return
        self._state_changed()  # the last counters
        takes_records = self._line.is_connected and self._line.record_problem is None
        end_s = time.monotonic() + (DRAIN_S if takes_records else LINE_S)
        while (
            self._outbox.counts()["waiting"]
            and time.monotonic() < end_s
            and not self._is_asked_to_stop()
        ):
            time.sleep(0.02)

    def _await_line(self) -> None:
        end_s = time.monotonic() + LINE_S
        while self._line is not None and time.monotonic() < end_s and not self._is_asked_to_stop():
            if self._line.wait_connected(PASS_S):
                return

    def _is_asked_to_stop(self) -> bool:
        if self._signals.number is not None and not self._stopping.is_set():
            log.info("%s: stopping", self._signals.name)
            self.stop()
        return self._stopping.is_set()

    def _shut_down(self) -> None:
        """Within 2 s of a signal. A thread that hangs in an engine, a disk or a socket is left
        behind.

        The process then leaves it through os._exit: edge/__main__.py.
        """
        images_s = 0.3 if self._stopping.is_set() else IMAGES_S
        self._notifier.stopping()
        self._stopping.set()
        self._mailbox.close()
        end_s = time.monotonic() + END_S
        capture, *others = self._workers
        for worker in others:
            worker.join(max(0.0, end_s - time.monotonic()))
        capture.join(max(0.0, end_s - time.monotonic()) if self._capture.is_open else PASS_S)
        if capture.is_alive():
            self._capture.abandon()
        self._keeper.stop(images_s)
        self._housekeeping.stop(0.4)
        self._status.stop(0.4)
        if self._line is not None:
            self._line.stop()
        if not any(worker.is_alive() for worker in others):  # capture never asks the outbox
            self._outbox.close()

    def _guard(self, work: Callable[[], None]) -> None:
        """A worker that ends ends the run.

        An operator's error is kept for the caller; a bug shows its traceback.
        """
        failure: EdgeError | None = EdgeError(
            "a thread of `edge run` broke: the traceback above says where. Report it"
        )
        try:
            work()
            failure = None
        except EdgeError as error:
            failure = error
        finally:
            self._failure = self._failure or failure
            if not self._stopping.is_set():
                self._done.set()

    # --- engine ---

    def _judge(self) -> None:
        previous: Frame | None = None
        while not self._stopping.is_set():
            item = self._mailbox.take(PASS_S)
            self._swap_station()
            if item is None:
                continue
            if isinstance(item, Frame):
                self._send(JudgedFrame(item, self._judge_frame(item, previous), self._station))
                self._frames, self._serial = self._frames + 1, item.serial
                self.health.note_pace(self._pace.keeps_up(item.frame_number))
                previous = item
            else:
                previous = None
                self._send(item)
            self._progress.step()

    def _send(self, item: Decided) -> None:
        """To the decision thread; waits for it, so that a slow disk shows as dropped frames and not
        as stale ones.
        """
        while not self._stopping.is_set():
            try:
                self._judged.put(item, timeout=PASS_S)
                return
            except queue.Full:
                continue

    def _judge_frame(self, frame: Frame, previous: Frame | None) -> Judgment:
        station = self._station
        wrong = find_staleness(previous, frame, time.monotonic_ns(), self._config.camera.max_age_ms)
        reason = Reason.STALE
        if wrong is None and not self._plan.each_frame:
            wrong = self._sight.find_freeze(frame)
        if wrong is None:
            wrong, reason = find_mismatch(frame, station.manifest.camera), Reason.CAMERA_MISMATCH
        if wrong is None:
            wrong, reason = self._sight.find_blindness(frame), Reason.BLIND
        if wrong is not None:
            return self._refused(reason, wrong)
        try:
            site = station.site(frame.serial)
        except ConfigError as error:
            return self._refused(Reason.UNCALIBRATED, str(error))
        self._refusal = None
        self.health.times.note("wait", (time.monotonic_ns() - frame.captured_mono_ns) / 1e6)
        with self.health.times.measured("engine"):
            return inspect(frame, site, station.engine, station.rule)

    def _refused(self, reason: Reason, sentence: str) -> Judgment:
        """UNKNOWN without asking the engine; said in the log when it begins, not 30 times a second.

        Nor with every other frame, where one that is good comes between.
        """
        if reason is not self._refusal:
            if time.monotonic() >= self._told_until_s.get(reason, 0.0):
                log.warning("%s: %s", reason.value, sentence)
                self._told_until_s[reason] = time.monotonic() + TELL_AGAIN_S
            self.health.explain(reason, sentence)
        self._refusal = reason
        return unjudged(reason, self._station.rule.threshold)

    def _swap_station(self) -> None:
        """Between parts: nothing is on its way to the decision thread, and no part is open
        there.
        """
        if not (
            self._changes.are_waiting and self._is_decided(SWAP_S) and self._parts.is_between_parts
        ):
            return
        before, self._station = self._station, self._changes.take()
        if before.engine is not self._station.engine:
            close_engine(before.engine)
        log.info(
            "product=%s bundle=%s takes effect",
            self._station.installed.product,
            self._station.bundle,
        )
        self._state_changed()

    def _is_decided(self, timeout_s: float) -> bool:
        """Wait until the decision thread has done with every frame; False if it took longer."""
        end_s = time.monotonic() + timeout_s
        while self._judged.unfinished_tasks:
            if time.monotonic() > end_s:
                return False
            time.sleep(0.001)
        return True

    # --- decision ---

    def _decide(self) -> None:
        last: JudgedFrame | None = None
        refused = False
        while not self._stopping.is_set():
            try:
                item = self._judged.get(timeout=PASS_S)
            except queue.Empty:
                continue
            if isinstance(item, Ended):
                self._parts.finish()
                return
            if isinstance(item, Lost):
                refused = self._lose(item, last, refused)
            else:
                self.health.note_frame(item.judgment)
                self._parts.feed(item)
                last, refused = item, False
            self._judged.task_done()
            if self._plan.max_parts is not None and self.health.parts >= self._plan.max_parts:
                return

    def _lose(self, lost: Lost, last: JudgedFrame | None, refused: bool) -> bool:
        """Returns whether a camera that does not fit has been told to the line: once, until a frame
        comes through.
        """
        mismatch = isinstance(lost.error, CameraMismatch)
        reason = Reason.CAMERA_MISMATCH if mismatch else Reason.CAMERA_LOST
        self.health.explain(reason, str(lost.error))
        self.health.note_lost(reason)
        if mismatch and not refused:
            self._parts.refuse(self._station, reason)
        elif last is not None:
            self._parts.lose(last, reason)
        return refused or mismatch

    # --- line ---

    def _open_line(self) -> None:
        if not self._config.broker.enabled:
            return
        names, broker = (
            self._config.station,
            with_paths_below(self._config.broker, self._store.root),
        )
        self._line = MqttLine(
            broker, f"edge/{names.site}/{names.line}/{names.station}", self._outbox, self._state,
            self._offline,
            self._config.decision.deadline_ms / 1e3, lambda: self.health.is_ready,
            self._line_changed,
        )  # fmt: skip
        self._line_changed()

    def _line_changed(self) -> None:
        line = self._line
        if line is not None:
            self.health.note_line(line.verdict_problem is None, line.record_problem is None)

    def details(self) -> dict[str, Any]:
        """What there is to say besides state, reason and ready: flat, JSON types, for MQTT and
        `edge status` alike.
        """
        counts, line, station = self._known_counts(), self._line, self._station
        return {
            "busy": not self._parts.is_between_parts,
            "heartbeat": 0 if line is None else line.heartbeats,
            "link": None if line is None else line.problem,
            "product": station.installed.product,
            "bundle": station.bundle,
            "engine": station.engine.name,
            "precision": station.engine.precision,
            **self.health.verdicts(),
            **{f"{stage}_ms": median for stage, median in self.health.times.medians().items()},
            "seq": counts["seq"],
            "records_waiting": counts["waiting"],
            "records_dropped": counts["dropped"],
            "records_unwritten": self._outbox.unwritten,
            "verdicts_unsent": 0 if line is None else line.counters.verdicts_unsent,
            "frames_dropped": self._mailbox.dropped + self._capture.dropped,
            "frame_gaps": self._capture.gaps,
            "camera_restarts": self._capture.restarts,
            "images_dropped": self._keeper.dropped,
            "uptime_s": int(time.monotonic() - self._started_s),
        }

    def _said(self) -> dict[str, Any]:
        """For `edge status`: what the line is told, and what it has no room for."""
        state, reason, ready = self.health.state()
        return {
            "state": state, "reason": reason, "ready": ready, "why": self.health.why,
            "camera": self._serial,
            "frames": self._frames, "powered_on_s": self._outbox.clock.powered_s(),
            **self.details(),
        }  # fmt: skip

    def _known_counts(self) -> dict[str, int]:
        """Of the outbox; the last known ones while the disk does not answer, since the state must
        be told then too.
        """
        try:
            self._counts = self._outbox.counts()
        except StorageError as error:
            log.debug("the state carries the last counts: %s", error)
        return self._counts

    def _state(self) -> bytes:
        return state_payload(*self.health.state(), self._config.station.station, self.details())

    def _offline(self, reason: str) -> bytes:
        return state_payload("offline", reason, False, self._config.station.station)

    def _state_changed(self) -> None:
        if self._line is not None:
            self._line.state_changed()
