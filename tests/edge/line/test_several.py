"""A station with several dialects: none of them keeps anything from another."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.line import factory
from edge.line.base import Line, LineSetup
from edge.line.commands import CommandAnswer
from edge.line.inbound import Ack, Reply
from edge.line.message import StationState
from edge.line.outbox import Outbox
from edge.line.quiet import QuietLine
from edge.line.several import SeveralLines

TO_MODBUS = Reply(dialect="modbus")


class Told(QuietLine):
    """Notes what it is told, in a list that it shares with the others."""

    tells_plc = True

    def __init__(self, name: str, told: list[tuple[Any, ...]]) -> None:
        super().__init__()
        self.name, self.told = name, told

    def publish_verdict(self, fields: Any, deadline_mono_ns: int) -> bool:
        self.told.append((self.name, "verdict", fields["seq"]))
        return True

    def answer(
        self, fields: Any, deadline_mono_ns: int, completed_mono_ns: int, reply: Any
    ) -> bool:
        self.told.append((self.name, "answer", fields["seq"], reply.dialect))
        return True

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        self.told.append((self.name, "ack", ack.part))

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        self.told.append((self.name, "command", answer.verb))

    def stop(self) -> None:
        self.told.append((self.name, "stop"))


class Broken(QuietLine):
    tells_plc = True

    def _break(self, *_: object) -> bool:
        raise RuntimeError("the library is broken")

    start = stop = records_waiting = publish_verdict = answer = _break  # type: ignore[assignment]


def two() -> tuple[SeveralLines, list[tuple[Any, ...]]]:
    told: list[tuple[Any, ...]] = []
    return SeveralLines({name: Told(name, told) for name in ("mqtt", "modbus")}), told


def test_the_dialect_that_asked_is_answered_first_and_alone_acknowledged() -> None:
    lines, told = two()
    lines.acknowledge(Ack("A17", None, 3), TO_MODBUS)
    assert lines.answer({"seq": 3}, 0, 0, TO_MODBUS)
    lines.answer_command(CommandAnswer("pause", "plc", "paused"), TO_MODBUS)
    assert told == [
        ("modbus", "ack", "A17"),
        ("modbus", "answer", 3, "modbus"),
        ("mqtt", "answer", 3, "mqtt"),
        ("modbus", "command", "pause"),
    ]


def test_one_that_breaks_keeps_no_verdict_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[Any, ...]] = []
    lines = SeveralLines({"opcua": Broken(), "mqtt": Told("mqtt", told)})
    lines.start()
    for seq in (1, 2):
        assert lines.publish_verdict({"seq": seq}, 0)
        lines.records_waiting()
    assert not lines.answer({"seq": 3}, 0, 0, Reply(dialect="opcua"))
    lines.stop()
    assert told == [("mqtt", "verdict", 1), ("mqtt", "verdict", 2), ("mqtt", "answer", 3, "mqtt"),
                    ("mqtt", "stop")]  # fmt: skip
    assert (
        "opcua: `start` of the dialect failed (RuntimeError: the library is broken)" in caplog.text
    )
    assert sum("`verdict` of the dialect failed" in one.message for one in caplog.records) == 1


def test_they_are_stopped_at_the_same_time() -> None:
    """An end by a signal may take 2 s in all."""
    both, met = threading.Barrier(2), []

    class Slow(QuietLine):
        def stop(self) -> None:
            both.wait(60)
            met.append(self)

    SeveralLines({"mqtt": Slow(), "modbus": Slow()}).stop()
    assert len(met) == 2


def test_a_plc_that_is_away_stops_the_line_only_if_no_other_is_there() -> None:
    mqtt, modbus, archive = Told("mqtt", []), Told("modbus", []), QuietLine()
    lines = SeveralLines({"sparkplug": archive, "mqtt": mqtt, "modbus": modbus})
    assert (lines.verdict_problem, lines.record_problem) == (None, None)
    mqtt.verdict_problem = mqtt.problem = "no broker"
    assert (lines.verdict_problem, lines.record_problem) == (None, "no broker")
    modbus.verdict_problem = modbus.problem = "nobody polls"
    assert (lines.verdict_problem, lines.record_problem) == ("no broker", None)


def test_the_counts_are_sums_and_the_longest_backlog_counts() -> None:
    lines, _ = two()
    for line, unsent in zip(lines._lines.values(), (2, 3), strict=True):
        line.counters.verdicts_unsent = unsent
        line.backlog = unsent  # type: ignore[misc]
    assert (lines.counters.verdicts_unsent, lines.backlog) == (5, 3)


def test_what_waits_for_a_dialect_that_is_no_longer_configured_is_forgotten(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Line] = []
    monkeypatch.setattr(
        factory, "DIALECTS", {"mqtt": lambda _: made.append(QuietLine()) or made[0], "other": None}
    )
    monkeypatch.setattr(factory, "SECTIONS", {"mqtt": "broker", "other": "runtime"})
    monkeypatch.setattr(factory, "dialects_of", lambda _: ("mqtt",))
    outbox.consumer("other")
    state = StationState("s1", "online", "", ready=True)
    setup = LineSetup(EdgeConfig(), outbox.path.parent, outbox, lambda: state, lambda: True,
                      changed=lambda: None)  # fmt: skip
    assert factory.make_line(setup) is made[0]
    with closing(sqlite3.connect(outbox.path)) as database:
        assert database.execute("SELECT name FROM consumers").fetchall() == []
