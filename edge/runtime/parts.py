"""From judged frames to decided parts: gate, aggregation, commit, verdict."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from typing import Protocol

from edge.clock import is_clock_synced
from edge.config import EdgeConfig
from edge.decide.aggregate import COMBINE, STATION_FAULTS, aggregate, shows_two_parts
from edge.decide.gate import Gate, Part
from edge.decide.motion import Sighting
from edge.decide.trigger import Trigger
from edge.decide.verdict import unjudged
from edge.errors import StorageError
from edge.line.base import Line
from edge.line.message import Record, record_fields, record_id, utc_ms
from edge.line.outbox import Fields, Outbox
from edge.runtime.active import ActiveBundle
from edge.runtime.health import Health
from edge.runtime.kept_files import Images, sha256_of_images
from edge.runtime.recent import RecentVerdicts
from edge.trouble import Trouble
from edge.types import Code, Frame, Judgment, Reason

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class JudgedFrame:
    """One frame with its judgment, and what judged it.

    frame None: the camera never gave one. trigger: that owns it; None in free run and between
    triggers.
    """

    frame: Frame | None
    judgment: Judgment
    active: ActiveBundle
    trigger: Trigger[JudgedFrame] | None = None

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


class ImageKeeper(Protocol):
    """Where the images of a part go."""

    def put(self, images: Images) -> None:
        """Never waits."""
        ...


class PartWatch(Protocol):
    """Who looks at the parts after their verdict has left."""

    def put(self, fields: Fields, shown: JudgedFrame) -> None:
        """The record, and the frame that it rests on. Never waits."""
        ...


class PartMaker:
    """Turns judged frames into verdicts, records and kept images; exactly one of each per part.

    Used by the decision thread alone, except `is_between_parts`.
    """

    def __init__(
        self,
        config: EdgeConfig,
        first: ActiveBundle,
        gate: Gate[JudgedFrame],
        outbox: Outbox,
        line: Line,
        keeper: ImageKeeper,
        health: Health,
        watch: PartWatch | None = None,
        recent: RecentVerdicts | None = None,
    ) -> None:
        """first: what the gate was made for. watch: None: nobody. recent: is told each verdict."""
        self._recent = recent or RecentVerdicts()
        self._name, self._config = config.station.station, config.decision
        self._keep_ok_every = config.retention.keep_ok_every
        self._active, self._gate = first, gate
        self._outbox, self._line, self._keeper, self._health = outbox, line, keeper, health
        self._watch = watch
        self._storage = Trouble(log, "records are committed again")

    @property
    def is_between_parts(self) -> bool:
        """Whether another bundle may take effect now. May be asked by any thread."""
        return self._gate.is_between_parts

    def feed(self, judged: JudgedFrame) -> None:
        """Take the next frame; decides a part if it is complete."""
        self._use(judged.active)
        blind = judged.judgment.reason in STATION_FAULTS
        gate = self._gate
        for part in gate.feed_blind(judged) if blind else gate.feed(judged.sighting, judged):
            self._decide(part, completed_mono_ns=judged.captured_mono_ns)

    def lose(self, last: JudgedFrame, reason: Reason) -> None:
        """The camera was lost: an open part is UNKNOWN, whatever its frames were."""
        lost = replace(last, judgment=unjudged(reason, last.active.rule.threshold))
        for part in self._gate.lose(lost):
            self._decide(part, completed_mono_ns=time.monotonic_ns())

    def refuse(self, active: ActiveBundle, reason: Reason) -> None:
        """The camera gives no frame that could be judged: one UNKNOWN part says so."""
        self._use(active)
        refused = JudgedFrame(None, unjudged(reason, active.rule.threshold), active)
        self._decide(Part((refused,)), completed_mono_ns=time.monotonic_ns())

    def finish(self) -> None:
        """The source has ended: an open part is complete."""
        for part in self._gate.close():
            self._decide(part, completed_mono_ns=time.monotonic_ns())

    def look(self) -> None:
        """In free run nothing happens without a frame."""

    def show(self, judged: JudgedFrame) -> None:
        """In free run a session has a gate of its own."""

    def begin_anew(self) -> None:
        """Frames were passed over: what is in view now has to leave before a part opens."""
        self._gate = self._gate.unsure()

    def _use(self, active: ActiveBundle) -> None:
        if active is not self._active:
            self._active, self._gate = active, self._gate.under(active.rule)

    def _decide(self, part: Part[JudgedFrame], completed_mono_ns: int) -> None:
        judgment, shown = judged_part(part, self._config.aggregate)
        deadline_mono_ns = completed_mono_ns + self._config.deadline_ms * 1_000_000
        now_mono_ns = time.monotonic_ns()
        if now_mono_ns > deadline_mono_ns:
            judgment = unjudged(Reason.LATE, judgment.threshold)
        record = new_record(judgment, shown, len(part.frames), completed_mono_ns, now_mono_ns)
        fields = self._commit(record, shown)
        if fields is None:
            return
        with self._health.times.measured("publish"):
            sent = self._line.publish_verdict(fields, deadline_mono_ns)
        self._line.records_waiting()
        self._health.count(Code(fields["code"]))
        self._recent.note(fields)
        keep_images(self._keeper, fields, shown)
        log_part(fields, sent)
        if self._watch is not None:
            self._watch.put(fields, shown)

    def _commit(self, record: Record, shown: JudgedFrame) -> Fields | None:
        """The committed fields; those of UNKNOWN `storage` if the disk did not take them; None if
        it did not even take a number.
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
        """The record's fields, and with the number known whether images are kept."""
        return self._named(with_images(record, shown, self._name, seq, self._keep_ok_every), seq)

    def _named(self, record: Record, seq: int) -> Fields:
        """Without a trigger nobody names a part: it is called after its number."""
        return record_fields(replace(record, part=f"P{seq}"), self._name, seq)


def judged_part(part: Part[JudgedFrame], combined: str) -> tuple[Judgment, JudgedFrame]:
    """The part's judgment, and the frame that it rests on: never one verdict for two parts.

    combined: how scores become one, as `aggregate` in station.toml.
    """
    frames, combine = [one.judgment for one in part.frames], COMBINE[combined]
    judgment, index = aggregate(frames, combine)
    if judgment.score is not None and (
        part.two_parts
        or shows_two_parts(frames, [one.sighting for one in part.frames], part.gaps, combine)
    ):
        judgment = replace(judgment, code=Code.UNKNOWN, reason=Reason.TWO_PARTS, score=None)
    return judgment, part.frames[index]


def with_images(
    record: Record, shown: JudgedFrame, station: str, seq: int, keep_ok_every: int
) -> Record:
    """The record with folder and digest of its images, if they are kept: of NG and UNKNOWN always,
    of OK as station.toml says.
    """
    kept_ok = keep_ok_every > 0 and seq % keep_ok_every == 0
    if shown.frame is None or (record.code is Code.OK and not kept_ok):
        return record
    folder = f"parts/{record.judged_at[:10]}/{record_id(station, seq)}"
    digest = sha256_of_images(shown.frame, shown.judgment.map)
    return replace(record, images=folder, images_sha256=digest)


def keep_images(keeper: ImageKeeper, fields: Fields, shown: JudgedFrame) -> None:
    """Hand the images over that the record names, if it names any."""
    if fields["images"] is not None and shown.frame is not None:
        heat = shown.judgment.map
        crop = None if heat is None else shown.active.site(shown.frame.serial).crop
        keeper.put(Images(fields["images"], shown.frame, heat, fields, crop))


def log_part(fields: Fields, sent: bool) -> None:
    """One line about a part that was decided."""
    keys = ("part", "code", "reason", "score", "thr", "frames", "judge_ms")
    log.info(
        "part=%s code=%s reason=%s score=%s thr=%s frames=%d judge_ms=%d sent=%s",
        *(fields[key] for key in keys),
        sent,
    )


def new_record(
    judgment: Judgment, shown: JudgedFrame, frames: int, completed_mono_ns: int, now_mono_ns: int
) -> Record:
    """The record without what depends on its number."""
    active = shown.active
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
        product=active.installed.product,
        bundle=active.bundle,
        geometry=None if shown.frame is None else active.geometry_digest(shown.frame.serial),
        model_state=active.model_digest,
        engine=active.engine_name,
        threshold_from=active.guarantee.source,
        threshold_parts=active.guarantee.parts,
        guarantee=active.guarantee.sentence,
        captured_at=utc_ms(now_s - age_s),
        judged_at=utc_ms(now_s),
        clock_synced=is_synced,
        at=int(completed_s * 1e3) if is_synced else None,
    )
