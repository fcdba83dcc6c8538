"""What stands on the other side of the broker: an archive that keeps every record, and a PLC that
acts on verdicts.

Both are clients of their own, so that they see what a plant would see and nothing of the station's
inside.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.broker import wait_until

PROTOCOLS = {"5": paho.MQTTv5, "3.1.1": paho.MQTTv311}
DEADLINE_S = 2.0  # `deadline_ms` in station.toml, by default
AHEAD_S = 0.5  # synced clocks agree that well
CONNECT_S = 5.0


@dataclass(frozen=True)
class Heard:
    """One message. topic: below edge/<site>/<line>/<station>/. at_s: UTC.

    dup: the broker's own repeat.
    """

    topic: str
    payload: bytes
    retain: bool
    dup: bool
    at_s: float

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


class Listener:
    """Notes everything below edge/.

    persistent: in a session that the broker keeps while it is away.
    """

    def __init__(
        self,
        port: int,
        client_id: str,
        protocol: str = "5",
        user: str = "",
        persistent: bool = False,
    ) -> None:
        self.heard: defaultdict[str, list[Heard]] = defaultdict(list)
        self.subscribed = 0
        level = PROTOCOLS[protocol]
        clean = {} if level == paho.MQTTv5 else {"clean_session": not persistent}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=level, **clean)
        if user:
            self._client.username_pw_set(user, "any")
        self._client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]  # paho only adds and compares them
        self._client.on_connect = lambda client, *_: client.subscribe("edge/#", qos=1)
        self._client.on_subscribe = self._note_subscribed
        self._client.on_message = self._note
        if level == paho.MQTTv5:
            properties = paho.Properties(paho.PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 86_400 if persistent else 0
            self._client.connect(
                "127.0.0.1", port, clean_start=not persistent, properties=properties
            )
        else:
            self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(lambda: self.subscribed, CONNECT_S, f"{client_id} could not subscribe")

    def of(self, topic: str) -> list[Heard]:
        return list(self.heard[topic])

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _note_subscribed(self, *_: object) -> None:
        self.subscribed += 1

    def _note(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        topic = "/".join(message.topic.split("/")[4:])
        heard = Heard(topic, message.payload, message.retain, message.dup, time.time())
        self.heard[topic].append(heard)
        self.take(heard)

    def take(self, heard: Heard) -> None:
        """What else is done with a message."""


class Archive(Listener):
    """Keeps the first record of each id, as docs/mqtt.md tells it to, and what is wrong with what
    came after.

    records: by seq, as they came first. order: their seqs. doubled: ids that came again without
    `replay` and without the broker's DUP flag. changed: seqs that came again with another content.
    """

    def __init__(self, port: int, protocol: str = "5", user: str = "") -> None:
        self.records: dict[int, dict[str, Any]] = {}
        self.order: list[int] = []
        self.doubled: list[str] = []
        self.changed: list[int] = []
        super().__init__(port, "archive", protocol, user, persistent=True)

    def take(self, heard: Heard) -> None:
        if heard.topic != "record":
            return
        record = heard.json
        first = self.records.get(record["seq"])
        if first is None:
            self.records[record["seq"]] = record
            self.order.append(record["seq"])
            return
        if {**record, "replay": None} != {**first, "replay": None}:
            self.changed.append(record["seq"])
        if not record["replay"] and not heard.dup:
            self.doubled.append(record["id"])


@dataclass(frozen=True)
class Acted:
    """A verdict that the PLC acted on."""

    verdict: dict[str, Any]
    at_s: float


class Plc(Listener):
    """A PLC with a synced clock that follows the rules of docs/mqtt.md: a new number, and fresh by
    its `at`.

    acted: verdicts that it took. ignored: verdicts that the rule told it to leave.
    """

    def __init__(self, port: int, protocol: str = "5", user: str = "") -> None:
        self.acted: list[Acted] = []
        self.ignored: list[Acted] = []
        self.last_seq = 0
        super().__init__(port, "plc", protocol, user)

    @property
    def state(self) -> dict[str, Any]:
        """The last state; empty before the first."""
        heard = self.of("state")
        return heard[-1].json if heard else {}

    def take(self, heard: Heard) -> None:
        if heard.topic != "verdict":
            return
        acted = Acted(heard.json, heard.at_s)
        takes = not heard.retain and self.accepts(acted)
        (self.acted if takes else self.ignored).append(acted)
        self.last_seq = max(self.last_seq, acted.verdict["seq"])

    def accepts(self, acted: Acted) -> bool:
        """A new number, captured less than the deadline ago and not in the future; `at` null says
        that nobody knows.
        """
        captured_ms = acted.verdict["at"]
        if acted.verdict["seq"] <= self.last_seq or captured_ms is None:
            return False
        return -AHEAD_S <= acted.at_s - captured_ms / 1000.0 <= DEADLINE_S
