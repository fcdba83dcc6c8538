"""Windows, repeats and deadlines of triggers, over times that the tests give."""

from __future__ import annotations

import pytest

from edge.decide.trigger import FRAMES_LIMIT, MS, OPEN_LIMIT, Trigger, Triggers, due_of, window_of

PERIOD_NS = 33 * MS
STALE_NS = 500 * MS


class Rig:
    def __init__(self) -> None:
        self.triggers: Triggers[str] = Triggers(PERIOD_NS, STALE_NS)

    def ask(
        self, name: str, at_ms: int, n: int | None = None, deadline_ms: int = 1000,
        delay_ms: int = 0, frames: int = 1,
    ) -> Trigger[str] | None:  # fmt: skip
        opened = self.triggers.open((name, n), at_ms * MS, deadline_ms, delay_ms, frames)
        if opened is not None:
            opened.is_accepted = True
        return opened

    def owner(self, captured_ms: int) -> str | None:
        found = self.triggers.claim(captured_ms * MS)
        return None if found is None else found.name[0]

    def judge(self, trigger: Trigger[str] | None, *frames: str) -> None:
        assert trigger is not None
        trigger.frames += frames

    def complete(self, at_ms: int) -> list[str]:
        return [one.name[0] for one in self.triggers.complete(at_ms * MS)]

    def due(self, at_ms: int) -> list[str]:
        return [one.name[0] for one in self.triggers.due(at_ms * MS)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_first_frame_after_trigger_and_delay_begins_the_part(rig: Rig) -> None:
    rig.ask("A", at_ms=100, delay_ms=50, frames=2)
    assert [rig.owner(at) for at in (90, 123, 150)] == [None] * 3
    assert [rig.owner(at) for at in (156, 189, 222)] == ["A", "A", None]


def test_no_frame_after_the_window_is_the_parts_own(rig: Rig) -> None:
    rig.ask("A", at_ms=100, frames=2)
    assert window_of(100 * MS, 0, 2, PERIOD_NS).end_ns == (100 + 3 * 33) * MS
    assert [rig.owner(at) for at in (199, 200)] == ["A", None]
    rig.ask("B", at_ms=300, frames=1)
    assert rig.owner(367) is None
    assert rig.complete(367) == ["B"]  # closed by a frame that came too late


def test_a_part_is_handed_out_once_when_all_its_frames_are_judged(rig: Rig) -> None:
    a = rig.ask("A", at_ms=0, frames=2)
    rig.owner(10), rig.owner(43)
    assert rig.complete(50) == []
    rig.judge(a, "first")
    assert rig.complete(50) == []
    rig.judge(a, "second")
    assert (rig.complete(50), rig.complete(51)) == (["A"], [])


def test_a_part_with_fewer_frames_waits_until_no_fresh_one_can_come(rig: Rig) -> None:
    a = rig.ask("A", at_ms=0, frames=2, deadline_ms=2000)
    rig.owner(10)
    rig.judge(a, "first")
    assert (rig.complete(99 + 500), rig.complete(99 + 501)) == ([], ["A"])


def test_it_is_not_handed_out_before_the_plc_was_told_that_it_is_accepted(rig: Rig) -> None:
    a = rig.ask("A", at_ms=0)
    assert a is not None
    a.is_accepted = False
    rig.owner(10)
    rig.judge(a, "first")
    assert rig.complete(20) == []
    assert rig.triggers.next_due_ns() is None
    a.is_accepted = True
    assert rig.complete(20) == ["A"]


def test_overlapping_windows_are_refused_and_the_next_one_is_not(rig: Rig) -> None:
    assert rig.ask("A", at_ms=0)
    assert rig.ask("B", at_ms=65) is None
    assert rig.ask("C", at_ms=66)  # while A is still being judged
    assert rig.ask("D", at_ms=70, delay_ms=500)
    assert rig.ask("E", at_ms=560) is None  # D's frames


def test_the_window_stays_owned_when_its_frames_came_early(rig: Rig) -> None:
    rig.ask("A", at_ms=0)
    assert rig.owner(5) == "A"
    assert rig.ask("B", at_ms=40) is None


def test_a_cancelled_window_is_free(rig: Rig) -> None:
    a = rig.ask("A", at_ms=0)
    assert a is not None
    rig.triggers.cancel(a)
    assert rig.ask("B", at_ms=10)
    assert rig.owner(20) == "B"


def test_what_may_wait_is_bounded(rig: Rig) -> None:
    asked = [rig.ask("P", at_ms=1000 * i, n=i, deadline_ms=60_000) for i in range(OPEN_LIMIT + 1)]
    assert [one is not None for one in asked] == [True] * OPEN_LIMIT + [False]
    many = Rig()
    half = FRAMES_LIMIT // 2 + 1
    assert many.ask("A", at_ms=0, frames=half, deadline_ms=60_000)
    assert many.ask("B", at_ms=20_000, frames=half, deadline_ms=60_000) is None


def test_a_repeat_is_the_same_part_and_n_within_the_deadline(rig: Rig) -> None:
    a = rig.ask("A", at_ms=0, n=7, deadline_ms=1000)
    find = rig.triggers.find_repeated
    assert find(("A", 7), False, 999 * MS) is a
    assert find(("A", 7), False, 1000 * MS) is None
    assert find(("A", 8), False, 10 * MS) is None
    assert find(("B", 7), False, 10 * MS) is None


def test_without_n_only_a_packet_marked_by_the_broker_is_a_repeat(rig: Rig) -> None:
    a = rig.ask("A", at_ms=0)
    assert rig.triggers.find_repeated(("A", None), False, 10 * MS) is None
    assert rig.triggers.find_repeated(("A", None), True, 10 * MS) is a


def test_the_answer_is_claimed_once_by_judgment_or_clock(rig: Rig) -> None:
    a, b = rig.ask("A", at_ms=0), rig.ask("B", at_ms=100)
    assert a is not None
    assert rig.triggers.next_due_ns() == 950 * MS
    assert rig.triggers.answer(a)
    assert rig.triggers.next_due_ns() == 1050 * MS
    assert rig.due(1049) == []
    assert rig.due(1050) == ["B"]
    assert rig.due(1051) == []
    assert b is not None
    assert not rig.triggers.answer(b)


def test_the_answer_leaves_before_the_deadline_however_short_it_is() -> None:
    assert due_of(0, 2000) == 1950 * MS
    assert due_of(0, 50) == 40 * MS


def test_a_lost_camera_ends_the_windows_that_have_begun_and_no_other(rig: Rig) -> None:
    a, b = rig.ask("A", at_ms=0, frames=2), rig.ask("B", at_ms=100, delay_ms=500)
    rig.owner(10)
    rig.judge(a, "first")
    rig.triggers.lose(200 * MS, "lost")
    assert a is not None
    assert a.frames == ["first", "lost"]
    assert rig.complete(200) == ["A"]
    assert b is not None
    assert not b.is_closed


def test_what_is_over_is_forgotten_after_its_deadline(rig: Rig) -> None:
    a, b = rig.ask("A", at_ms=0, n=1), rig.ask("B", at_ms=100, n=1)
    assert a is not None
    rig.owner(10)
    rig.judge(a, "first")
    assert rig.complete(20) == ["A"]
    rig.triggers.answer(a)
    assert rig.triggers.drop_finished(1001 * MS, 0) == []
    assert rig.triggers.holds(a)  # somebody is still at work on its frames
    a.is_concluded = True
    assert rig.triggers.drop_finished(999 * MS, 0) == []
    assert rig.triggers.find_repeated(("A", 1), False, 999 * MS) is a
    assert rig.triggers.drop_finished(1001 * MS, 500 * MS) == []
    assert not rig.triggers.holds(a)
    assert rig.due(1100) == ["B"]
    assert rig.triggers.drop_finished(1601 * MS, 500 * MS) == [b]
    assert rig.triggers.waiting == 0
    assert rig.triggers.drop_finished(1602 * MS, 500 * MS) == []
