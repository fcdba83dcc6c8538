"""Commands without a broker: one at a time, once, answered once; and the calibration's child."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.errors import BusyError, CalibrationError, EdgeError
from edge.line.commands import Command, CommandAnswer, Commanded, CommandRefusal, Unreadable, Verb
from edge.line.inbound import Reply
from edge.runtime import calibrating, commanding
from edge.runtime.calibrating import calibrate
from edge.runtime.commanding import Commanding, Refused
from edge.sections import CommandsConfig
from edge.station.audit import read_audit
from tests.support.broker import wait_until
from tests.support.patience import HANG_S

RESET = Command(Verb.RESET, id="1")


class Rig:
    """The commands of a station that does nothing but count. outcome: what it raises, if anything;
    may_end: whether it comes to an end.
    """

    def __init__(self, root: Path) -> None:
        self.answers: list[tuple[CommandAnswer, Reply]] = []
        self.rows: list[Any] = []
        self.done: list[tuple[Command, str]] = []
        self.outcome: Exception | None = None
        self.may_end = threading.Event()
        self.may_end.set()
        self.root = root
        line: Any = self
        rows: Any = self
        self.commanding = Commanding(
            CommandsConfig(enabled=True, allow=["reset", "pause"]), root, line, self.do, rows
        )
        self.commanding.start()

    def do(self, command: Command, who: str) -> str:
        self.done.append((command, who))
        assert self.may_end.wait(HANG_S)
        if self.outcome is not None:
            raise self.outcome
        return "it is done"

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        self.answers.append((answer, reply))

    def put(self, act: str, detail: Any, who: str) -> None:
        self.rows.append((act, detail, who))

    def hear(self, command: Command | Unreadable = RESET, **more: Any) -> None:
        self.commanding.hear(Commanded(command, "mqtt", **{"is_authenticated": True, **more}))

    def wait(self, count: int) -> CommandAnswer:
        wait_until(lambda: len(self.answers) >= count, 10, "no answer")
        return self.answers[count - 1][0]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.commanding.stop(5.0)


def test_a_command_is_done_written_down_and_answered(rig: Rig) -> None:
    rig.hear(reply=Reply("plc/7"))
    assert rig.wait(1) == CommandAnswer("reset", "mqtt", "it is done", id="1")
    assert rig.answers[0][1] == Reply("plc/7")
    (row,) = read_audit(rig.root)
    assert (row.act, row.who) == ("command", "mqtt")
    assert row.detail == {"do": "reset", "id": "1", "done": True, "result": "it is done"}


@pytest.mark.parametrize(
    ("outcome", "reason", "result"),
    [
        (Refused(CommandRefusal.UNKNOWN_PRODUCT, "none"), CommandRefusal.UNKNOWN_PRODUCT, "none"),
        (BusyError("edge install"), CommandRefusal.BUSY, "edge install"),
        (EdgeError("no disk"), CommandRefusal.FAILED, "no disk"),
        (KeyError("x"), CommandRefusal.FAILED, "KeyError, the log has the traceback: report it"),
    ],
)
def test_what_goes_wrong_is_answered_and_the_next_one_done(
    rig: Rig, outcome: Exception, reason: CommandRefusal, result: str
) -> None:
    rig.outcome = outcome
    rig.hear()
    answer = rig.wait(1)
    assert (answer.reason, answer.result) == (reason, result)
    assert read_audit(rig.root)[0].detail["reason"] == reason.value
    rig.outcome = None
    rig.hear(Command(Verb.PAUSE))
    assert rig.wait(2).reason is None


def test_what_is_refused_at_once_is_answered_and_written_down(rig: Rig) -> None:
    rig.hear(is_authenticated=False)
    rig.hear(Command(Verb.SELECT, number=1))
    rig.hear(Unreadable("do: one of", "do", "dance", "9"))
    assert [answer.reason for answer, _ in rig.answers] == [
        CommandRefusal.NOT_ALLOWED,
        CommandRefusal.NOT_ALLOWED,
        CommandRefusal.BAD_REQUEST,
    ]
    assert [(detail["do"], detail["done"], who) for _, detail, who in rig.rows] == [
        ("reset", False, "mqtt"),
        ("select", False, "mqtt"),
        ("dance", False, "mqtt"),
    ]
    assert rig.done == []
    rig.hear()
    assert rig.wait(4).reason is None, "it was not remembered as refused"


def test_while_one_is_at_work_another_is_busy_and_a_repeat_waits(rig: Rig) -> None:
    rig.may_end.clear()
    rig.hear(reply=Reply("first"))
    rig.hear(reply=Reply("repeat"))
    rig.hear(Command(Verb.PAUSE, id="2"))
    assert rig.wait(1).reason is CommandRefusal.BUSY
    rig.may_end.set()
    rig.wait(3)
    assert [(answer.id, reply.topic) for answer, reply in rig.answers] == [
        ("2", ""),
        ("1", "first"),
        ("1", "repeat"),
    ]
    assert len(rig.done) == len(read_audit(rig.root)) == 1


def test_a_repeat_within_a_minute_is_the_same_command(rig: Rig) -> None:
    rig.hear()
    rig.wait(1)
    rig.hear(reply=Reply(dialect="modbus"))  # another PLC counts for itself
    rig.wait(2)
    assert len(rig.done) == 2
    rig.hear(reply=Reply("again"))
    assert (rig.wait(3), rig.answers[2][1]) == (rig.wait(1), Reply("again"))
    count = len(rig.done)
    rig.hear(Command(Verb.PAUSE, id="1"))
    assert (rig.wait(4).reason, rig.wait(4).field) == (CommandRefusal.BAD_REQUEST, "id")
    assert len(rig.done) == count


def test_after_a_minute_the_same_id_is_another_command(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commanding, "REPEAT_S", 0.0)
    for number in (1, 2):
        rig.hear()
        rig.wait(number)
        assert len(rig.done) == number


def test_without_an_id_only_a_marked_packet_is_a_repeat(rig: Rig) -> None:
    for number, (is_dup, done) in enumerate([(False, 1), (True, 1), (False, 2)], 1):
        rig.hear(Command(Verb.RESET), is_dup=is_dup)
        rig.wait(number)
        assert len(rig.done) == done


def test_a_flood_is_refused_and_fills_no_table(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commanding, "REMEMBERED", 3)
    for number in range(1, 4):
        rig.hear(Command(Verb.RESET, id=str(number)))
        rig.wait(number)
    for number in range(100):
        rig.hear(Command(Verb.RESET, id=f"more{number}"))
    assert [answer.reason for answer, _ in rig.answers[3:]] == [CommandRefusal.BUSY] * 100
    assert len(rig.done) == 3
    assert len(rig.rows) == commanding.REFUSED_ROWS


def run_child(monkeypatch: pytest.MonkeyPatch, script: str, stop: bool = False) -> str:
    monkeypatch.setattr(calibrating, "COMMAND", (sys.executable, "-c", script))
    stopping = threading.Event()
    moves: list[bool] = []

    def move() -> None:
        moves.append(True)
        if stop:
            stopping.set()

    try:
        return calibrate(Path("root"), ["plane"], stopping, move)
    finally:
        assert moves or "sleep" not in script


def test_the_child_says_what_it_saved_or_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    report = "import time; time.sleep(0.3); print('product  x'); print('saved        version 2')"
    assert run_child(monkeypatch, report) == "saved version 2"
    for script, why in (
        ("import sys; sys.exit('noise\\nedge: the table is not empty')", "the table is not empty"),
        ("raise ValueError('x')", "`edge calibrate` failed .ValueError: x.: report it"),
        ("import os; os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
    ):
        with pytest.raises(CalibrationError, match=why):
            run_child(monkeypatch, script)


def test_the_child_ends_with_the_station(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CalibrationError, match="was ended by SIGKILL"):
        run_child(monkeypatch, "import time; time.sleep(60)", stop=True)
