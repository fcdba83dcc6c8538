"""The last verdict on request, and verdicts that a PLC acknowledges, without a broker."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from edge.line.base import LineCounters
from edge.line.connection import Arrival, Message
from edge.line.message import record_fields
from edge.line.results import ROOM, ResultChannel
from edge.line.topics import Topics
from tests.support.line import PREFIX, RECORD

ASK = Arrival(b"{}", is_retained=False, is_dup=False)


class Rig:
    """The channel on a link that notes what is published."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.counters = LineCounters()
        verdicts: Any = SimpleNamespace(link=SimpleNamespace(connection=self))
        self.channel = ResultChannel(verdicts, Topics(PREFIX), self.counters)

    def publish(self, message: Message, expiry_s: int) -> None:
        assert expiry_s > 0
        self.sent.append(message)

    def give(self, *seqs: int, age_s: float = 0.0) -> None:
        for seq in seqs:
            completed_ns = time.monotonic_ns() - int(age_s * 1e9)
            self.channel.note(record_fields(RECORD, "s1", seq), completed_ns)

    def ack(self, seq: object) -> None:
        self.channel.hear_ack(replace(ASK, payload=json.dumps({"seq": seq}).encode()))


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_the_last_verdict_comes_with_its_age_and_not_as_a_verdict(rig: Rig) -> None:
    rig.channel.hear_last(ASK)
    rig.give(1, 2, age_s=100.0)
    rig.channel.hear_last(replace(ASK, response_topic="plc/7", correlation=b"x"))
    first, *copies = rig.sent
    assert (first.topic, first.payload) == (f"{PREFIX}/last/verdict", b"{}")
    assert [(one.topic, one.correlation) for one in copies] == [
        (f"{PREFIX}/last/verdict", b"x"),
        ("plc/7", b"x"),
    ]
    said = json.loads(copies[0].payload)
    assert (said["seq"], said["part"], said["ms"] // 1000) == (2, "A17", 100)


def test_a_retained_request_is_not_answered(rig: Rig) -> None:
    rig.channel.hear_last(replace(ASK, is_retained=True))
    assert rig.sent == []


def test_nothing_overruns_where_the_plc_acknowledges_nothing(rig: Rig) -> None:
    rig.give(*range(1, 100))
    assert rig.counters.verdicts_overrun == 0


def test_what_a_plc_that_acknowledges_has_not_taken_is_counted(rig: Rig) -> None:
    rig.give(1)
    rig.ack(1)
    rig.give(*range(2, 2 + ROOM))
    rig.give(1 + ROOM)  # sent again: no further verdict
    assert rig.counters.verdicts_overrun == 0
    rig.ack(3)
    rig.give(50)
    assert rig.counters.verdicts_overrun == 0
    rig.give(51)
    assert rig.counters.verdicts_overrun == 1


def test_what_is_no_acknowledgment_changes_nothing(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in ("1", None):
        rig.ack(wrong)
    rig.channel.hear_ack(replace(ASK, payload=b'{"seq":1}', is_retained=True))
    rig.give(*range(1, 100))
    assert rig.counters.verdicts_overrun == 0
    assert caplog.text.count("an `ack` cannot be read") == 1
