"""The line over MQTT 5: verdicts for the PLC now, records for the archive always.

Two clients, because the two audiences must not wait for each other. Each connection is a new paho client: whatever an
old one had queued dies with it, so no stale verdict and no second copy of a record comes out of a library's queue.
"""

from __future__ import annotations

import logging
import math
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.backoff import backoff_s
from edge.config import BrokerConfig
from edge.errors import ConfigError, StorageError
from edge.files import read_text
from edge.line.message import code_payload, record_payload, verdict_payload
from edge.line.outbox import Outbox, Waiting

log = logging.getLogger(__name__)

KEEPALIVE_S = 10
CONNECT_S = 5.0                     # TCP and CONNACK together
ACK_S = 10.0                        # without a PUBACK for so long the connection is given up
FLUSH_S = 0.05                      # a verdict waits so long for the bytes before it, then the link counts as stalled
STATE_S = 10.0
PASSWORD_LIMIT = 64 << 10           # bytes, as much as MQTT carries
STABLE_S = 5.0                      # a connection that lasted so long starts the next delays from the beginning


@dataclass(frozen=True)
class Topics:
    """The topics of one station below `edge/<site>/<line>/<station>/`."""

    prefix: str

    def __call__(self, name: str) -> str:
        """E.g. topics("verdict/code")."""
        return f"{self.prefix}/{name}"


@dataclass(frozen=True)
class Message:
    """One publication."""

    topic: str
    payload: bytes
    retain: bool = False


class Link:
    """One MQTT client that is kept connected by its own thread.

    will: what the broker publishes, retained, when this link breaks without a goodbye.
    user_timeout_ms: unacknowledged bytes of that age end the connection, so that a stalled link delivers nothing older.
    """

    def __init__(self, broker: BrokerConfig, client_id: str, will: Message | None, user_timeout_ms: int) -> None:
        self._broker, self._client_id, self._will = broker, client_id, will
        self._user_timeout_ms = user_timeout_ms
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._client: paho.Client | None = None         # set while connected
        self._acknowledged: dict[int, bool] = {}        # message id -> accepted by the broker
        self._socket: Any = None
        self._password = _read_password(broker)
        self._thread = threading.Thread(target=self._run, name=client_id, daemon=True)

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted this client and the connection stands."""
        client = self._client
        return client is not None and client.is_connected()

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False if it took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._client is not None, timeout_s)

    def publish_now(self, messages: Sequence[Message], expiry_s: int) -> bool:
        """QoS 0, now or never: False, and nothing sent or queued, unless connected with nothing left to write."""
        client = self._client
        if client is None or not client.is_connected() or not _is_flushed(client):
            return False
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves it without types
        properties.MessageExpiryInterval = expiry_s
        sent = [client.publish(m.topic, m.payload, 0, m.retain, properties) for m in messages]
        return all(info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS for info in sent)

    def publish_acknowledged(self, message: Message, timeout_s: float = ACK_S) -> bool:
        """QoS 1; True once the broker has acknowledged it. On a timeout the connection is given up."""
        client = self._client
        if client is None:
            return False
        info = client.publish(message.topic, message.payload, 1, message.retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        with self._changed:
            done = self._changed.wait_for(
                lambda: info.mid in self._acknowledged or self._client is not client, timeout_s
            )
            accepted = self._acknowledged.pop(info.mid, False)
        if not done:
            log.warning("%s: no acknowledgement for %.0f s, reconnecting", self._client_id, timeout_s)
            self._shut_socket()
        return accepted

    def say_goodbye(self) -> None:
        """Disconnect, so that the will is not published, and connect no more."""
        self._stopping.set()
        client = self._client
        if client is not None:
            client.disconnect()
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end after say_goodbye."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                self._hold_connection()
            except (OSError, ValueError) as error:      # ValueError: a host name that cannot be one
                where = f"{self._broker.host}:{self._broker.port}"
                log.warning("%s: cannot connect to %s (%s)", self._client_id, where, error)
            attempt = 0 if time.monotonic() - started_s > STABLE_S + CONNECT_S else attempt + 1
            self._stopping.wait(backoff_s(attempt, random.random()))

    def _hold_connection(self) -> None:
        """One connection from CONNECT to its end."""
        down = threading.Event()
        client = self._new_client(down)
        client.connect(self._broker.host, self._broker.port, KEEPALIVE_S, clean_start=True)
        client.loop_start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._client is not None or down.is_set(), CONNECT_S)
            if self._client is not None:
                while not down.wait(0.1) and not self._stopping.is_set():
                    pass
            down.wait(0.2 if self._stopping.is_set() else 0.0)    # until the goodbye is written
        finally:
            self._set_client(None)
            self._shut_socket()
            client.loop_stop()

    def _new_client(self, down: threading.Event) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, self._client_id, protocol=paho.MQTTv5, reconnect_on_failure=False
        )
        client.connect_timeout = CONNECT_S
        if self._broker.username:
            client.username_pw_set(self._broker.username, self._password)
        if self._broker.tls:
            client.tls_set(ca_certs=self._broker.ca_file or None, cert_reqs=ssl.CERT_REQUIRED)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, 1, self._will.retain)

        def on_connect(connected: paho.Client, _: Any, __: Any, reason: Any, ___: Any) -> None:
            if reason.is_failure:
                log.error("%s: the broker refuses this client: %s", self._client_id, reason)
                self._lose(down)
                return
            log.info("%s: connected to %s:%d", self._client_id, self._broker.host, self._broker.port)
            self._set_client(connected)

        def on_disconnect(_: paho.Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
            log.info("%s: disconnected (%s)", self._client_id, reason)
            self._lose(down)

        def on_publish(_: paho.Client, __: Any, mid: int, reason: Any, ___: Any) -> None:
            with self._changed:
                self._acknowledged[mid] = not reason.is_failure
                self._changed.notify_all()

        client.on_connect, client.on_disconnect, client.on_publish = on_connect, on_disconnect, on_publish
        client.on_socket_open = self._tune_socket
        return client

    def _tune_socket(self, _: paho.Client, __: Any, opened: Any) -> None:
        """No waiting for more bytes (Nagle), and none that stay unacknowledged for longer than a verdict is worth."""
        self._socket = opened
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):         # Linux
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self._user_timeout_ms)

    def _lose(self, down: threading.Event) -> None:
        """This connection is over, or was refused: whoever waits for it to stand waits no longer."""
        down.set()
        self._set_client(None)

    def _set_client(self, client: paho.Client | None) -> None:
        with self._changed:
            self._client = client
            self._acknowledged.clear()
            self._changed.notify_all()

    def _shut_socket(self) -> None:
        """End the connection under paho's loop, which then returns; loop_stop alone waits for unsent messages."""
        try:
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("%s: the socket was closed already", self._client_id)


@dataclass
class LineCounters:
    """What the line did since the start."""

    verdicts_sent: int = 0
    verdicts_unsent: int = 0         # disconnected, stalled, or past the deadline: the PLC's timer rejected the part
    records_sent: int = 0


class MqttLine:
    """Both clients of a station, and the thread that carries records from the outbox to the broker."""

    def __init__(
        self,
        broker: BrokerConfig,
        prefix: str,
        outbox: Outbox,
        state: Callable[[], bytes],
        offline: Callable[[str], bytes],
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            prefix: `edge/<site>/<line>/<station>`.
            state: the present state message. offline: the one for the last will and the goodbye, from its reason.
        """
        self.counters = LineCounters()
        self._outbox, self._state, self._offline = outbox, state, offline
        self._topics = Topics(prefix)
        name = prefix.replace("/", "-")
        will = Message(self._topics("state"), offline("connection lost"), retain=True)
        self._verdicts = Link(broker, f"{name}-verdict", None, user_timeout_ms=2000)
        self._records = Link(broker, f"{name}-record", will, user_timeout_ms=int(ACK_S * 1000))
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._pump = threading.Thread(target=self._run_pump, name="records", daemon=True)
        self._state_dirty = True
        self._state_at_s = 0.0

    def start(self) -> None:
        """Connect both clients and send what an earlier run has left."""
        self._verdicts.start()
        self._records.start()
        self._pump.start()

    def publish_verdict(self, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        """`verdict` and `verdict/code`, once, if connected and before the deadline; returns whether they were sent.

        Args:
            fields: of a record that is committed.
            deadline_mono_ns: host monotonic clock; from then on the PLC has rejected the part.
        """
        left_s = (deadline_mono_ns - time.monotonic_ns()) / 1e9
        messages = (
            Message(self._topics("verdict"), verdict_payload(fields)),
            Message(self._topics("verdict/code"), code_payload(fields)),
        )
        sent = left_s > 0 and self._verdicts.publish_now(messages, expiry_s=max(1, math.ceil(left_s)))
        self.counters.verdicts_sent += sent
        self.counters.verdicts_unsent += not sent
        if not sent:
            log.warning("part=%s verdict not sent: %s", fields["part"], "late" if left_s <= 0 else "no connection")
        return sent

    def records_waiting(self) -> None:
        """Tell the pump that the outbox has a new record."""
        self._wake.set()

    def state_changed(self) -> None:
        """Publish the state now and not only at its next turn."""
        self._state_dirty = True
        self._wake.set()

    @property
    def is_connected(self) -> bool:
        """Whether a verdict would be sent now."""
        return self._verdicts.is_connected

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for both clients; False if it took longer."""
        return self._verdicts.wait_connected(timeout_s) and self._records.wait_connected(timeout_s)

    def stop(self) -> None:
        """Publish that the station is offline, say goodbye; unsent records stay for the next run."""
        self._stopping.set()
        self._wake.set()
        if self._pump.is_alive():
            self._pump.join(0.5)
        goodbye = Message(self._topics("state"), self._offline("stopped"), retain=True)
        self._records.publish_acknowledged(goodbye, timeout_s=0.5)
        for link in (self._verdicts, self._records):
            link.say_goodbye()
        for link in (self._verdicts, self._records):
            link.join(0.4)

    def _run_pump(self) -> None:
        """One record in flight; the backlog first, since numbers leave in order."""
        while not self._stopping.is_set():
            if not self._records.wait_connected(0.5):
                self._state_dirty = True
                continue
            try:
                self._publish_state()
                self._send_backlog()
            except StorageError as error:
                log.error("records wait: %s", error)
                self._stopping.wait(1.0)
            self._wake.wait(1.0)
            self._wake.clear()

    def _send_backlog(self) -> None:
        while (waiting := self._outbox.unsent(after=0, limit=1)) and self._send(waiting[0]):
            self._outbox.mark_sent([waiting[0].seq])
            self.counters.records_sent += 1
            self._publish_state()

    def _send(self, waiting: Waiting) -> bool:
        if self._stopping.is_set():
            return False
        payload = record_payload(waiting.fields, waiting.replay)
        return self._records.publish_acknowledged(Message(self._topics("record"), payload))

    def _publish_state(self) -> None:
        """If it has changed, or every 10 s."""
        now_s = time.monotonic()
        if not self._state_dirty and now_s - self._state_at_s < STATE_S:
            return
        self._state_dirty = False
        accepted = self._records.publish_acknowledged(Message(self._topics("state"), self._state(), retain=True))
        self._state_dirty |= not accepted
        self._state_at_s = now_s


def _is_flushed(client: paho.Client) -> bool:
    """Whether everything before has left for the socket, waiting a moment for it."""
    end_s = time.monotonic() + FLUSH_S
    while client.want_write():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.001)
    return True


def _read_password(broker: BrokerConfig) -> str | None:
    """The first line of password_file, without its line end. Raises: ConfigError if it is empty or cannot be read."""
    if not broker.password_file:
        return None
    path = Path(broker.password_file)
    try:
        password = read_text(path, limit=PASSWORD_LIMIT).partition("\n")[0].rstrip("\r")
    except ConfigError as error:
        raise ConfigError(f"broker.password_file: {error}") from error
    if not password:
        raise ConfigError(f"broker.password_file: the first line of {path} is empty: write the password there")
    return password
