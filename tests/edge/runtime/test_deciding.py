"""The decision thread: what becomes of a lost camera, and when the thread is idle or ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edge.errors import CameraLost, CameraMismatch
from edge.runtime.active import ActiveBundle
from edge.runtime.current import CurrentBundle
from edge.runtime.deciding import QUEUE_LIMIT, Deciding
from edge.runtime.health import Health
from edge.runtime.mailbox import Ended, Lost
from edge.runtime.parts import JudgedFrame
from edge.types import Code, Judgment, Reason
from tests.support.active import make_active
from tests.support.fakes import frame_of
from tests.support.station import GOOD

ACTIVE = make_active()
UNPLUGGED, OTHER = Lost(CameraLost("unplugged")), Lost(CameraMismatch("delivers 848x480"))


def frame(number: int) -> JudgedFrame:
    return JudgedFrame(frame_of(GOOD, number), Judgment(Code.OK, Reason.NORMAL, None, None), ACTIVE)


class Parts:
    """Notes what it is told; every fed frame is a part."""

    def __init__(self, health: Health) -> None:
        self.told: list[Any] = []
        self.is_between_parts = True
        self._health = health

    def feed(self, judged: JudgedFrame) -> None:
        self.told.append(judged)
        self._health.count(Code.OK)

    def look(self) -> None:
        pass

    def lose(self, last: JudgedFrame, reason: Reason) -> None:
        self.told.append((last, reason))

    def refuse(self, active: ActiveBundle, reason: Reason) -> None:
        self.told.append((active, reason))

    def finish(self) -> None:
        self.told.append("finish")


class Rig:
    def __init__(self, max_parts: int | None = None) -> None:
        self.health, self.stopping = Health(), threading.Event()
        self.parts = Parts(self.health)
        self.deciding = Deciding(
            self.parts,  # type: ignore[arg-type]
            CurrentBundle(ACTIVE),
            self.health,
            self.stopping,
            max_parts,
        )

    def told(self, *items: Any) -> list[Any]:
        for item in (*items, Ended()):
            self.deciding.put(item)
        self.deciding.run()
        return self.parts.told


def test_a_camera_that_is_lost_before_any_frame_loses_no_part() -> None:
    assert Rig().told(UNPLUGGED) == ["finish"]


def test_a_lost_camera_ends_the_part_that_the_last_frame_belongs_to() -> None:
    one, rig = frame(1), Rig()
    assert rig.told(one, UNPLUGGED) == [one, (one, Reason.CAMERA_LOST), "finish"]
    assert rig.health.state() == ("degraded", "camera_lost", False)
    assert rig.health.why == "unplugged"


def test_a_camera_that_does_not_fit_is_told_once_until_a_frame_comes_through() -> None:
    one = frame(1)
    told = Rig().told(OTHER, OTHER, UNPLUGGED, OTHER, one, OTHER)
    refusal = (ACTIVE, Reason.CAMERA_MISMATCH)
    assert told == [refusal, one, refusal, "finish"]


def test_it_ends_after_the_number_of_parts_that_was_asked_for() -> None:
    rig = Rig(max_parts=2)
    assert rig.told(*map(frame, range(1, 6))) == rig.parts.told[:2]
    assert rig.health.parts == 2


def test_it_is_between_parts_only_when_everything_is_dealt_with() -> None:
    rig = Rig()
    assert rig.deciding.is_between_parts(0.0)
    rig.deciding.put(frame(1))
    assert not rig.deciding.is_between_parts(0.01), "a frame waits"
    thread = threading.Thread(target=rig.deciding.run, daemon=True)
    thread.start()
    assert rig.deciding.is_between_parts(60)
    rig.parts.is_between_parts = False
    assert not rig.deciding.is_between_parts(60), "a part is open"
    rig.stopping.set()
    thread.join(60)


@pytest.mark.parametrize("asked_to_stop", [False, True])
def test_a_full_queue_holds_the_engine_thread_up_until_the_station_stops(
    asked_to_stop: bool,
) -> None:
    rig, done = Rig(), threading.Event()

    def fill() -> None:
        for number in range(QUEUE_LIMIT + 1):
            rig.deciding.put(frame(number))
        done.set()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    if asked_to_stop:
        rig.stopping.set()
        assert done.wait(60)
    else:
        assert not done.wait(0.15)
        rig.stopping.set()
    thread.join(60)
    assert not thread.is_alive()
