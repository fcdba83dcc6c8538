"""The engine thread: which frames reach the engine, and when another bundle takes over."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.errors import CameraLost, ConfigError
from edge.runtime.active import ActiveBundle
from edge.runtime.current import CurrentBundle
from edge.runtime.health import Health
from edge.runtime.judging import FrameJudge, Judging
from edge.runtime.mailbox import Ended, Item, Lost, Mailbox
from edge.runtime.parts import JudgedFrame
from edge.runtime.progress import Progress
from edge.types import Code, Frame, Judgment, Reason
from tests.support.active import Closable, FakeActive, make_active
from tests.support.fakes import frame_of, other_lens
from tests.support.station import GOOD, HEIGHT, INTRINSICS, WIDTH

BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def now(number: int, **changes: Any) -> Frame:
    """A frame of this moment."""
    return frame_of(GOOD, number, **{"captured_mono_ns": time.monotonic_ns(), **changes})


def judge(finds_freezes: bool = True) -> FrameJudge:
    return FrameJudge(Health(), max_age_ms=500.0, finds_freezes=finds_freezes)


def test_a_frame_that_can_be_trusted_is_the_engines() -> None:
    active = make_active()
    judgment = judge().judge(now(1), active)
    assert (judgment.code, judgment.score) == (Code.OK, 1.0)
    assert active.engine.runs == 1  # type: ignore[attr-defined]


def test_a_frame_that_a_trigger_owns_may_wait_for_the_engine_but_not_come_late() -> None:
    active, now_ns = make_active(), time.monotonic_ns()
    old = now(1, captured_mono_ns=now_ns - 900_000_000)
    assert judge().judge(old, active, now_ns - 800_000_000).code is Code.OK
    assert judge().judge(old, active, now_ns).reason is Reason.STALE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"captured_mono_ns": time.monotonic_ns() - 600_000_000}, Reason.STALE),
        ({"color": BLACK}, Reason.BLIND),
        ({"depth": np.zeros((HEIGHT, WIDTH), np.uint16)}, Reason.BLIND),
        ({"intrinsics": replace(INTRINSICS, fx=INTRINSICS.fx * 1.04)}, Reason.CAMERA_MISMATCH),
    ],
)
def test_one_that_cannot_is_unknown_and_the_engine_is_not_asked(
    changes: dict[str, Any], reason: Reason
) -> None:
    active, health = make_active(), Health()
    judgment = FrameJudge(health, 500.0, True).judge(now(1, **changes), active)
    assert (judgment.code, judgment.reason, judgment.score) == (Code.UNKNOWN, reason, None)
    assert judgment.threshold == active.rule.threshold
    assert active.engine.runs == 0  # type: ignore[attr-defined]


def test_an_old_frame_is_stale_before_it_is_anything_else() -> None:
    old = replace(other_lens(now(1)), captured_mono_ns=time.monotonic_ns() - 600_000_000)
    assert judge().judge(replace(old, color=BLACK), make_active()).reason is Reason.STALE


def test_a_number_that_does_not_advance_is_stale_unless_the_camera_was_opened_again() -> None:
    one, active = judge(), make_active()
    assert one.judge(now(7), active).reason is Reason.NORMAL
    assert one.judge(now(7), active).reason is Reason.STALE
    one.forget_previous()
    assert one.judge(now(1), active).reason is Reason.NORMAL


@pytest.mark.parametrize(("finds_freezes", "last"), [(True, Reason.STALE), (False, Reason.NORMAL)])
def test_still_images_may_repeat_themselves(finds_freezes: bool, last: Reason) -> None:
    one, active, picture = judge(finds_freezes), make_active(), now(0)
    reasons = [
        one.judge(
            replace(picture, frame_number=number, captured_mono_ns=time.monotonic_ns()), active
        ).reason
        for number in range(1, 20)
    ]
    assert (reasons[0], reasons[-1]) == (Reason.NORMAL, last)


def test_a_site_that_cannot_be_read_is_uncalibrated_and_says_why() -> None:
    class Damaged(FakeActive):
        def site(self, serial: str) -> Any:
            raise ConfigError("site/geometry.json is damaged")

    health = Health()
    damaged = Damaged(**vars(make_active()))
    judgment = FrameJudge(health, 500.0, True).judge(now(1), damaged)
    health.note_frame(judgment)
    assert judgment.reason is Reason.UNCALIBRATED
    assert health.why == "site/geometry.json is damaged"


def test_a_reason_that_comes_and_goes_is_logged_again_after_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("edge.runtime.judging.time.monotonic", lambda: now_s[0])
    one, active = judge(), make_active()
    with caplog.at_level(logging.WARNING):
        for number in range(1, 20):
            one.judge(now(number, **({"color": BLACK} if number % 2 else {})), active)
        assert caplog.text.count("blind: ") == 1
        now_s[0] += 61
        one.judge(now(20), active)
        one.judge(now(21, color=BLACK), active)
    assert caplog.text.count("blind: ") == 2


# --- the thread


class Decisions:
    """Takes what the thread hands over; between parts where the test says so."""

    def __init__(self) -> None:
        self.items: list[JudgedFrame | Lost | Ended] = []
        self.between_parts = True

    def put(self, item: JudgedFrame | Lost | Ended) -> None:
        self.items.append(item)

    def is_between_parts(self, timeout_s: float) -> bool:
        return self.between_parts


class Script(Mailbox):
    """Plays items and calls, then stops the thread."""

    def __init__(self, steps: list[Any], stopping: threading.Event) -> None:
        super().__init__()
        self._steps, self._stopping = steps, stopping

    def take(self, timeout_s: float) -> Item | None:
        if not self._steps:
            self._stopping.set()
            return None
        step = self._steps.pop(0)
        return step() if callable(step) else step


class Rig:
    def __init__(self, *steps: Any) -> None:
        self.first = make_active("1")
        self.current, self.decisions = CurrentBundle(self.first), Decisions()
        self.health, self.progress, self.told = Health(), Progress(), []
        stopping = threading.Event()
        self.judging = Judging(
            Script(list(steps), stopping),
            FrameJudge(self.health, 500.0, True),
            self.current,
            self.decisions,  # type: ignore[arg-type]
            self.health,
            self.progress,
            lambda: self.told.append(self.current.get()),
            stopping,
        )

    def judged_by(self) -> list[ActiveBundle]:
        return [one.active for one in self.decisions.items if isinstance(one, JudgedFrame)]


def test_frames_are_judged_counted_and_are_progress_as_events_are() -> None:
    lost = Lost(CameraLost("unplugged"))
    rig = Rig(lambda: now(1), lost, lambda: now(1), None, Ended())
    rig.judging.run()
    assert [type(one) for one in rig.decisions.items] == [JudgedFrame, Lost, JudgedFrame, Ended]
    judgments = [one.judgment for one in rig.decisions.items if isinstance(one, JudgedFrame)]
    assert [one.reason for one in judgments] == [Reason.NORMAL] * 2, "another opening, number 1"
    assert (rig.judging.seen.frames, rig.judging.seen.serial) == (2, now(1).serial)
    assert rig.progress.steps.count == 4


def test_another_bundle_takes_effect_between_parts_and_the_old_engine_is_closed() -> None:
    second = make_active("2")
    rig = Rig(
        lambda: now(1),
        lambda: setattr(rig.decisions, "between_parts", False) or rig.current.offer(second),
        lambda: now(2),
        lambda: setattr(rig.decisions, "between_parts", True),
        lambda: now(3),
    )
    rig.judging.run()
    assert rig.judged_by() == [rig.first, rig.first, second]
    assert rig.told == [second]
    engine = rig.first.engine
    assert isinstance(engine, Closable)
    assert engine.closed


def test_new_site_state_keeps_the_engine_open() -> None:
    rig = Rig(lambda: rig.current.offer(make_active("1", engine=rig.first.engine)))
    rig.judging.run()
    assert rig.current.get() is not rig.first
    engine = rig.first.engine
    assert isinstance(engine, Closable)
    assert not engine.closed


def test_an_engine_that_skips_most_frames_is_slow() -> None:
    rig = Rig(*[lambda number=number: now(5 * number) for number in range(1, 40)])
    rig.health.note_frame(Judgment(Code.OK, Reason.NORMAL, None, None))
    rig.judging.run()
    assert rig.health.state()[1] == "slow"
