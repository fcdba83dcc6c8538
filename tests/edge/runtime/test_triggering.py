"""Triggers to answers without a broker: the disk that fails or takes long, the clock that is faster
than the judgment, the judgment that never comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.decide.verdict import unjudged
from edge.errors import CameraLost, StorageError
from edge.line.base import Line
from edge.line.inbound import Ack, Asked, Reply, TriggerRequest
from edge.line.none import NoLine
from edge.line.outbox import Outbox
from edge.runtime import triggered_parts
from edge.runtime import triggering as module
from edge.runtime.current import CurrentBundle
from edge.runtime.health import Health
from edge.runtime.kept_files import Images
from edge.runtime.mailbox import Lost, Mailbox, Wanted
from edge.runtime.parts import JudgedFrame
from edge.runtime.triggered_parts import TriggeredParts
from edge.runtime.triggering import Triggering
from edge.types import Frame, Reason
from tests.support.active import judgment_of, make_active
from tests.support.broker import wait_until
from tests.support.fakes import frame_of
from tests.support.station import GOOD

OK, NG, NO_PART = {"score": 1.0}, {"score": 60.0}, {"area": 0.0}


class Told(NoLine):
    """Notes acknowledgments and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.acks: list[Ack] = []
        self.answers: list[dict[str, Any]] = []
        self.in_time: list[bool] = []

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        self.acks.append(ack)

    def answer(
        self, fields: Any, deadline_mono_ns: int, completed_mono_ns: int, reply: Reply
    ) -> bool:
        self.answers.append(dict(fields))
        self.in_time.append(time.monotonic_ns() < deadline_mono_ns)
        return True


class Watched:
    """Notes what the watch over drift is given."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    def put(self, fields: Any, shown: JudgedFrame) -> None:
        self.codes.append(fields["code"])


class Rig:
    def __init__(self, folder: Path, fps: int = 1) -> None:
        """fps: one a second keeps windows open for as long as a busy machine needs."""
        config = EdgeConfig.model_validate(
            {"station": {"station": "s1"}, "decision": {"mode": "triggered"},
             "camera": {"max_age_ms": 100, "fps": fps}}
        )  # fmt: skip
        self.outbox, self.line, self.images = Outbox(folder / "line.sqlite"), Told(), []
        self.health, self.active = Health(), make_active()
        current = CurrentBundle(self.active)
        line: Line = self.line
        self.triggering = Triggering(
            config, current, self.outbox, line, self.health, poke=lambda: None
        )
        self.watched = Watched()
        self.parts = TriggeredParts(config, current, self.triggering, self, self.watched)
        self.number = 0
        self.health.note_frame(judgment_of(OK))
        self.triggering.start()

    def put(self, images: Images) -> None:
        self.images.append(images)

    def ask(self, part: str, deadline_ms: int = 60_000, **more: Any) -> None:
        before = self.asked
        self.triggering.hear(Asked(TriggerRequest(part, deadline_ms, **more)))
        wait_until(lambda: self.asked > before, 10, "no acknowledgment")

    @property
    def asked(self) -> int:
        """How many triggers were accepted or refused."""
        refused = sum(one.reason is not None for one in self.line.acks)
        return self.triggering.counts().accepted + refused

    def show(self, *says: dict[str, Any]) -> None:
        for one in says:
            self.number += 1
            frame = frame_of(GOOD, self.number, captured_mono_ns=time.monotonic_ns())
            admitted = self.triggering.admit(frame)
            owner = admitted.trigger if isinstance(admitted, Wanted) else None
            self.parts.feed(JudgedFrame(frame, judgment_of(one), self.active, owner))

    def wait_look(self, done: Callable[[], Any]) -> None:
        def looked() -> Any:
            self.parts.look()
            return done()

        wait_until(looked, 10, "it does not happen")

    @property
    def answers(self) -> list[tuple[str, int, str]]:
        return [(one["part"], one["code"], one["reason"]) for one in self.line.answers]

    @property
    def acks(self) -> list[tuple[str, str]]:
        return [
            (one.part, "" if one.reason is None else one.reason.value) for one in self.line.acks
        ]

    def records(self) -> list[tuple[str, int, str, int | None]]:
        return [
            (
                one.fields["part"],
                one.fields["code"],
                one.fields["reason"],
                one.fields["judged_code"],
            )
            for one in self.outbox.unsent(0, 100)
        ]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.triggering.stop()
    made.outbox.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path, fps=30)
    yield made
    made.triggering.stop()
    made.outbox.close()


def full(*_: object) -> None:
    raise StorageError("the disk is full")


def test_it_is_judged_counted_and_kept(rig: Rig) -> None:
    rig.ask("A", frames=2)
    assert rig.records() == []  # open: nobody gets it
    rig.show(NG, NG, NG)
    assert rig.answers == [("A", 2, "anomaly")]
    assert rig.records() == [("A", 2, "anomaly", 2)]
    assert rig.health.verdicts() == {"ok": 0, "ng": 1, "unknown": 0}
    (images,) = rig.images
    assert images.record["frames"] == 2
    assert rig.triggering.is_idle
    assert rig.watched.codes == [2]


def test_the_clock_answers_while_the_disk_is_busy_with_the_judgment(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.decide.trigger.MARGIN_SHARE", 0.6)
    monkeypatch.setattr("edge.decide.trigger.MARGIN_MS", 600)
    settle, waits = Outbox.settle, [0.6]

    def slowly(outbox: Outbox, fields: dict[str, Any]) -> None:
        time.sleep(waits.pop() if waits else 0)
        settle(outbox, fields)

    monkeypatch.setattr(Outbox, "settle", slowly)
    rig.ask("A", deadline_ms=1000)
    rig.show(OK)
    assert rig.answers == [("A", 3, "late")]
    assert rig.line.in_time == [True]
    assert rig.records() == [("A", 3, "late", 1)]
    assert rig.health.verdicts() == {"ok": 0, "ng": 0, "unknown": 1}
    assert len(rig.images) == 1  # as of every UNKNOWN
    assert rig.watched.codes == [3]  # as it was sent


def test_a_judgment_may_take_until_long_after_the_deadline(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = triggered_parts.judged_part

    def slowly(part: Any, combined: str) -> Any:
        time.sleep(0.7)  # the answers thread forgets meanwhile what is over
        return judged(part, combined)

    monkeypatch.setattr(triggered_parts, "judged_part", slowly)
    rig.ask("A", deadline_ms=400)
    rig.show(OK)
    assert rig.records() == [("A", 3, "late", 1)]
    assert rig.triggering.is_idle


def test_a_judgment_that_the_disk_does_not_take_is_late_and_settled_later(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    rig.ask("A")
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "settle", full)
        rig.show(NG)
        assert rig.answers == [("A", 3, "late")]
        assert rig.health.state()[:2] == ("fault", "storage")
        assert rig.records() == []
    wait_until(lambda: rig.records() == [("A", 3, "late", 2)], 10, "never settled")
    assert rig.health.is_ready


def test_a_disk_that_takes_no_number_refuses_and_frees_the_window(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = frame_of(GOOD, 1)
    owned: list[Any] = []

    def full_after_a_frame(*_: object) -> None:
        now_ns = time.monotonic_ns()
        owned.append(rig.triggering.admit(replace(frame, captured_mono_ns=now_ns)))
        full()

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "open", full_after_a_frame)
        rig.ask("A")
    assert rig.acks == [("A", "storage")]
    assert rig.triggering.is_idle
    (trigger,) = [one.trigger for one in owned]
    rig.parts.feed(JudgedFrame(frame, judgment_of(OK), rig.active, trigger))
    assert (trigger.frames, rig.answers) == ([], [])  # its image is not kept
    rig.health.note_storage(works=True)
    rig.ask("B", delay_ms=1000)
    assert rig.acks[-1] == ("B", "")


def test_a_number_that_comes_after_the_deadline_is_refused_and_answered_by_nobody(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Outbox.open

    def slowly(outbox: Outbox, build: Any) -> Any:
        time.sleep(0.1)
        return opened(outbox, build)

    monkeypatch.setattr(Outbox, "open", slowly)
    rig.ask("A", deadline_ms=80)
    rig.show(OK)
    assert (rig.acks, rig.answers) == ([("A", "storage")], [])
    wait_until(lambda: rig.records() == [("A", 3, "late", None)], 10, "the record stays open")


def test_a_judgment_that_never_comes_holds_up_no_record(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GIVE_UP_MS", 20)
    rig.ask("A", deadline_ms=400)
    rig.triggering.admit(frame_of(GOOD, 1, captured_mono_ns=time.monotonic_ns()))
    wait_until(lambda: rig.records() == [("A", 3, "late", None)], 10, "the record stays open")
    assert rig.answers == [("A", 3, "late")]
    assert rig.triggering.is_idle


def test_a_verdict_may_have_a_fixed_moment(rig: Rig) -> None:
    rig.ask("A", answer_ms=300)
    rig.show(NG)
    assert rig.answers == rig.records() == []
    wait_until(lambda: rig.answers, 10, "no answer")
    assert rig.answers == [("A", 2, "anomaly")]
    wait_until(lambda: rig.records() == [("A", 2, "anomaly", 2)], 10, "the record stays open")
    assert rig.triggering.is_idle


def test_what_is_not_judged_at_the_fixed_moment_is_late_then(rig: Rig) -> None:
    rig.ask("A", answer_ms=400)
    frame = frame_of(GOOD, 1, captured_mono_ns=time.monotonic_ns())
    owned = rig.triggering.admit(frame)
    assert isinstance(owned, Wanted)
    wait_until(lambda: rig.answers, 10, "no answer")
    assert rig.answers == [("A", 3, "late")]
    rig.parts.feed(JudgedFrame(frame, judgment_of(NG), rig.active, owned.trigger))
    assert rig.records() == [("A", 3, "late", 2)]


def test_what_is_not_on_disk_at_the_fixed_moment_is_late_then(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "settle", full)
        rig.ask("A", answer_ms=400)
        rig.show(NG)
        assert rig.answers == []
        wait_until(lambda: rig.answers, 10, "no answer")
    assert rig.answers == [("A", 3, "late")]
    wait_until(lambda: rig.records() == [("A", 3, "late", 2)], 10, "never settled")


def test_the_count_of_the_encoder_is_passed_through(rig: Rig) -> None:
    rig.ask("A", n=7, enc=123456)
    rig.show(OK)
    assert [(one["n"], one["enc"]) for one in rig.line.answers] == [(7, 123456)]


def test_no_frame_is_camera_lost_long_before_a_long_deadline(quick: Rig) -> None:
    quick.ask("A")
    quick.wait_look(lambda: quick.answers)
    assert quick.answers == [("A", 3, "camera_lost")]
    assert quick.records() == [("A", 3, "camera_lost", 3)]


def test_a_lost_camera_ends_what_is_in_view_and_not_what_comes(quick: Rig) -> None:
    quick.ask("A", frames=9)
    quick.ask("B", delay_ms=400, frames=9)
    quick.show(OK)
    quick.parts.lose(JudgedFrame(None, unjudged(Reason.STALE), quick.active), Reason.CAMERA_LOST)
    assert quick.answers == [("A", 3, "camera_lost")]
    time.sleep(0.41)
    quick.show(OK)
    quick.parts.finish()
    assert quick.answers[1:] == [("B", 1, "normal")]


def test_the_end_of_the_source_decides_with_the_frames_that_are_there(rig: Rig) -> None:
    rig.ask("A", frames=3)
    rig.show(OK)
    rig.parts.finish()
    assert rig.answers == [("A", 1, "normal")]


def test_more_than_can_be_answered_are_ignored_and_free_their_windows(rig: Rig) -> None:
    may_go_on = threading.Event()
    rig.triggering._jobs.put(may_go_on.wait)
    wait_until(rig.triggering._jobs.empty, 10, "the thread does not work")
    for _ in range(module.JOBS_LIMIT):
        rig.triggering._jobs.put_nowait(lambda: None)
    rig.triggering.hear(Asked(TriggerRequest("A", 60_000, delay_ms=30_000)))
    assert rig.triggering.counts().ignored == 1
    assert rig.triggering.is_idle
    may_go_on.set()
    wait_until(rig.triggering._jobs.empty, 10, "the thread does not work")
    rig.ask("B", delay_ms=30_000)
    assert rig.acks == [("B", "")]


def test_it_is_not_ready_before_the_first_frame(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.health.note_lost(Reason.CAMERA_LOST)
    rig.ask("A")
    assert rig.acks == [("A", "not_ready")]
    rig.triggering.stop()
    rig.outbox.close()


def test_parts_without_a_trigger_are_counted_however_long_they_rest(rig: Rig) -> None:
    rig.show(NO_PART, NO_PART)
    for triggered in (False, True, False):
        rig.show(*[OK] * 40)
        if triggered:
            rig.ask("A")
            rig.show(OK)
        rig.show(NO_PART, NO_PART)
    assert rig.triggering.counts().untriggered == 2


def test_a_part_that_is_not_seen_for_some_frames_counts_once(rig: Rig) -> None:
    rig.show(NO_PART, NO_PART, OK, OK, OK)
    for number in range(5):
        frame = frame_of(GOOD, 100 + number)
        rig.parts.feed(JudgedFrame(frame, unjudged(Reason.BLIND), rig.active))
    rig.show(OK, OK, OK, NO_PART, NO_PART)
    assert rig.triggering.counts().untriggered == 1


def test_a_frame_that_a_trigger_owns_is_never_replaced(rig: Rig) -> None:
    mailbox = Mailbox(admit=rig.triggering.admit)
    rig.ask("A", frames=2)
    now_ns = time.monotonic_ns()
    for number in range(6):
        mailbox.put(frame_of(GOOD, number, captured_mono_ns=now_ns + number))
    mailbox.put(Lost(CameraLost("unplugged")))
    owned = [mailbox.take(0.1) for _ in range(2)]
    assert [one.frame.frame_number for one in owned if isinstance(one, Wanted)] == [0, 1]
    last = mailbox.take(0.1)
    assert isinstance(last, Frame)
    assert last.frame_number == 5
    assert mailbox.dropped == 3


def test_a_frame_that_waits_behind_nothing_gives_way_to_an_owned_one(rig: Rig) -> None:
    mailbox = Mailbox(admit=rig.triggering.admit)
    mailbox.put(frame_of(GOOD, 1, captured_mono_ns=time.monotonic_ns()))
    rig.ask("A")
    mailbox.put(frame_of(GOOD, 2, captured_mono_ns=time.monotonic_ns()))
    assert isinstance(mailbox.take(0.1), Wanted)


def test_once_nothing_waits_and_ready_is_false_no_trigger_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger that has asked for `ready` before must be seen as waiting afterwards."""
    rig = Rig(tmp_path)
    idle: list[bool] = []

    def is_ready(_: Health) -> bool:
        asking = threading.Thread(target=lambda: idle.append(rig.triggering.is_idle))
        asking.start()
        asking.join(0.05)
        assert idle == [], "whoever asks now whether it is idle waits for this trigger"
        return True

    monkeypatch.setattr(Health, "is_ready", property(is_ready))
    rig.ask("P")
    wait_until(lambda: idle, 10, "no answer")
    assert idle == [False]
    rig.triggering.stop()
