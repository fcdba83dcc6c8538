"""From a trigger to its answer: every accepted trigger gets exactly one verdict, on time.

    library's thread   hear: a repeat, or a window from now on, or a refusal; never waits
    triggers thread    number and UNKNOWN `late` to disk, then `trigger/ack`
    capture thread     admit: whose frame is this?
    decision thread    take, complete, conclude: the judgment to disk, then the verdict
    answers thread     at the deadline the answer that is on disk already; never waits for a disk

The verdict is claimed once under the lock, by the decision thread or by the answers thread. What
the record says of it (`code`, `reason`) is what was sent; `judged_code` is what was judged. The
record leaves for the archive when both are known.

A trigger that comes in a session tells a part apart that is shown to a calibration: it is answered
UNKNOWN `calibrating` in the same way and has a number, but no record, and no counter counts it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from edge.background import keep_running
from edge.config import EdgeConfig
from edge.decide.trigger import MS, Trigger, Triggers
from edge.decide.verdict import unjudged
from edge.errors import StorageError
from edge.line.base import Line
from edge.line.inbound import Ack, Asked, Refusal, Reply, TriggerRequest
from edge.line.message import TriggerCounts, Triggered, record_fields
from edge.line.outbox import Fields, Outbox
from edge.runtime.current import CurrentBundle
from edge.runtime.health import Health
from edge.runtime.mailbox import Wanted
from edge.runtime.parts import JudgedFrame, log_part, new_record
from edge.runtime.recent import RecentVerdicts
from edge.trouble import Trouble
from edge.types import Code, Frame, Reason

log = logging.getLogger(__name__)

PASS_S = 0.1  # the answers thread looks this often if nothing wakes it
RETRY_S = 1.0  # between two tries of a record that the disk did not take
JOBS_LIMIT = 100  # triggers that may wait for the disk; more are ignored and counted
# after the deadline: a judgment that has not come by then does not hold up the records behind it
GIVE_UP_MS = 10_000
FOREVER_NS = 1 << 62

Part = Trigger[JudgedFrame]


@dataclass(eq=False)
class Case:
    """What is known of an accepted trigger.

    reply: where to answer. enc: of the PLC's encoder. late: its record as it was committed. sent:
    as it was answered. completed_ns: capture of its last frame, or its arrival. judged: the record
    that is on disk and waits for its fixed moment. is_of_session: its part is shown to a
    calibration, `late` is the whole answer, and there is no record.
    """

    reply: Reply
    enc: int | None
    late: Fields
    completed_ns: int
    is_of_session: bool = False
    sent: Fields | None = None
    judged: Fields | None = None


class Triggering:
    """The triggers of a running station. Thread-safe."""

    def __init__(
        self,
        config: EdgeConfig,
        current: CurrentBundle,
        outbox: Outbox,
        line: Line,
        health: Health,
        poke: Callable[[], None],
        is_session: Callable[[], bool] = lambda: False,
        recent: RecentVerdicts | None = None,
    ) -> None:
        """Nothing is started before start(). poke: called after a trigger was accepted, whose
        frames may all be judged already. is_session: whether parts are shown to a
        calibration. recent: is told each verdict.
        """
        self._recent = recent or RecentVerdicts()
        self._is_session = is_session
        self._name, self._current = config.station.station, current
        self._outbox, self._line, self._health, self._poke = outbox, line, health, poke
        self._book: Triggers[JudgedFrame] = Triggers(
            round(1e9 / config.camera.fps), config.camera.max_age_ms * MS
        )
        self._changed = threading.Condition()  # its lock guards _book and _cases
        self._cases: dict[Part, Case] = {}
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(JOBS_LIMIT)
        self._unsettled: list[Fields] = []  # belongs to the triggers thread, but for append
        self._stopping = threading.Event()
        self._disk = Trouble(log, "triggers are committed again")
        self._threads = [
            threading.Thread(
                target=keep_running, args=(log, work, self._stopping), name=name, daemon=True
            )
            for name, work in (("triggers", self._work), ("answers", self._watch_clock))
        ]
        self._ignored = 0  # more at once than can be answered; guarded by _changed
        self._accepted = 0  # written by the triggers thread
        self._untriggered = 0  # written by the decision thread

    @property
    def is_idle(self) -> bool:
        """Whether no trigger waits for its answer or its judgment."""
        with self._changed:
            return not self._book.waiting

    def counts(self) -> TriggerCounts:
        """Since the start. Any thread may ask."""
        told = self._line.counters
        return TriggerCounts(
            self._accepted,
            told.triggers_refused,
            told.triggers_ignored + self._ignored,
            self._untriggered,
            told.verdicts_overrun,
        )

    def start(self) -> None:
        """Accept triggers, and watch their deadlines."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Accept no more, and answer what is open: UNKNOWN, while there is still a line."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(0.3)
        self._answer_due(FOREVER_NS)

    # --- the library's thread ---

    def hear(self, asked: Asked) -> None:
        """A trigger has arrived: this is its moment. Waits for nothing."""
        request = asked.request
        name = request.part, request.n
        with self._changed:
            # under the lock: once `ready` is false and no trigger waits, none is accepted any more
            is_shown = self._is_session()
            is_ready = (self._health.is_ready or is_shown) and not self._stopping.is_set()
            # under the lock: every frame that was admitted before is older than this
            now_ns = time.monotonic_ns()
            repeated = self._book.find_repeated(name, asked.is_dup, now_ns)
            opens = repeated is None and is_ready
            opened = self._open(request, now_ns) if opens else None
        if repeated is not None:
            job = partial(self._repeat, repeated, asked)
        elif opened is not None:
            job = partial(self._accept, opened, asked, is_shown)
        else:
            job = partial(self._refuse, asked, Refusal.BUSY if is_ready else Refusal.NOT_READY)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            with self._changed:
                self._ignored += 1
            self._cancel(opened)

    def _open(self, request: TriggerRequest, now_ns: int) -> Part | None:
        return self._book.open(
            (request.part, request.n),
            now_ns,
            request.deadline_ms,
            request.delay_ms,
            request.frames,
            request.answer_ms,
        )

    # --- the triggers thread ---

    def _work(self) -> None:
        retry_s = 0.0
        while not self._stopping.is_set():
            with contextlib.suppress(queue.Empty):
                self._jobs.get(timeout=PASS_S)()
            if self._unsettled and time.monotonic() >= retry_s:
                retry_s = time.monotonic() + RETRY_S
                waiting, self._unsettled = self._unsettled, []
                for fields in waiting:
                    self._finish(fields)

    def _accept(self, trigger: Part, asked: Asked, is_shown: bool = False) -> None:
        """Number and answer to disk, then the PLC is told."""
        fields = self._commit_late(trigger, asked, is_shown)
        if fields is None or time.monotonic_ns() >= trigger.due_ns:
            self._cancel(trigger)
            if fields is not None:  # the disk took too long; the record stays UNKNOWN `late`
                self._release(fields)
            self._refuse(asked, Refusal.STORAGE)
            return
        request = asked.request
        with self._changed:
            case = Case(asked.reply, request.enc, fields, trigger.arrival_ns, is_shown)
            self._cases[trigger] = case
        self._line.acknowledge(Ack(request.part, request.n, fields["seq"]), asked.reply)
        with self._changed:
            trigger.is_accepted = True
            self._changed.notify_all()
        self._accepted += not is_shown
        self._poke()

    def _commit_late(self, trigger: Part, asked: Asked, is_shown: bool) -> Fields | None:
        """The record that is open from now on; in a session its number alone; None if the disk did
        not take it.
        """
        outbox = self._outbox

        def late(seq: int) -> Fields:
            return self._late_fields(trigger, asked, seq, is_shown)

        try:
            with self._health.times.measured("commit"):
                fields = late(outbox.take_number()) if is_shown else outbox.open(late)
        except StorageError as error:
            self._note_disk(error)
            return None
        self._note_disk(None)
        return fields

    def _repeat(self, trigger: Part, asked: Asked) -> None:
        """The same answer once more: the acknowledgment, and the verdict if it was given."""
        part, n = trigger.name
        with self._changed:
            case = self._cases.get(trigger)
            if case is not None:
                case.reply = asked.reply
        if case is None:
            if not trigger.is_accepted:  # its number could not be committed
                self._refuse(asked, Refusal.STORAGE)
            return  # its deadline has passed meanwhile
        self._line.acknowledge(Ack(part, n, case.late["seq"]), asked.reply)
        if case.sent is not None:
            self._line.answer(case.sent, trigger.deadline_ns, case.completed_ns, asked.reply)

    def _refuse(self, asked: Asked, reason: Refusal) -> None:
        request = asked.request
        self._line.acknowledge(Ack(request.part, request.n, None, reason), asked.reply)

    def _cancel(self, trigger: Part | None) -> None:
        if trigger is not None:
            with self._changed:
                self._book.cancel(trigger)

    def _late_fields(self, trigger: Part, asked: Asked, seq: int, is_shown: bool) -> Fields:
        """The record as it is committed first: at the deadline this is the answer."""
        request = asked.request
        active = self._current.get()
        reason = Reason.CALIBRATING if is_shown else Reason.LATE
        late = unjudged(reason, active.rule.threshold)
        shown, now_ns = JudgedFrame(None, late, active), time.monotonic_ns()
        record = new_record(late, shown, 0, trigger.arrival_ns, now_ns)
        told = Triggered(request.n, None, request.enc)
        record = replace(record, part=request.part, triggered=told)
        return record_fields(record, self._name, seq)

    # --- the capture thread ---

    def admit(self, frame: Frame) -> Frame | Wanted:
        """The frame, as a trigger's own if it lies in a window."""
        with self._changed:
            owner = self._book.claim(frame.captured_mono_ns)
        return frame if owner is None else Wanted(frame, owner, time.monotonic_ns())

    # --- the decision thread ---

    def take(self, judged: JudgedFrame) -> None:
        """A frame was judged; one of a trigger that is over is not kept."""
        trigger = judged.trigger
        with self._changed:
            if trigger is not None and not trigger.is_decided and self._book.holds(trigger):
                trigger.frames.append(judged)

    def note_untriggered(self) -> None:
        """A part was seen to pass without a trigger."""
        self._untriggered += 1

    def lose(self, lost: JudgedFrame) -> None:
        """The camera was lost: `lost` stands for what the parts in view would have shown."""
        with self._changed:
            self._book.lose(time.monotonic_ns(), lost)

    def end(self) -> None:
        """The source has ended."""
        with self._changed:
            self._book.close()

    def complete(self) -> list[Part]:
        """The triggers whose frames are all judged, each once."""
        with self._changed:
            return self._book.complete(time.monotonic_ns())

    def conclude(
        self, trigger: Part, completed_ns: int, build: Callable[[int, Fields | None], Fields]
    ) -> Fields:
        """The judgment on a part to disk, then its verdict, unless the clock was faster.

        build: the record from its number and, where it was answered before, the record as sent.
        Returns: the record with the code that was sent.
        """
        fields = self._conclude(trigger, completed_ns, build)
        with self._changed:
            trigger.is_concluded = True
        return fields

    def _conclude(
        self, trigger: Part, completed_ns: int, build: Callable[[int, Fields | None], Fields]
    ) -> Fields:
        case = self._cases[trigger]
        seq = case.late["seq"]
        if case.sent is not None:
            return self._finish(build(seq, case.sent))
        fields = build(seq, None)
        is_on_disk = self._settle(fields)
        with self._changed:
            waits = trigger.is_fixed and not trigger.is_answered
            is_first = not waits and self._book.answer(trigger)
            if waits or is_first:
                case.completed_ns = completed_ns
            if waits and is_on_disk:
                case.judged = fields  # the answers thread sends and releases it
            elif is_first:
                case.sent = fields if is_on_disk else case.late
            told = case.sent or self._unjudged(trigger, case)
        if is_first:
            self._tell(trigger, case)
        if not (is_on_disk and (waits or is_first)):
            return self._finish(build(seq, told))
        if is_first:
            self._release(fields)
        return fields

    def is_of_session(self, trigger: Part) -> bool:
        """Whether its part is shown to a calibration."""
        return self._cases[trigger].is_of_session

    def conclude_shown(self, trigger: Part) -> None:
        """The frames of a part that is shown are judged: its answer leaves, unless the clock was
        faster, or it has a fixed moment.
        """
        case = self._cases[trigger]
        with self._changed:
            is_first = not trigger.is_fixed and self._book.answer(trigger)
            case.sent = case.late if is_first else case.sent
        if is_first:
            self._tell(trigger, case)
        with self._changed:
            trigger.is_concluded = True

    def enc_of(self, trigger: Part) -> int | None:
        """The count of the PLC's encoder at this trigger."""
        return self._cases[trigger].enc

    def _finish(self, fields: Fields) -> Fields:
        """The record as it was sent to disk, now or as soon as the disk takes it."""
        if self._settle(fields):
            self._release(fields)
        else:
            self._unsettled.append(fields)
        return fields

    def _settle(self, fields: Fields) -> bool:
        try:
            with self._health.times.measured("commit"):
                self._outbox.settle(fields)
        except StorageError as error:
            self._note_disk(error)
            return False
        self._note_disk(None)
        return True

    def _release(self, fields: Fields) -> None:
        self._outbox.release(fields["seq"])
        self._line.records_waiting()

    def _note_disk(self, error: StorageError | None) -> None:
        self._health.note_storage(works=error is None)
        if error is None:
            self._disk.ended()
        else:
            self._disk.happened(f"a triggered part cannot be committed: {error}")

    # --- the answers thread ---

    def _watch_clock(self) -> None:
        while not self._stopping.is_set():
            with self._changed:
                due_ns = self._book.next_due_ns()
                left_s = (
                    PASS_S if due_ns is None else min(PASS_S, (due_ns - time.monotonic_ns()) / 1e9)
                )
                if left_s > 0:
                    self._changed.wait(left_s)
            self._answer_due(time.monotonic_ns())
            self._forget()

    def _answer_due(self, now_ns: int) -> None:
        """Answer what is due. UNKNOWN is on disk already; why there was no frame follows."""
        with self._changed:
            due = [(one, self._cases[one]) for one in self._book.due(now_ns)]
            for one, case in due:
                case.sent = case.judged or self._unjudged(one, case)
        for one, case in due:
            self._tell(one, case)
            if case.judged is not None:
                self._release(case.judged)

    def _unjudged(self, trigger: Part, case: Case) -> Fields:
        """The answer where no judgment came in time."""
        if case.is_of_session:
            return case.late
        has_begun = time.monotonic_ns() > trigger.window.start_ns
        is_dark = has_begun and not trigger.claimed
        reason = Reason.CAMERA_LOST if is_dark else Reason.LATE
        return {**case.late, "reason": reason.value}

    def _forget(self) -> None:
        with self._changed:
            given_up = self._book.drop_finished(time.monotonic_ns(), GIVE_UP_MS * MS)
            gone = [one for one in self._cases if not self._book.holds(one)]
            cases = {one: self._cases.pop(one) for one in gone}
        for one in given_up:
            self._release(cases[one].late)

    def _tell(self, trigger: Part, case: Case) -> None:
        """The verdict to the PLC; whoever calls this has claimed it."""
        fields = case.sent or case.late
        with self._health.times.measured("publish"):
            sent = self._line.answer(fields, trigger.deadline_ns, case.completed_ns, case.reply)
        if not case.is_of_session:
            self._health.count(Code(fields["code"]))
            self._recent.note(fields)
        log_part(fields, sent)
