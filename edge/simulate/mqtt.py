"""The PLC's end of MQTT (docs/mqtt.md): MQTT 5, or 3.1.1 where station.toml says so."""

from __future__ import annotations

import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.errors import ConfigError, EdgeError
from edge.line import tcp
from edge.line.credentials import read_password, tls_context, with_paths_below
from edge.line.inbound import TriggerRequest
from edge.line.remedy import address_of, cause_of_error, cause_of_refusal
from edge.line.topics import Topics
from edge.sections import BrokerConfig
from edge.simulate.link import Acked, Event, Hearing, Readiness, StationAddress, Told

KEEPALIVE_S = 10
AGAIN_S = 1  # between two tries to connect
LISTENED = ("trigger/ack", "verdict", "heartbeat")


class MqttPlc(Hearing):
    """A PLC as one MQTT client with a name of its own."""

    def __init__(self, broker: BrokerConfig, topics: Topics) -> None:
        """Raises: ConfigError if a file of [broker] cannot be used."""
        super().__init__()
        self._broker, self._topics = broker, topics
        self._client_id = f"plc{secrets.token_hex(8)}"  # 23 letters and digits at most: any broker
        self._hears: Mapping[str, Callable[[Any, float], Event]] = {
            topics("trigger/ack"): _acked,
            topics("verdict"): _told,
            topics("heartbeat"): _beat,
        }
        self._listens = threading.Event()  # connected, and subscribed
        self._refused = ""
        self._is_5 = broker.protocol == "5"
        self._client = self._new_client()

    def connect(self, timeout_s: float) -> None:
        """As PlcLink's."""
        try:
            self._client.connect(self._broker.host, self._broker.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            raise EdgeError(cause_of_error(error, self._broker).sentence) from error
        self._client.loop_start()
        end_s = time.monotonic() + timeout_s
        while not self._listens.wait(0.05):
            if self._refused or time.monotonic() > end_s:
                self.close()
                silence = f"{address_of(self._broker)} does not answer within {timeout_s:g} s"
                raise EdgeError(self._refused or silence)

    def trigger(self, request: TriggerRequest) -> bool:
        """As PlcLink's. With MQTT 5 it expires with its deadline."""
        if not self._listens.is_set():
            return False
        asked = {key: value for key, value in vars(request).items() if value is not None}
        payload = json.dumps(asked, separators=(",", ":")).encode()
        expiry = None
        if self._is_5:
            expiry = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            expiry.MessageExpiryInterval = math.ceil(request.deadline_ms / 1000)
        info = self._client.publish(self._topics("trigger"), payload, 0, False, expiry)
        return info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def close(self) -> None:
        """As PlcLink's."""
        self._listens.clear()
        self._client.disconnect()
        self._client.loop_stop()

    def _new_client(self) -> paho.Client:
        broker = self._broker
        version = paho.MQTTv5 if self._is_5 else paho.MQTTv311
        client = paho.Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=version)
        client.reconnect_delay_set(AGAIN_S, AGAIN_S)
        if broker.username:
            client.username_pw_set(broker.username, read_password(broker))
        context = tls_context(broker)
        if context is not None:
            client.tls_set_context(context)
        client.on_connect, client.on_disconnect = self._note_connected, self._note_lost
        client.on_subscribe, client.on_message = self._note_subscribed, self._note_message
        client.on_socket_open = _tune
        return client

    # --- what the library's thread reports ---

    def _note_connected(self, client: paho.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
        if reason.is_failure:
            cause = cause_of_refusal(reason.value, str(reason), self._broker, self._client_id)
            self._refused = cause.sentence
            return
        client.subscribe([(topic, 0) for topic in self._hears])

    def _note_subscribed(self, _: paho.Client, __: Any, ___: int, reasons: Any, ____: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refused = (
                f"{address_of(self._broker)} lets this user not read the station's topics: allow"
                f" {', '.join(LISTENED)} below {self._topics.prefix}"
            )
            return
        self._listens.set()

    def _note_lost(self, *_: Any) -> None:
        if self._listens.is_set():
            self._listens.clear()
            self._add(Readiness(False, time.monotonic()))

    def _note_message(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        at_s = time.monotonic()
        if message.retain:
            return
        try:
            self._add(self._hears[message.topic](json.loads(message.payload), at_s))
        except (ValueError, KeyError, TypeError):
            return  # not the station's: no answer, and the PLC's timer decides

    def _add(self, event: Event) -> None:
        self.note(event)


def make_link(station: StationAddress) -> MqttPlc:
    """The PLC for the broker and the topics of this station. Raises: ConfigError."""
    broker = with_paths_below(station.config.broker, station.root)
    if not broker.enabled and station.host is None:
        raise ConfigError(
            "enabled is false in [broker] of station.toml: this station has no MQTT; name another"
            " --dialect"
        )
    changes = {"host": station.host, "port": station.port}
    broker = broker.model_copy(
        update={key: value for key, value in changes.items() if value is not None}
    )
    names = station.config.station
    return MqttPlc(broker, Topics(f"edge/{names.site}/{names.line}/{names.station}"))


def _tune(_: paho.Client, __: Any, opened: Any) -> None:
    """Before the first byte of MQTT: no waiting for more bytes (Nagle)."""
    tcp.tune(opened)


def _acked(said: Mapping[str, Any], at_s: float) -> Acked:
    accepted, seq = _flag(said["accepted"]), _number(said["seq"])
    return Acked(
        str(said["part"]), _number(said.get("n")), accepted, str(said["reason"]), seq, at_s
    )


def _told(said: Mapping[str, Any], at_s: float) -> Told:
    code = _number(said["code"])
    if code is None:
        raise TypeError("a verdict without a code")
    n, seq = _number(said.get("n")), _number(said["seq"])
    return Told(str(said["part"]), n, seq, code, str(said["reason"]), at_s)


def _beat(said: Mapping[str, Any], at_s: float) -> Readiness:
    return Readiness(_flag(said["ready"]), at_s)


def _number(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise TypeError("no whole number")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value
