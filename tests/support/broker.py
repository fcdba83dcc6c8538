"""A real mosquitto on a free port, and a subscriber that notes what arrives and when."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.patience import patience_s

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
    """topic: the last levels, below edge/<site>/<line>/<station>/. at_s: time.monotonic()."""

    topic: str
    payload: bytes
    retain: bool
    at_s: float
    expiry_s: int | None

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.payload)
        return found


class Subscriber:
    """Listens to edge/# in a session that the broker keeps while the subscriber is away."""

    def __init__(self, port: int, client_id: str = "archive", qos: int = 1) -> None:
        self.messages: list[Received] = []
        self._ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        properties = paho.Properties(paho.PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("edge/#", qos=qos)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._note
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._ready.wait(patience_s(10))

    def of(self, topic: str) -> list[Received]:
        return [message for message in list(self.messages) if message.topic == topic]

    def records(self) -> list[dict[str, Any]]:
        return [message.json for message in self.of("record")]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _note(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        expiry = getattr(message.properties, "MessageExpiryInterval", None)
        topic = "/".join(message.topic.split("/")[4:])
        if message.dup and any(message.payload == earlier.payload for earlier in self.of(topic)):
            # not the station's repeat: the broker's, of what it did not see acknowledged before it
            # stopped
            return
        self.messages.append(
            Received(topic, message.payload, message.retain, time.monotonic(), expiry)
        )


def wait_until(condition: Callable[[], Any], timeout_s: float, what: str) -> None:
    """timeout_s: on a quiet machine. A busy one is given patience."""
    end_s = time.monotonic() + patience_s(timeout_s)
    while not condition():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)


def assert_archive_is_complete(records: list[dict[str, Any]], numbers: list[int]) -> None:
    """Every number arrived, its first sending in order; a repeat is marked and differs in `replay`
    only.
    """
    firsts: dict[int, dict[str, Any]] = {}
    for record in records:
        first = firsts.setdefault(record["seq"], record)
        if first is not record:
            assert record["replay"] is True
            assert {**record, "replay": first["replay"]} == first
    assert list(firsts) == numbers
