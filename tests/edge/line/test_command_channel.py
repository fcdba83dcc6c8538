"""What becomes of a message on `command`, without a broker."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from edge.line.command_channel import CommandChannel
from edge.line.commands import Command, CommandAnswer, Commanded, Unreadable, Verb
from edge.line.connection import Arrival, Message
from edge.line.inbound import Reply
from edge.line.mqtt import MqttLine
from edge.line.topics import Topics
from edge.sections import BrokerConfig
from tests.support.line import PREFIX


class Rig:
    """The channel on a link that notes what is published."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.commanded: list[Commanded] = []
        self.link = SimpleNamespace(connection=self)
        verdicts: Any = SimpleNamespace(link=self.link)
        self.channel = CommandChannel(verdicts, Topics(PREFIX), True, self.commanded.append)

    def publish(self, message: Message, expiry_s: int) -> None:
        assert expiry_s > 0
        self.sent.append(message)


def arrival(payload: bytes, **more: Any) -> Arrival:
    return Arrival(payload, **{"is_retained": False, "is_dup": False, **more})


@pytest.mark.parametrize("old", [{"is_retained": True}, {"expiry_s": 0}])
def test_an_old_one_is_ignored_and_logged(
    old: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig()
    rig.channel.hear(arrival(b'{"do":"pause"}', **old))
    assert (rig.commanded, rig.sent) == ([], [])
    assert "is ignored" in caplog.text


def test_one_is_handed_on_with_who_and_the_mark_of_the_broker() -> None:
    rig = Rig()
    more = {"is_dup": True, "response_topic": "plc/7", "correlation": b"x"}
    rig.channel.hear(arrival(b'{"do":"pause","who":"plc7"}', **more))
    rig.channel.hear(arrival(b'{"do":"pause"}', response_topic=f"{PREFIX}/command"))
    command = Command(Verb.PAUSE)
    assert rig.commanded == [
        Commanded(command, "mqtt plc7", Reply("plc/7", b"x"), True, True),
        Commanded(command, "mqtt", Reply(), True, False),
    ]


def test_one_that_cannot_be_read_is_handed_on_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig()
    for _ in range(2):
        rig.channel.hear(arrival(b'{"do":"pause","how":1}'))
    assert [type(one.command) for one in rig.commanded] == [Unreadable, Unreadable]
    assert caplog.text.count("a command cannot be taken: how: there is no such key") == 1


def test_an_answer_goes_to_both_topics_and_nowhere_without_a_connection() -> None:
    rig, answer = Rig(), CommandAnswer("pause", "mqtt", "no part is judged", id="1")
    rig.channel.answer(answer, Reply("plc/7", b"x"))
    assert [(one.topic, one.correlation) for one in rig.sent] == [
        (f"{PREFIX}/command/answer", b"x"),
        ("plc/7", b"x"),
    ]
    rig.link.connection = None
    rig.channel.answer(answer, Reply())
    assert len(rig.sent) == 2


@pytest.mark.parametrize(("broker", "is_authenticated"), [({}, False), ({"username": "s1"}, True)])
def test_the_station_has_to_have_shown_who_it_is(
    broker: dict[str, Any], is_authenticated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Commanded] = []
    with caplog.at_level(logging.WARNING):
        line = MqttLine(
            BrokerConfig(**broker), PREFIX, None,  # type: ignore[arg-type]  # nothing is recorded
            lambda: b"{}", lambda _: b"{}", commanded=heard.append,
        )  # fmt: skip
    line._commands.hear(arrival(b'{"do":"reset"}'))
    assert [one.is_authenticated for one in heard] == [is_authenticated]
