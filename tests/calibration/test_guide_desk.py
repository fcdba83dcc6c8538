"""Orders of a person and states told to one, through pipes, without a station."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO, cast

import pytest

from calibration import guide_desk
from calibration.guide_desk import GuideDesk, Stopped
from calibration.guided import SIGN, _Attended
from calibration.shown_parts import PartRefused, Sight
from calibration.station import CalibrationStation
from edge.control.guide import GuideBegin, GuideOrder, GuideState, Order
from edge.decide.gate import Part
from tests.support.broker import wait_until
from tests.support.patience import HANG_S


class Desk:
    """A desk, and the other end of its pipes."""

    def __init__(self, orders: TextIO, person: TextIO, folder: Path) -> None:
        self.person, self.out = person, io.StringIO()
        self.desk = GuideDesk(GuideBegin(what="parts", who="anna"), orders, self.out, folder)

    def order(self, order: Order, who: str = "anna") -> None:
        print(GuideOrder(order=order, who=who).model_dump_json(), file=self.person, flush=True)

    def states(self) -> list[GuideState]:
        return [GuideState.model_validate_json(one) for one in self.out.getvalue().splitlines()]


class Belt:
    """Brings one part after the other, whoever looks."""

    def next_part(self, timeout_s: float) -> Part[Sight]:
        assert timeout_s > 0
        return Part(())


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    read, write = os.pipe()
    with os.fdopen(read) as orders, os.fdopen(write, "w") as person:
        made = Desk(orders, person, tmp_path / "guide")
        yield made
        person.close()
        wait_until(lambda: not made.desk._reader.is_alive(), HANG_S, "still reading")


def test_a_signature_from_before_the_question_is_no_answer(desk: Desk) -> None:
    desk.order("sign", "early")
    wait_until(lambda: not desk.desk._orders.empty(), HANG_S, "not read")
    later = threading.Timer(0.5, desk.order, ("sign", "late"))
    later.start()
    assert desk.desk.wait(SIGN).who == "late"
    later.join()


def test_stop_counts_whenever_it_was_said(desk: Desk) -> None:
    desk.order("stop")
    wait_until(lambda: not desk.desk._orders.empty(), HANG_S, "not read")
    with pytest.raises(Stopped) as stopped:
        desk.desk.wait(SIGN)
    assert stopped.value.why == "stopped"


def test_the_end_of_the_station_is_an_interruption(desk: Desk) -> None:
    desk.person.close()
    with pytest.raises(Stopped) as stopped:
        desk.desk.wait(SIGN)
    assert stopped.value.why == "interrupted"


def test_who_leaves_without_a_word_changes_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guide_desk, "LEFT_S", 0.3)
    begun_s = time.monotonic()
    with pytest.raises(Stopped) as stopped:
        desk.desk.wait(SIGN)
    assert stopped.value.why == "left"
    assert time.monotonic() - begun_s >= 0.3


def test_parts_that_are_refused_without_end_do_not_hold_the_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guide_desk, "LEFT_S", 0.3)
    desk.desk.show(1, b"one")
    begun_s = time.monotonic()

    station = _Attended(cast("CalibrationStation", Belt()), desk.desk)

    def refuse_all() -> None:
        while time.monotonic() < begun_s + HANG_S:
            station.next_part(HANG_S)
            refused = PartRefused("part 2: why", "partial", [2], b"two")
            desk.desk.refuse(refused, "showing")

    with pytest.raises(Stopped) as stopped:
        refuse_all()
    assert stopped.value.why == "left"
    assert time.monotonic() - begun_s >= 0.25


def test_what_is_told_has_the_pictures_and_grows(desk: Desk, tmp_path: Path) -> None:
    desk.desk.show(1, b"one")
    desk.desk.refuse(PartRefused("part 2: why", "partial", [2], b"two"), "showing")
    desk.desk.show(2, b"three")
    shown, refused, again = desk.states()
    assert [one.version for one in (shown, refused, again)] == [1, 2, 3]
    assert (tmp_path / "guide" / shown.shown[0].picture).read_bytes() == b"one"
    assert refused.refusal is not None
    assert (refused.refusal.why, refused.refusal.numbers) == ("partial", (2,))
    assert (tmp_path / "guide" / refused.refusal.picture).read_bytes() == b"two"
    assert again.refusal is None
    assert [one.number for one in again.shown] == [1, 2]
