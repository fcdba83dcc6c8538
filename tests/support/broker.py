"""A real mosquitto on a free port, and a subscriber that notes what arrives and when."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.patience import patience_s

PROTOCOLS = {"5": paho.MQTTv5, "3.1.1": paho.MQTTv311}
CONNECT_S = 5.0
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """mosquitto with persistence, so that sessions and retained messages survive stop() and
    start().

    extra: more lines of its configuration. acl: its access list; it is read again by reload().
    """

    def __init__(self, folder: Path, extra: str = "", acl: str | None = None) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._config, self.acl = folder / "mosquitto.conf", folder / "acl"
        if acl is not None:
            self.acl.write_text(acl)
            # 2.0.11 closes the connection after a denied message where it is 0, no limit.
            extra += f"acl_file {self.acl}\nmax_queued_messages 100000\n"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence"
            f" true\npersistence_location {folder}/\nautosave_interval 1\nmax_queued_messages"
            f" 0\nmax_inflight_messages 0\nuser root\n{extra}"
        )

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            [MOSQUITTO, "-c", str(self._config)], stdout=quiet, stderr=quiet
        )
        wait_until(self._answers, 10.0, "mosquitto does not listen")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(patience_s(10))
            self._process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.signal(signal.SIGCONT)
        self.stop()

    def reload(self, acl: str) -> None:
        self.acl.write_text(acl)
        self.signal(signal.SIGHUP)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True)
class Received:
    """One message. topic: the levels below `prefix`, edge/<site>/<line>/<station>. at_s: UTC.

    dup: sent again by the broker, which has not seen it acknowledged.
    """

    topic: str
    payload: bytes
    retain: bool = False
    dup: bool = False
    at_s: float = 0.0
    expiry_s: int | None = None
    prefix: str = ""

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


class Subscriber:
    """Listens to edge/# as one client.

    session_s: how long the broker keeps its session while it is away; 0: not at all. subscribed:
    how many times the broker has accepted its subscription.
    """

    def __init__(
        self,
        port: int,
        client_id: str = "archive",
        qos: int = 1,
        protocol: str = "5",
        user: str = "",
        session_s: int = 3600,
    ) -> None:
        self.subscribed = 0
        self._received: defaultdict[str, list[Received]] = defaultdict(list)
        level, keeps = PROTOCOLS[protocol], session_s > 0
        clean = {} if level == paho.MQTTv5 else {"clean_session": not keeps}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=level, **clean)
        if user:
            self._client.username_pw_set(user, "any")
        # paho only adds and compares them
        self._client.reconnect_delay_set(0.1, 0.2)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe("edge/#", qos=qos)
        self._client.on_subscribe = self._note_subscribed
        self._client.on_message = self._note
        if level == paho.MQTTv5:
            properties = paho.Properties(paho.PacketTypes.CONNECT)
            properties.SessionExpiryInterval = session_s
            self._client.connect("127.0.0.1", port, clean_start=not keeps, properties=properties)
        else:
            self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(lambda: self.subscribed, CONNECT_S, f"{client_id} could not subscribe")

    def of(self, topic: str) -> list[Received]:
        """The messages of one topic, without those that the broker sent again."""
        return list(self._received[topic])

    def records(self) -> list[dict[str, Any]]:
        return [message.json for message in self.of("record")]

    def take(self, message: Received) -> None:
        """For subclasses: called with every message, including those the broker sent again."""

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _note_subscribed(self, *_: object) -> None:
        self.subscribed += 1

    def _note(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        levels = message.topic.split("/")
        received = Received(
            "/".join(levels[4:]),
            message.payload,
            message.retain,
            message.dup,
            time.time(),
            getattr(message.properties, "MessageExpiryInterval", None),
            "/".join(levels[:4]),
        )
        known = self._received[received.topic]
        if not (message.dup and any(one.payload == message.payload for one in known)):
            known.append(received)
        self.take(received)


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> None:
    """Wait until a condition holds. timeout_s: on a quiet machine; a busy one gets more."""
    end_s = time.monotonic() + patience_s(timeout_s)
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def assert_archive_is_complete(records: list[dict[str, Any]], numbers: list[int]) -> None:
    """Every number arrived, first sendings in order; a repetition is marked and differs only in
    `replay`.
    """
    firsts: dict[int, dict[str, Any]] = {}
    for record in records:
        first = firsts.setdefault(record["seq"], record)
        if first is not record:
            assert record["replay"] is True
            assert {**record, "replay": first["replay"]} == first
    assert list(firsts) == numbers
