"""A station at work: what it consists of, and in which order that is started and stopped.

    capture thread   camera -> mailbox (the newest frame only): capture.py
    engine thread    mailbox -> judged frame (contract, age, graph, rule): judging.py
    decision thread  judged frames -> parts -> commit -> verdict: deciding.py
    line's threads   verdicts, records and state to the plant: edge/line/
    images thread    keeper.py, low priority
    commands thread  what the plant asks for beside judging, one after the other: commanding.py
    triggers thread  what the PLC asks for, to disk and acknowledged: triggering.py
    answers thread   what is due at a trigger's deadline: triggering.py
    audit thread     rows about a lost camera: audit_rows.py
    housekeeping     the bounds of the records, and whether the disk works: housekeeping.py
    status thread    a file for `edge status`, each second: status_file.py
    control threads  the socket, for calibrations and those who look: at_socket.py, edge/control/
    drift thread     whether the parts' numbers change slowly: drift_watch.py
    opening thread   a new bundle or site state, resolved beside the one that judges: changes.py
    main loop        here: signals, watchdog; it never waits for an engine, a disk or the camera

What the threads share says how it is shared: Mailbox, CurrentBundle, Health, Progress, the queues
in Deciding and Keeper, Line, Outbox. Beside these one thread writes and others read single values:
the counters of Capture, `Judging.seen`, `Parts.is_between_parts`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from edge.camera.remedies import remedies_for
from edge.config import EdgeConfig
from edge.decide.gate import Gate
from edge.decide.gate_factory import new_gate
from edge.errors import EdgeError
from edge.line.base import LineSetup
from edge.line.commands import Commanded
from edge.line.factory import make_line, require_triggers
from edge.line.inbound import Asked
from edge.line.message import StationState
from edge.line.outbox import Outbox
from edge.runtime.active import ActiveBundle, EngineLoader
from edge.runtime.at_socket import AtSocket, Station
from edge.runtime.audit_rows import AuditRows
from edge.runtime.capture import CameraMaker, Capture
from edge.runtime.changes import Changes
from edge.runtime.command_acts import CommandActs, Controls
from edge.runtime.commanding import Commanding
from edge.runtime.current import CurrentBundle
from edge.runtime.deciding import Deciding, Parts
from edge.runtime.drift_watch import DriftWatch
from edge.runtime.healing import Healing
from edge.runtime.health import Health
from edge.runtime.housekeeping import Housekeeping
from edge.runtime.judging import FrameJudge, Judging
from edge.runtime.keeper import Keeper
from edge.runtime.mailbox import Mailbox
from edge.runtime.notify import Notifier
from edge.runtime.parts import JudgedFrame, PartMaker
from edge.runtime.pause import Pause
from edge.runtime.plan import RunPlan
from edge.runtime.progress import Progress
from edge.runtime.report import Report
from edge.runtime.status_file import StatusFile
from edge.runtime.stopping import StopRequest
from edge.runtime.triggered_parts import TriggeredParts
from edge.runtime.triggering import Triggering
from edge.runtime.waiting import deliver_records, wait_for_line
from edge.runtime.workers import Workers
from edge.station.store import Store
from edge.types import Reason

log = logging.getLogger(__name__)

PASS_S = 0.1  # one pass of the main loop
END_S = 1.0  # of the 2 s that an end by a signal may take: for the threads that a part passes
END_COMMANDS_S = 0.3  # of the same: for a command that is at work
END_AUDIT_S = 0.2  # of the same: for rows of the audit table
END_SOCKET_S = 0.2  # of the same: for the clients of the socket
END_IMAGES_S = 0.3  # of the same: for the images that wait for the disk; and for drift.json
IMAGES_S = 10.0  # the same at the end of a finite source

CAPTURE, ENGINE, DECISION = "capture", "engine", "decision"


class AtWork:
    """Everything that works while the station runs. Built, started and stopped by one thread, which
    is also the main loop.
    """

    def __init__(
        self,
        store: Store,
        config: EdgeConfig,
        load_engine: EngineLoader,
        make_camera: CameraMaker,
        plan: RunPlan,
        first: ActiveBundle,
        health: Health,
        progress: Progress,
        notifier: Notifier,
        stop: StopRequest,
    ) -> None:
        """Nothing is started, and nothing connected to. first: what judges until something changes.

        Raises: StorageError if the outbox cannot be opened; ConfigError if the line cannot be made.
        """
        self._plan, self._health, self._progress = plan, health, progress
        self._notifier, self._stop = notifier, stop
        stopping = stop.event
        self.current = CurrentBundle(first)
        self.changes = Changes(store, load_engine, self.current)
        self._audit = AuditRows(store.root)
        remedies = remedies_for(config.camera, store.root, progress.step, stopping)
        healing = Healing(remedies, config.camera.resets, self._audit.put, self._note_camera)
        self._outbox = Outbox(store.data / "line.sqlite")
        self._keeper = Keeper(
            store.data, config.retention, self._outbox.clock, self._outbox.find_stamp
        )
        self._housekeeping = Housekeeping(self._outbox, config.retention, health.note_storage)
        self._noting = threading.RLock()
        self._line = make_line(self._line_setup(store, config))
        self.pause = Pause(health)
        self.socket = self._new_socket(store, config, plan)
        self._drift = DriftWatch(
            store, self.current, lambda: self.capture.device.temperature_c, self._line.state_changed
        )
        self._watches_drift = config.camera.is_live or config.camera.kind == "virtual"
        self._triggering = self._new_triggering(config)
        admit = None if self._triggering is None else self._triggering.admit
        self.mailbox = Mailbox(plan.lossless, admit)
        self.capture = Capture(
            make_camera, self.current.get, self.mailbox, stopping, config.camera.fps, healing
        )
        self._parts = self._new_parts(config, first)
        self._deciding = self._new_deciding(health, stopping)
        self._judging = self._new_judging(config, health, progress, stopping)
        self.report = self._new_report(config, health)
        self._commanding = self._new_commanding(store, config, self._parts, self._frames_seen)
        self._status = StatusFile(store.root, self.report.for_status)
        self._workers = Workers(
            {CAPTURE: self.capture.run, ENGINE: self._judging.run, DECISION: self._deciding.run},
            stopping,
        )

    def _new_report(self, config: EdgeConfig, health: Health) -> Report:
        return Report(
            config.station.station,
            health,
            self.current,
            self.mailbox,
            self.capture,
            self._parts,
            self._line,
            self._outbox,
            self._keeper,
            self.pause,
            self._drift,
            seen=lambda: self._judging.seen,
            triggers=None if self._triggering is None else self._triggering.counts,
        )

    def _frames_seen(self) -> int:
        return self._judging.seen.frames

    def _new_deciding(self, health: Health, stopping: threading.Event) -> Deciding:
        return Deciding(
            self._parts,
            self.current,
            health,
            stopping,
            self._plan.max_parts,
            self.pause,
            watch=self.socket.note_frame,
            show=self.socket.show,
        )

    def _new_judging(
        self, config: EdgeConfig, health: Health, progress: Progress, stopping: threading.Event
    ) -> Judging:
        return Judging(
            self.mailbox,
            FrameJudge(health, config.camera.max_age_ms, finds_freezes=not self._plan.each_frame),
            self.current,
            self._deciding,
            health,
            progress,
            self._line.state_changed,
            stopping,
            watches_pace=self._triggering is None,
            scoring=self.socket.scoring,
        )

    def start(self) -> None:
        """Start everything; what the line or the disk does not take at once is no reason to wait,
        unless the plan waits for the line.
        """
        self._note_bundle()
        self._note_line()
        self._audit.start()
        self._keeper.start()
        self._housekeeping.start()
        self._status.start()
        self.socket.start()
        if self._triggering is not None:
            self._triggering.start()
        if self._commanding is not None:
            self._commanding.start()
        self._line.start()
        if self._watches_drift:
            self._drift.start()
        self._health.listen(self._line.state_changed)
        self._line.state_changed()  # whatever has changed since its start
        if self._plan.waits_for_line:
            wait_for_line(self._line, self._stop.is_asked)
        self._workers.start()
        self._notifier.ready()

    def watch(self) -> None:
        """The main loop: until the station is asked to stop, or a worker has ended."""
        seen, was_silent = -1, False
        while not self._stop.is_asked() and not self._workers.wait_ended(PASS_S):
            steps = self._progress.steps
            if steps.count != seen:
                seen = steps.count
                self._notifier.alive()
            is_silent = self.capture.is_silent(steps.last_s)
            if is_silent and not was_silent:
                self._health.note_lost(Reason.CAMERA_LOST)
            was_silent = is_silent
            self.changes.follow()
            self._note_bundle()
        log.info("parts=%d p50_ms=%s", self._health.parts, self._health.times.medians())
        if self.failure is None:
            deliver_records(self._line, self._stop.is_asked)

    @property
    def failure(self) -> EdgeError | None:
        """Why the first worker that failed did."""
        return self._workers.failure

    def shut_down(self) -> None:
        """Stop everything, within 2 s of a signal. A thread that hangs in an engine, a disk or a
        socket is left behind; the process ends in spite of it: edge/__main__.py.
        """
        images_s = END_IMAGES_S if self._stop.event.is_set() else IMAGES_S
        self._notifier.stopping()
        self._stop.event.set()
        self.mailbox.close()
        self.socket.stop(END_SOCKET_S)
        end_s = time.monotonic() + END_S
        for name in (ENGINE, DECISION):
            self._workers.join(name, end_s)
        capture_s = end_s if self.capture.is_open else time.monotonic() + PASS_S
        if not self._workers.join(CAPTURE, capture_s):
            self.capture.abandon()
        if self._commanding is not None:
            self._commanding.stop(END_COMMANDS_S)
        self._audit.stop(END_AUDIT_S)
        self._keeper.stop(images_s)
        self._drift.stop(images_s)
        self._housekeeping.stop(0.4)
        self._status.stop(0.4)
        if self._triggering is not None:
            self._triggering.stop()
        self._line.stop()
        if not any(self._workers.is_alive(name) for name in (ENGINE, DECISION)):
            self._outbox.close()  # nobody else asks it

    def _new_triggering(self, config: EdgeConfig) -> Triggering | None:
        """None in free run. Raises: ConfigError if nobody could send a trigger."""
        require_triggers(config)
        if not config.decision.is_triggered:
            return None
        return Triggering(
            config,
            self.current,
            self._outbox,
            self._line,
            self._health,
            poke=self._poke,
            is_session=lambda: self.pause.is_session,
            recent=self.socket.recent,
        )

    def _new_socket(self, store: Store, config: EdgeConfig, plan: RunPlan) -> AtSocket:
        """Its clients ask only after the start, when there are parts and frames."""
        return AtSocket(
            Station(
                store,
                config,
                plan,
                self.current,
                self.pause,
                is_between_parts=lambda: self._parts.is_between_parts,
                state=self._said,
                serial=lambda: self._judging.seen.serial,
                facts=lambda: self.capture.device,
                frame_problem=lambda: self._health.frame_problem,
                is_settled=lambda: self.changes.is_settled,
                put_row=self._audit.put,
            )
        )

    def _new_parts(self, config: EdgeConfig, first: ActiveBundle) -> Parts:
        """What makes parts of frames."""
        if self._triggering is not None:
            return TriggeredParts(
                config,
                self.current,
                self._triggering,
                self._keeper,
                self._drift,
                self.socket.sessions.add,
            )
        plan = self._plan
        gate: Gate[JudgedFrame] = new_gate(
            first.rule, config.decision, plan.each_frame, starts_unsure=not plan.lossless
        )
        return PartMaker(
            config,
            first,
            gate,
            self._outbox,
            self._line,
            self._keeper,
            self._health,
            self._drift,
            self.socket.recent,
        )

    def _new_commanding(
        self, store: Store, config: EdgeConfig, parts: Parts, frames: Callable[[], int]
    ) -> Commanding | None:
        """None where the station takes no commands. frames: how many were judged."""
        if not config.commands.enabled:
            return None
        acts = CommandActs(
            Controls(
                store,
                config,
                self.current,
                self.changes,
                self.capture,
                self._health,
                self.pause,
                is_between_parts=lambda: parts.is_between_parts,
                gives_frames=lambda: self.socket.is_open,
                frames=frames,
                moved=self._progress.step,
                stopping=self._stop.event,
            )
        )
        return Commanding(config.commands, store.root, self._line, acts.carry_out, self._audit)

    def _hear_command(self, commanded: Commanded) -> None:
        """As `_hear`."""
        if self._commanding is not None:
            self._commanding.hear(commanded)

    def _hear(self, asked: Asked) -> None:
        """A trigger came over the line, which hears nothing before its start."""
        if self._triggering is not None:
            self._triggering.hear(asked)

    def _line_setup(self, store: Store, config: EdgeConfig) -> LineSetup:
        """What the line calls back."""
        return LineSetup(
            config,
            store.root,
            self._outbox,
            state=self._state,
            is_ready=lambda: self._health.is_ready,
            changed=self._note_line,
            triggered=self._hear if config.decision.is_triggered else None,
            commanded=self._hear_command if config.commands.enabled else None,
        )

    def _state(self) -> StationState:
        """The line asks for the state only after its start, when there is a report."""
        return self.report.state()

    def _said(self) -> Mapping[str, Any]:
        """Clients of the socket ask for it only after the start, too."""
        return self.report.for_status()

    def _poke(self) -> None:
        """A trigger was accepted, which happens only after the start: then there is a decision."""
        self._deciding.poke()

    def _note_bundle(self) -> None:
        self._health.note_bundle(not self.changes.refused)

    def _note_camera(self) -> None:
        """The capture thread calls this when a rung was climbed, or frames come again."""
        self._health.note_camera(self.capture.healing.is_fault)
        self._line.state_changed()

    def _note_line(self) -> None:
        """Several threads of the line call this. What the last one reads is also noted last: else
        a problem that is over could stay.
        """
        line = self._line
        with self._noting:
            self._health.note_line(line.verdict_problem is None, line.record_problem is None)
