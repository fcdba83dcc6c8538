"""A Sparkplug host application for the tests, and one station's line to it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge.config import EdgeConfig
from edge.dialect_sections import SparkplugConfig
from edge.line.message import StateDetails, StationState
from edge.line.outbox import Outbox
from edge.line.sparkplug import SparkplugLine
from edge.line.sparkplug_metrics import DEVICE, NODE
from edge.line.sparkplug_schema import VALUE_FIELD, DataType, payload_class
from edge.line.sparkplug_session import NodeTopics
from edge.sections import BrokerConfig, StationConfig
from tests.support.broker import CONNECT_S, wait_until
from tests.support.line import build

HOST = "scada"
TOPICS = NodeTopics("plant", "line:cell7", "inspection")
DETAILS = StateDetails(
    busy=False, heartbeat=0, link=None, product="washer", bundle="1.0.0-0123456789ab",
    engine="onnxruntime 1.32.0", precision="fp32", ok=7, ng=2, unknown=1,
    medians_ms={"wait": 1.5, "engine": 12.0, "commit": 0.75, "publish": 0.25}, seq=10,
    records_waiting=0, records_dropped=0, records_unwritten=0, verdicts_unsent=0,
    frames_dropped=0, frame_gaps=0, camera_restarts=0, images_dropped=0, uptime_s=60,
)  # fmt: skip
NAMES = {"Properties/Site": "plant", "Properties/Line": "line", "Properties/Station": "cell7"}
BY_ALIAS = {metric.alias: metric for metric in (*NODE, *DEVICE)}


def decode(payload: bytes) -> Any:
    """The message Payload; unknown fields must be absent."""
    return payload_class().FromString(payload)


def value_of(metric: Any) -> Any:
    """None if it is null."""
    kind = metric.WhichOneof("value")
    return None if kind is None else getattr(metric, kind)


@dataclass(frozen=True)
class Heard:
    """One message below spBv1.0/, as it was published. at_s: UTC."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    at_s: float

    @property
    def kind(self) -> str:
        _, first, second, *_ = self.topic.split("/")
        return first if first == "STATE" else second

    @property
    def message(self) -> Any:
        return decode(self.payload)

    @property
    def values(self) -> dict[str, Any]:
        """Values by name, which data messages leave to the alias."""
        return {
            metric.name or BY_ALIAS[metric.alias].name: value_of(metric)
            for metric in self.message.metrics
        }

    @property
    def is_historical(self) -> bool:
        flags = {metric.is_historical for metric in self.message.metrics}
        assert len(flags) == 1
        return flags.pop()


class Host:
    """Listens to everything of Sparkplug, says whether it is online, and sends commands."""

    def __init__(self, port: int, name: str = "host") -> None:
        self.heard: list[Heard] = []
        self.connects = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        # paho only adds and compares them
        self._client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = self._note_subscribed
        self._client.on_message = self._note
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_until(lambda: self.connects, CONNECT_S, "the host could not subscribe")

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def of(self, *kinds: str) -> list[Heard]:
        return [one for one in list(self.heard) if one.kind in kinds]

    def records(self) -> list[Heard]:
        return self.of("DDATA")

    def wait(self, kind: str, count: int) -> list[Heard]:
        wait_until(
            lambda: len(self.of(kind)) >= count,
            20,
            f"not {count} {kind}: {[one.kind for one in self.heard]}",
        )
        return self.of(kind)

    def say(self, is_online: bool, at_ms: int, host_id: str = HOST) -> None:
        payload = json.dumps({"online": is_online, "timestamp": at_ms})
        self.publish(f"spBv1.0/STATE/{host_id}", payload.encode(), qos=1, retain=True)

    def command(self, payload: bytes) -> None:
        self.publish(TOPICS("NCMD"), payload)

    def publish(self, topic: str, payload: bytes, qos: int = 0, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos, retain).wait_for_publish(5)

    def _subscribe(self, client: paho.Client, *_: object) -> None:
        # with the flag as it was published, and with the QoS of the publication
        options = paho.SubscribeOptions(qos=2, retainAsPublished=True)
        client.subscribe("spBv1.0/#", options=options)

    def _note_subscribed(self, *_: object) -> None:
        self.connects += 1

    def _note(self, _: object, __: object, message: paho.MQTTMessage) -> None:
        one = Heard(message.topic, bytes(message.payload), message.qos, message.retain, time.time())
        if one.kind not in ("STATE", "NCMD"):
            self.heard.append(one)


@dataclass
class Station:
    """What the line asks the station for, for a test to change."""

    state: StationState = field(
        default_factory=lambda: StationState("cell7", "online", "", True, DETAILS)
    )

    def change(self, **details: Any) -> None:
        assert self.state.details is not None
        self.state = replace(self.state, details=replace(self.state.details, **details))


def new_sparkplug(
    port: int, outbox: Outbox, station: Station | None = None, host_id: str = "", **broker: Any
) -> SparkplugLine:
    found = station or Station()
    config = BrokerConfig.model_validate({"host": "127.0.0.1", "port": port, **broker})
    return SparkplugLine(
        config, "edge:site:line:cell7:sparkplug", TOPICS, NAMES, host_id, outbox,
        lambda: found.state,
    )  # fmt: skip


@contextmanager
def started_sparkplug(
    port: int, outbox: Outbox, station: Station | None = None, host_id: str = "", **broker: Any
) -> Iterator[SparkplugLine]:
    line = new_sparkplug(port, outbox, station, host_id, **broker)
    line.start()
    try:
        yield line
    finally:
        line.stop()


def wait_born(line: SparkplugLine) -> None:
    wait_until(lambda: line.is_born, 20, f"no births: {line.record_problem}")


def commit(line: SparkplugLine, outbox: Outbox, count: int) -> None:
    for _ in range(count):
        outbox.commit(build)
        line.records_waiting()


def command_of(fill: Callable[[Any], None]) -> bytes:
    """An NCMD with one metric, which `fill` writes."""
    payload = payload_class()(timestamp=int(time.time() * 1000))
    fill(payload.metrics.add(timestamp=payload.timestamp))
    written: bytes = payload.SerializeToString()
    return written


def rebirth() -> bytes:
    def fill(metric: Any) -> None:
        metric.name, metric.datatype = "Node Control/Rebirth", int(DataType.BOOLEAN)
        metric.boolean_value = True

    return command_of(fill)


def field_of(metric: Any) -> str:
    """The member of `value` that the alias's type has."""
    return VALUE_FIELD[BY_ALIAS[metric.alias].datatype]


def config_with(**sparkplug: Any) -> EdgeConfig:
    return EdgeConfig(
        station=StationConfig(site="plant", line="line", station="cell7"),
        broker=BrokerConfig(enabled=False, host="archive"),
        sparkplug=SparkplugConfig(enabled=True, **sparkplug),
    )
