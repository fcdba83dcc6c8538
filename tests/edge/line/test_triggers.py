"""What becomes of a message on `trigger`, without a broker."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as paho
import pytest

from edge.line.base import LineCounters
from edge.line.connection import Arrival, Message
from edge.line.inbound import Ack, Asked, Reply, TriggerRequest
from edge.line.topics import Topics
from edge.line.triggers import TriggerChannel
from tests.support.line import PREFIX

GOOD = Arrival(b'{"part":"A17","deadline_ms":500,"n":7}', is_retained=False, is_dup=False)


class Rig:
    """The channel on a link that notes what is published; is_delayed, connection: of that link."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.asked: list[Asked] = []
        self.counters = LineCounters()
        self.link = SimpleNamespace(connection=self)
        self.verdicts: Any = SimpleNamespace(link=self.link, is_delayed=False)
        self.channel = TriggerChannel(
            self.verdicts, Topics(PREFIX), self.counters, 33.0, self.asked.append
        )

    def publish(self, message: Message, expiry_s: int) -> None:
        assert expiry_s > 0
        self.sent.append(message)

    @property
    def told(self) -> list[tuple[str, bytes]]:
        return [(one.topic.removeprefix(f"{PREFIX}/"), one.payload) for one in self.sent]


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_trigger_is_handed_on_with_the_mark_of_the_broker(rig: Rig) -> None:
    rig.channel.hear(GOOD)
    rig.channel.hear(replace(GOOD, is_dup=True, response_topic="plc/7", correlation=b"x"))
    request = TriggerRequest("A17", 500, 7)
    assert rig.asked == [Asked(request), Asked(request, True, Reply("plc/7", b"x"))]
    assert rig.told == []


@pytest.mark.parametrize("old", [{"is_retained": True}, {"expiry_s": 0}])
def test_an_old_one_is_ignored_and_counted(rig: Rig, old: dict[str, Any]) -> None:
    rig.channel.hear(replace(GOOD, **old))
    assert (rig.asked, rig.told, rig.counters.triggers_ignored) == ([], [], 1)


def test_one_that_may_be_late_is_not_ready(rig: Rig) -> None:
    rig.verdicts.is_delayed = True
    rig.channel.hear(GOOD)
    assert rig.asked == []
    assert [b'"reason":"not_ready"' in payload for _, payload in rig.told] == [True]
    assert rig.counters.triggers_refused == 1


def test_a_bad_one_is_refused_and_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for key in ("framse", "faremes"):
        rig.channel.hear(replace(GOOD, payload=b'{"part":"A","%s":1}' % key.encode()))
    assert [b'"field":"framse"' in rig.told[0][1], b'"field":"faremes"' in rig.told[1][1]] == [
        True,
        True,
    ]
    assert caplog.text.count("a trigger cannot be taken") == 1
    assert "framse: there is no such key" in caplog.text


def test_an_acknowledgment_without_a_connection_is_nothing(rig: Rig) -> None:
    rig.link.connection = None
    rig.channel.acknowledge(Ack("A17", 7, 1), Reply())
    assert rig.told == []


def test_the_properties_of_a_packet_are_read() -> None:
    message = paho.MQTTMessage(topic=b"edge/site/line/s1/trigger")
    message.payload, message.dup = b"x", True
    assert Arrival.of(message) == Arrival(b"x", is_retained=False, is_dup=True)
    message.properties = paho.Properties(paho.PacketTypes.PUBLISH)
    message.properties.ResponseTopic = "plc/7"
    message.properties.CorrelationData = b"\x01"
    message.properties.MessageExpiryInterval = 2
    message.retain = True
    assert Arrival.of(message) == Arrival(b"x", True, True, 2, "plc/7", b"\x01")
