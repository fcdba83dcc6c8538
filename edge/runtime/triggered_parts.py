"""From judged frames to the verdicts on triggered parts; and what passes without a trigger."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from edge.config import EdgeConfig
from edge.decide.aggregate import STATION_FAULTS
from edge.decide.gate import Part
from edge.decide.presence import PresenceGate
from edge.decide.verdict import unjudged
from edge.line.message import Record, Triggered, record_fields
from edge.line.outbox import Fields
from edge.runtime.active import ActiveBundle
from edge.runtime.current import CurrentBundle
from edge.runtime.parts import (
    ImageKeeper,
    JudgedFrame,
    PartWatch,
    judged_part,
    keep_images,
    new_record,
    with_images,
)
from edge.runtime.triggering import Part as TriggeredPart
from edge.runtime.triggering import Triggering
from edge.types import Code, Reason

# A part may rest in view for long before its trigger comes; one flag is kept of each frame.
LONGEST_VIEW = 100_000  # frames


class TriggeredParts:
    """Decides the parts that were triggered. See edge.runtime.deciding.Parts."""

    def __init__(
        self,
        config: EdgeConfig,
        current: CurrentBundle,
        triggering: Triggering,
        keeper: ImageKeeper,
        watch: PartWatch | None = None,
        shown: Callable[[Part[JudgedFrame]], None] = lambda _: None,
    ) -> None:
        """current: for a part that has no frame. watch: as in PartMaker. shown: is given the parts
        of a session, without waiting.
        """
        self._shown = shown
        self._name, self._config = config.station.station, config.decision
        self._keep_ok_every = config.retention.keep_ok_every
        self._current, self._triggering, self._keeper = current, triggering, keeper
        self._watch = watch
        self._active = current.get()
        rule = self._active.rule
        # is told of each frame whether a trigger owns it
        self._passing: PresenceGate[bool] = PresenceGate(
            rule.min_area,
            rule.max_area,
            rule.max_border,
            self._config.min_frames,
            max_frames=LONGEST_VIEW,
            starts_unsure=True,
        )

    @property
    def is_between_parts(self) -> bool:
        """Whether no trigger waits. May be asked by any thread."""
        return self._triggering.is_idle

    def feed(self, judged: JudgedFrame) -> None:
        """Take the next frame; decides the parts that are complete."""
        self._note_passing(judged)
        self.show(judged)

    def show(self, judged: JudgedFrame) -> None:
        """As feed; what passes without a trigger is not counted."""
        self._triggering.take(judged)
        self.look()

    def look(self) -> None:
        """Decide the parts that are complete."""
        for trigger in self._triggering.complete():
            self._decide(trigger)

    def lose(self, last: JudgedFrame, reason: Reason) -> None:
        """The camera was lost: the parts whose window has begun are UNKNOWN."""
        self.refuse(last.active, reason)

    def refuse(self, active: ActiveBundle, reason: Reason) -> None:
        """The camera gives no frame that could be judged: the same."""
        unknown = unjudged(reason, active.rule.threshold)
        self._triggering.lose(JudgedFrame(None, unknown, active))
        self.look()

    def begin_anew(self) -> None:
        """Frames were passed over: whether what is in view now was triggered is not known."""
        self._passing = self._passing.unsure()

    def finish(self) -> None:
        """The source has ended: what was triggered is decided with the frames that it has."""
        self._triggering.end()
        self.look()

    def _note_passing(self, judged: JudgedFrame) -> None:
        if judged.active is not self._active:
            self._active = judged.active
            self._passing = self._passing.under(judged.active.rule)
        blind = judged.judgment.reason in STATION_FAULTS
        if blind or not judged.active.manifest.presence:
            return
        for part in self._passing.feed(judged.sighting, judged.trigger is not None):
            if not any(part.frames):
                self._triggering.note_untriggered()

    def _decide(self, trigger: TriggeredPart) -> None:
        frames = tuple(trigger.frames) or (self._no_frame(),)
        trigger.frames.clear()  # they refer to it: their images are free now
        if self._triggering.is_of_session(trigger):
            self._triggering.conclude_shown(trigger)
            self._shown(Part(frames))
            return
        judgment, shown = judged_part(Part(frames), self._config.aggregate)
        captured = [one.frame.captured_mono_ns for one in frames if one.frame is not None]
        completed_ns = max(captured, default=trigger.arrival_ns)
        part, n = trigger.name
        record = replace(
            new_record(judgment, shown, len(captured), completed_ns, time.monotonic_ns()),
            part=part,
            triggered=Triggered(n, judgment.code, self._triggering.enc_of(trigger)),
        )
        fields = self._triggering.conclude(
            trigger, completed_ns, lambda seq, sent: self._fields(record, shown, seq, sent)
        )
        keep_images(self._keeper, fields, shown)
        if self._watch is not None:
            self._watch.put(fields, shown)

    def _no_frame(self) -> JudgedFrame:
        active = self._current.get()
        return JudgedFrame(None, unjudged(Reason.CAMERA_LOST, active.rule.threshold), active)

    def _fields(self, record: Record, shown: JudgedFrame, seq: int, sent: Fields | None) -> Fields:
        """The record, with code and reason as they were sent where that was before the judgment."""
        if sent is not None:
            record = replace(record, code=Code(sent["code"]), reason=Reason(sent["reason"]))
        record = with_images(record, shown, self._name, seq, self._keep_ok_every)
        return record_fields(record, self._name, seq)
