"""From judged frames to decided parts: gate, aggregation, commit, verdict.

Runs in the decision thread alone.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Protocol

from edge.clock import is_clock_synced
from edge.config import DecisionConfig
from edge.decide.aggregate import COMBINE, STATION_FAULTS, aggregate, shows_two_parts
from edge.decide.gate import Gate, Part
from edge.decide.gate_factory import new_gate
from edge.decide.motion import Sighting
from edge.decide.verdict import unjudged
from edge.errors import StorageError
from edge.line.message import Record, record_fields, record_id, utc_ms
from edge.line.outbox import Fields, Outbox
from edge.runtime.active import ActiveStation
from edge.runtime.health import Health
from edge.runtime.keeper import Images, sha256_of_images
from edge.trouble import Trouble
from edge.types import Code, Frame, Judgment, Reason

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class JudgedFrame:
    """One frame with its judgment, and the station that made it.

    frame None: the camera never gave one.
    """

    frame: Frame | None
    judgment: Judgment
    station: ActiveStation

    @property
    def captured_mono_ns(self) -> int:
        """When it was captured; now, for no frame."""
        return time.monotonic_ns() if self.frame is None else self.frame.captured_mono_ns

    @property
    def sighting(self) -> Sighting:
        """Where its foreground lies."""
        u, v, var_u, var_v, both, border = self.judgment.place
        number = 0 if self.frame is None else self.frame.frame_number
        return Sighting(number, self.judgment.area, u, v, (var_u, var_v, both), border)


class Line(Protocol):
    """Where decided parts go: MQTT, or nowhere where no broker is configured."""

    def publish_verdict(self, fields: Fields, deadline_mono_ns: int) -> bool:
        """Now or never."""
        ...

    def records_waiting(self) -> None:
        """The outbox has a new record."""
        ...


class ImageKeeper(Protocol):
    """Where the images of a part go."""

    def put(self, images: Images) -> None:
        """Never waits."""
        ...


class PartMaker:
    """Turns judged frames into verdicts, records and kept images; exactly one of each per part."""

    def __init__(
        self,
        name: str,
        config: DecisionConfig,
        keep_ok_every: int,
        outbox: Outbox,
        line: Line,
        keeper: ImageKeeper,
        health: Health,
        each_frame: bool,
        starts_unsure: bool = False,
    ) -> None:
        """name: of the station, the first half of every id. each_frame: every image is a part.

        starts_unsure: what is in view first may have been decided before the station was started.
        """
        self._name, self._config, self._keep_ok_every = name, config, keep_ok_every
        self._outbox, self._line, self._keeper, self._health = outbox, line, keeper, health
        self._each_frame, self._starts_unsure = each_frame, starts_unsure
        self._storage = Trouble(log, "records are committed again")
        self._station: ActiveStation | None = None
        self._gate: Gate[JudgedFrame] | None = None

    @property
    def is_between_parts(self) -> bool:
        """Whether another bundle may take effect now."""
        return self._gate is None or self._gate.is_between_parts

    def feed(self, judged: JudgedFrame) -> None:
        """Take the next frame; decides a part if it is complete."""
        gate = self._gate_for(judged.station)
        blind = judged.judgment.reason in STATION_FAULTS
        for part in gate.feed_blind(judged) if blind else gate.feed(judged.sighting, judged):
            self._decide(part, completed_mono_ns=judged.captured_mono_ns)

    def lose(self, last: JudgedFrame, reason: Reason) -> None:
        """The camera was lost: an open part is UNKNOWN, whatever its frames were."""
        lost = replace(last, judgment=unjudged(reason, last.station.rule.threshold))
        for part in [] if self._gate is None else self._gate.lose(lost):
            self._decide(part, completed_mono_ns=time.monotonic_ns())

    def refuse(self, station: ActiveStation, reason: Reason) -> None:
        """The camera gives no frame that could be judged: one UNKNOWN part says so."""
        self._gate_for(station)
        refused = JudgedFrame(None, unjudged(reason, station.rule.threshold), station)
        self._decide(Part((refused,)), completed_mono_ns=time.monotonic_ns())

    def finish(self) -> None:
        """The source has ended: an open part is complete."""
        for part in [] if self._gate is None else self._gate.close():
            self._decide(part, completed_mono_ns=time.monotonic_ns())

    def _gate_for(self, station: ActiveStation) -> Gate[JudgedFrame]:
        gate, before, self._station = self._gate, self._station, station
        if gate is None:
            gate = new_gate(station.rule, self._config, self._each_frame, self._starts_unsure)
        elif station is not before:
            gate = gate.under(station.rule)
        self._gate = gate
        return gate

    def _decide(self, part: Part[JudgedFrame], completed_mono_ns: int) -> None:
        judgment, index = self._judged(part)
        shown = part.frames[index]
        deadline_mono_ns = completed_mono_ns + self._config.deadline_ms * 1_000_000
        now_mono_ns = time.monotonic_ns()
        if now_mono_ns > deadline_mono_ns:
            judgment = unjudged(Reason.LATE, judgment.threshold)
        record = _record(judgment, shown, len(part.frames), completed_mono_ns, now_mono_ns)
        fields = self._commit(record, shown)
        if fields is None:
            return
        with self._health.times.measured("publish"):
            sent = self._line.publish_verdict(fields, deadline_mono_ns)
        self._line.records_waiting()
        self._health.count(Code(fields["code"]))
        if fields["images"] is not None and shown.frame is not None:
            heat = shown.judgment.map
            crop = None if heat is None else shown.station.site(shown.frame.serial).crop
            self._keeper.put(Images(fields["images"], shown.frame, heat, fields, crop))
        shown_fields = [
            fields[key] for key in ("part", "code", "reason", "score", "thr", "frames", "judge_ms")
        ]
        log.info(
            "part=%s code=%s reason=%s score=%s thr=%s frames=%d judge_ms=%d sent=%s",
            *shown_fields,
            sent,
        )

    def _judged(self, part: Part[JudgedFrame]) -> tuple[Judgment, int]:
        """The part's judgment, and the frame it rests on: never one verdict OK for two parts."""
        frames, combine = [one.judgment for one in part.frames], COMBINE[self._config.aggregate]
        judgment, index = aggregate(frames, combine)
        if judgment.score is None or not (
            part.two_parts
            or shows_two_parts(frames, [one.sighting for one in part.frames], part.gaps, combine)
        ):
            return judgment, index
        return replace(judgment, code=Code.UNKNOWN, reason=Reason.TWO_PARTS, score=None), index

    def _commit(self, record: Record, shown: JudgedFrame) -> Fields | None:
        """The committed fields; those of UNKNOWN `storage` if the disk did not take them; None if
        not even a number.
        """
        try:
            with self._health.times.measured("commit"):
                fields = self._outbox.commit(lambda seq: self._fields(record, shown, seq))
            self._health.note_storage(works=True)
            self._storage.ended()
            return fields
        except StorageError as error:
            self._storage.happened(f"UNKNOWN storage: {error}")
            self._health.note_storage(works=False)
        failed = replace(record, code=Code.UNKNOWN, reason=Reason.STORAGE, score=None)
        try:
            return self._outbox.commit_failed(lambda seq: self._named(failed, seq))
        except StorageError as error:
            self._storage.happened(
                f"no verdict can be given a number, the PLC's timer rejects the part: {error}"
            )
            return None

    def _fields(self, record: Record, shown: JudgedFrame, seq: int) -> Fields:
        """With the number known: which images are kept."""
        kept_ok = self._keep_ok_every > 0 and seq % self._keep_ok_every == 0
        if shown.frame is not None and (record.code is not Code.OK or kept_ok):
            folder = f"parts/{record.judged_at[:10]}/{record_id(self._name, seq)}"
            digest = sha256_of_images(shown.frame, shown.judgment.map)
            record = replace(record, images=folder, images_sha256=digest)
        return self._named(record, seq)

    def _named(self, record: Record, seq: int) -> Fields:
        """In free run nobody names a part: it is called after its number."""
        return record_fields(replace(record, part=f"P{seq}"), self._name, seq)


def _record(
    judgment: Judgment, shown: JudgedFrame, frames: int, completed_mono_ns: int, now_mono_ns: int
) -> Record:
    """Everything but what depends on the number."""
    station = shown.station
    now_s, is_synced = time.time(), is_clock_synced()
    age_s = max(0.0, (now_mono_ns - shown.captured_mono_ns) / 1e9)
    completed_s = now_s - max(0.0, (now_mono_ns - completed_mono_ns) / 1e9)
    return Record(
        part="",
        code=judgment.code,
        reason=judgment.reason,
        score=judgment.score,
        threshold=judgment.threshold,
        ms=round((now_mono_ns - completed_mono_ns) / 1e6),
        area=judgment.area,
        valid=judgment.valid,
        frames=frames,
        product=station.installed.product,
        bundle=station.bundle,
        geometry=None if shown.frame is None else station.geometry_digest(shown.frame.serial),
        model_state=station.model_digest,
        engine=station.engine_name,
        threshold_from=station.guarantee.source,
        threshold_parts=station.guarantee.parts,
        guarantee=station.guarantee.sentence,
        captured_at=utc_ms(now_s - age_s),
        judged_at=utc_ms(now_s),
        clock_synced=is_synced,
        at=int(completed_s * 1e3) if is_synced else None,
    )
