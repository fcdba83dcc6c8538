"""The registers between the station and its clients, without a network. Times are plain numbers."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import pytest

from edge.line.modbus_board import Board, CommandEdge, Condition, Edges, TriggerEdge
from edge.line.modbus_map import (
    ASKS_END,
    REASONS,
    TELLS_END,
    TELLS_START,
    Asks,
    Field,
    Has,
    Mode,
    Status,
    Table,
    Tells,
    words_of,
)
from edge.line.modbus_results import Shown
from edge.types import Reason
from tests.support.modbus import verdict

READY = Condition("online", "", ready=True, busy=False, heartbeat=1, counts={})
SIZE = TELLS_END - TELLS_START
S = 1_000_000_000


class Rig:
    def __init__(self, is_triggered: bool = True, is_swapped: bool = False) -> None:
        self.board = Board(is_swapped, is_triggered, first_result=1)
        self.now_ns = 0

    def put(self, field: Field, value: int | str) -> Edges:
        edges = self.board.write(field.address, words_of(field.kind, value), self.now_ns)
        assert edges is not None
        return edges

    def show(self, seq: int, deadline_ns: int = 1000, **more: Any) -> None:
        self.board.show(Shown(verdict(seq, **more), deadline_ns, 0), self.now_ns)

    def get(self, field: Field) -> Any:
        words = self.board.read(TELLS_START, SIZE, self.now_ns)
        assert words is not None
        return Table([0] * TELLS_START + words).get(field)

    @property
    def status(self) -> Status:
        return Status(self.get(Tells.STATUS))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_registers_that_do_not_exist_or_are_the_stations_are_refused(rig: Rig) -> None:
    board = rig.board
    for address, count in ((ASKS_END, 1), (0, ASKS_END + 1), (99, 1), (99, 2), (TELLS_END, 1)):
        assert board.read(address, count, 0) is None
    for address in (ASKS_END, TELLS_START, TELLS_END - 1, TELLS_END):
        assert board.write(address, [1], 0) is None
    assert board.write(ASKS_END - 1, [1, 1], 0) is None
    assert board.read(0, ASKS_END, 0) == [0] * ASKS_END
    assert rig.get(Tells.MAP) == 1


def test_a_trigger_is_a_change_of_the_word_and_nothing_else(rig: Rig) -> None:
    assert rig.put(Asks.TRIGGER, 1) == Edges()  # the first since the start: from before it, perhaps
    assert rig.put(Asks.TRIGGER, 1) == Edges()
    rig.put(Asks.PART, "A17")
    rig.put(Asks.DEADLINE_MS, 500)
    assert rig.put(Asks.TRIGGER, 0).trigger == TriggerEdge(0, {"part": "A17", "deadline_ms": 500})
    assert rig.put(Asks.TRIGGER, 0) == rig.put(Asks.N, 3) == Edges()
    edges = rig.board.write(0, [5, *words_of(Asks.PART.kind, "B18")], 0)
    assert edges is not None
    assert edges.trigger is not None
    assert edges.trigger.fields["part"] == "B18"


def test_a_command_is_a_change_of_its_word(rig: Rig) -> None:
    assert rig.board.write(30, [1, 1, 7], 0) == Edges()
    assert rig.board.write(30, [1, 1, 8], 0) == Edges()
    assert rig.board.write(30, [2, 1, 8], 0) == Edges(command=CommandEdge(2, 1, 8))
    rig.board.answer_command(2, 4)
    told = (Tells.COMMAND, Tells.COMMAND_REFUSAL, Tells.COMMAND_ANSWERS)
    assert [rig.get(one) for one in told] == [2, 4, 1]


def test_it_is_ready_only_once_the_trigger_word_is_known(rig: Rig) -> None:
    rig.board.describe(READY)
    assert rig.status == Status.TRIGGERED
    rig.put(Asks.TRIGGER, 9)
    assert rig.status == Status.TRIGGERED | Status.ARMED | Status.READY
    assert (rig.get(Tells.TRIGGER), rig.get(Tells.TRIGGER_ANSWERS)) == (9, 0)
    free = Rig(is_triggered=False)
    free.board.describe(READY)
    assert free.status == Status.READY


def test_the_answer_to_a_trigger(rig: Rig) -> None:
    told = (
        Tells.TRIGGER, Tells.TRIGGER_REFUSAL, Tells.TRIGGER_WRONG, Tells.TRIGGER_ANSWERS,
        Tells.TRIGGER_SEQ,
    )  # fmt: skip
    rig.board.answer_trigger(3, 1, wrong=19)
    assert [rig.get(one) for one in told] == [3, 1, 19, 1, 0]
    assert Status.REFUSED in rig.status
    rig.board.answer_trigger(4, 0, seq=70_000)
    assert [rig.get(one) for one in told] == [4, 0, 0, 2, 70_000]
    assert Status.REFUSED not in rig.status


@pytest.mark.parametrize("is_swapped", [False, True])
def test_the_words_of_a_verdict(is_swapped: bool) -> None:
    rig = Rig(is_swapped=is_swapped)
    rig.now_ns = 61_000_000
    deadline_ns = 100_000_000
    rig.show(70_001, deadline_ns, part="A17", code=2, score=13.25, thr=9.5, n=7, enc=99)
    words = rig.board.read(TELLS_START, SIZE, rig.now_ns)
    assert words is not None
    table = Table([0] * TELLS_START + words, is_swapped)
    told = (
        Tells.CODE, Tells.REASON, Tells.SEQ, Tells.N, Tells.ENC, Tells.SCORE, Tells.THRESHOLD,
        Tells.MS, Tells.PART, Tells.RESULT, Tells.RESULT_AGAIN, Tells.VALID,
    )  # fmt: skip
    assert [table.get(one) for one in told] == [
        2, REASONS[Reason.ANOMALY], 70_001, 7, 99, 13.25, 9.5, 61, "A17", 1, 1, 1
    ]  # fmt: skip
    assert table.get(Tells.HAS) == Has.SCORE | Has.THRESHOLD | Has.N | Has.ENC
    rig.show(70_002, deadline_ns)
    assert [rig.get(one) for one in (Tells.HAS, Tells.SCORE, Tells.N)] == [0, 0, 0]


def test_a_verdict_is_valid_until_its_deadline(rig: Rig) -> None:
    rig.show(1)
    assert (rig.get(Tells.VALID), Status.VALID in rig.status) == (1, True)
    rig.now_ns = 1000
    assert (rig.get(Tells.VALID), Status.VALID in rig.status) == (0, False)
    assert rig.get(Tells.SEQ) == 1


def test_one_by_one_with_acknowledgment_and_overrun(rig: Rig) -> None:
    rig.put(Asks.MODE, Mode.ONE_BY_ONE)
    for seq in range(1, 20):
        rig.show(seq)
    assert (rig.get(Tells.SEQ), rig.get(Tells.OVERRUN)) == (1, 2)
    assert Status.OVERRUN in rig.status
    rig.put(Asks.ACK, 1)
    assert (rig.get(Tells.SEQ), rig.get(Tells.VALID), rig.get(Tells.RESULT)) == (4, 1, 2)
    rig.put(Asks.ACK, 2)
    assert Status.OVERRUN not in rig.status
    assert rig.put(Asks.ACK, 2) == Edges()
    assert rig.get(Tells.SEQ) == 5


def test_the_next_is_shown_when_the_deadline_of_this_one_has_passed(rig: Rig) -> None:
    rig.put(Asks.MODE, Mode.ONE_BY_ONE)
    rig.show(1, deadline_ns=50)
    rig.show(2)
    assert rig.get(Tells.SEQ) == 1
    rig.now_ns = 60
    assert (rig.get(Tells.SEQ), rig.get(Tells.VALID)) == (2, 1)


def test_reading_is_noted(rig: Rig) -> None:
    board = rig.board
    assert board.unpolled_s(S) is None
    board.read(0, ASKS_END, 0)
    assert board.unpolled_s(S) is None
    rig.show(1)
    board.read(Tells.STATUS.address, 1, 0)
    assert (board.unpolled_s(S), board.counts().read, board.is_drained) == (1.0, 0, False)
    board.read(Tells.CODE.address, 1, 0)
    assert (board.counts().read, board.is_drained) == (1, True)


def test_the_heartbeat_of_the_plc_is_watched_on_request(rig: Rig) -> None:
    board = rig.board
    assert board.unbeaten_s(S) is None
    rig.put(Asks.MODE, Mode.HEARTBEAT)
    rig.now_ns = S
    rig.put(Asks.HEARTBEAT, 0)
    assert board.unbeaten_s(S) == 1.0
    rig.put(Asks.HEARTBEAT, 1)
    assert board.unbeaten_s(S) == 0.0
    rig.put(Asks.MODE, 0)
    assert board.unbeaten_s(9 * S) is None


def test_the_state(rig: Rig) -> None:
    counts = {Tells.OK: 70_000, Tells.UNTRIGGERED: 2}
    rig.board.describe(Condition("fault", "storage", False, True, 65_537, counts))
    told = (Tells.STATE, Tells.STATE_REASON, Tells.HEARTBEAT, Tells.OK, Tells.UNTRIGGERED)
    assert [rig.get(one) for one in told] == [3, REASONS[Reason.STORAGE], 1, 70_000, 2]
    assert rig.status == Status.TRIGGERED | Status.FAULT | Status.BUSY


def test_no_read_mixes_two_verdicts() -> None:
    """A reader and a writer at full speed; all words of a verdict come from its number."""
    rig = Rig()
    done = threading.Event()

    def hammer() -> None:
        for seq in itertools.count(1):
            if done.is_set():
                break
            rig.show(seq, deadline_ns=1 << 62, part=f"P{seq}", n=seq, score=float(seq), thr=0.0)

    writer = threading.Thread(target=hammer)
    writer.start()
    seen = set()
    end_s = time.monotonic() + 60
    try:
        while len(seen) < 50 and time.monotonic() < end_s:
            words = rig.board.read(TELLS_START, SIZE, 0)
            assert words is not None
            table = Table([0] * TELLS_START + words)
            if table.get(Tells.VALID):
                seq = table.get(Tells.SEQ)
                told = [table.get(one) for one in (Tells.PART, Tells.N, Tells.SCORE, Tells.RESULT)]
                assert told == [f"P{seq}", seq, seq, seq]
                assert table.get(Tells.RESULT_AGAIN) == seq
                seen.add(seq)
    finally:
        done.set()
        writer.join()
    assert len(seen) == 50
