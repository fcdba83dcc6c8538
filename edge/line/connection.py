"""One MQTT session, from CONNECT to its end, on a paho client of its own.

Whatever paho had queued dies with its client, so that no stale verdict and no second copy of a
record comes out of a library's queue.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.line import tcp
from edge.line.credentials import read_password, tls_context
from edge.line.echo import Echoes
from edge.line.remedy import (
    Cause,
    cause_of_end,
    cause_of_garbage,
    cause_of_refusal,
    cause_of_silence,
    refused_subscription,
)
from edge.sections import BrokerConfig

KEEPALIVE_S = 10
CONNECT_S = 8.0  # TCP, TLS: a link of 3 s each way needs 6; the kernel asks again after 1, 3, 7 s
ANSWER_S = 20.0  # from CONNECT to CONNACK
FLUSH_S = 0.05  # a verdict waits this long for the bytes before it; then the link counts as stalled


@dataclass(frozen=True)
class Message:
    """One publication. correlation: the correlation data of a request that it answers (MQTT 5)."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 0
    correlation: bytes | None = None


@dataclass(frozen=True)
class Arrival:
    """One message of another client. is_dup: the broker marks it as sent before.

    expiry_s, response_topic, correlation: as MQTT 5 has them; None, "", None where there is none.
    """

    payload: bytes
    is_retained: bool
    is_dup: bool
    expiry_s: int | None = None
    response_topic: str = ""
    correlation: bytes | None = None

    @classmethod
    def of(cls, message: paho.MQTTMessage) -> Arrival:
        """From the library's message, whose properties are there as far as the packet had them."""
        said = message.properties
        return cls(
            bytes(message.payload),
            message.retain,
            message.dup,
            getattr(said, "MessageExpiryInterval", None),
            getattr(said, "ResponseTopic", ""),
            getattr(said, "CorrelationData", None),
        )


# By topic: what is called, in the library's thread, with each message of another client there.
Ears = Mapping[str, Callable[[Arrival], None]]


@dataclass(frozen=True)
class Limits:
    """The broker's limits, from its CONNACK (MQTT 5.0, section 3.2.2.3).

    MQTT 3.1.1 announces none: no limits.
    """

    packet_bytes: int = 268_435_460
    receive_maximum: int = 65_535
    qos: int = 2
    retains: bool = True

    @classmethod
    def of(cls, properties: Properties | None) -> Limits:
        """From the properties of a CONNACK; a property that is absent has its default."""
        said = cls()
        return cls(
            getattr(properties, "MaximumPacketSize", said.packet_bytes),
            getattr(properties, "ReceiveMaximum", said.receive_maximum),
            getattr(properties, "MaximumQoS", said.qos),
            bool(getattr(properties, "RetainAvailable", said.retains)),
        )


def packet_bytes(message: Message) -> int:
    """Size of the whole PUBLISH packet in MQTT 5, at most: header, topic, packet identifier, expiry
    interval, payload.
    """
    return 5 + 2 + len(message.topic.encode()) + 2 + 6 + len(message.payload)


class Connection:
    """One MQTT session from CONNECT to its end.

    echoes: messages that were sent here and are expected back. limits: of the broker. refused: why
    the broker refuses a subscription, None if it does not.
    """

    def __init__(
        self, broker: BrokerConfig, client_id: str, will: Message | None, topics: Sequence[str],
        wake: Callable[[], None], heard: Callable[[str, bytes], None], ears: Ears | None = None,
        opened: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Prepare; nothing is sent before open(). `wake` and `heard` are called in the library's
        thread.

        Args:
            wake: called whenever something has happened. heard: called with the topic and payload
                of each message that is neither retained nor an expected echo.
            ears: further topics to subscribe to, and who hears what other clients say there.
            opened: called before CONNECT is sent, which is not at every try: nobody may listen.
        Raises: ConfigError if a file of [broker] cannot be used.
        """
        self._broker, self._client_id = broker, client_id
        self._wake, self._heard, self._ears = wake, heard, ears or {}
        self._opened = opened
        self._topics = (*topics, *self._ears)
        self.limits, self.echoes = Limits(), Echoes()
        self.refused: str | None = None
        self.cause: Cause | None = None  # why the connection ended
        self.up_at_s: float | None = None  # when the broker accepted this client
        self.is_over = threading.Event()
        self._answered = threading.Event()
        self._lock = threading.Lock()
        self._answers: dict[int, tuple[int, str]] = {}
        self._last_error = ""
        self._socket: socket.socket | None = None
        self._reader: threading.Thread | None = None  # the library's, known from CONNACK on
        self.client = self._new_client(will)

    @property
    def is_up(self) -> bool:
        """Whether the broker has accepted this client and the connection stands."""
        return self.up_at_s is not None and not self.is_over.is_set() and self.client.is_connected()

    def see_to_reader(self) -> None:
        """End the connection if the library's thread has ended: a packet that the library cannot
        read ends its thread only.
        """
        if self._reader is not None and not self._reader.is_alive() and not self.is_over.is_set():
            self.abort(cause_of_garbage(self._broker))

    def open(self) -> None:
        """Connect and wait for the broker's answer; afterwards `is_up` or `is_over` is true.

        Raises: OSError, ValueError.
        """
        # in MQTT 3.1.1 the constructor was told
        start = True if self.gives_reasons else paho.MQTT_CLEAN_START_FIRST_ONLY
        self.client.connect(self._broker.host, self._broker.port, KEEPALIVE_S, clean_start=start)
        self.client.loop_start()
        if not self._answered.wait(ANSWER_S):
            self.abort(cause_of_silence(self._broker))

    def publish(self, message: Message, expiry_s: int | None = None) -> int | None:
        """Hand the message to the library; returns its message id, None if the library does not
        take it.
        """
        properties = None
        if self.gives_reasons and expiry_s is not None:
            # paho leaves it untyped
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
            if message.correlation is not None:
                properties.CorrelationData = message.correlation
        qos, retain = min(message.qos, self.limits.qos), message.retain and self.limits.retains
        info = self.client.publish(message.topic, message.payload, qos, retain, properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def publish_together(self, messages: Sequence[Message], expiry_s: int) -> bool:
        """Send them at once, in one TCP segment. While earlier bytes are still unsent nothing is
        handed over and this returns False.
        """
        if not self.is_up or not self._wait_until(self._is_flushed):
            return False
        with tcp.corked(self._socket):
            sent = [self.publish(message, expiry_s) is not None for message in messages]
            self._wait_until(lambda: not self.client.want_write())
        return all(sent)

    def take_answers(self) -> dict[int, tuple[int, str]]:
        """The acknowledgements since the last call: message id -> (reason code, its name)."""
        with self._lock:
            taken, self._answers = self._answers, {}
        return taken

    def abort(self, cause: Cause) -> None:
        """End the connection at once; the kernel discards what it has not sent (RST)."""
        self._end(cause)
        opened = self._socket
        if opened is not None:
            tcp.reset(opened)

    def close(self, grace_s: float = 0.0) -> None:
        """End the library's thread: after the connection has ended, or at most grace_s after
        DISCONNECT was sent.
        """
        if not (grace_s and self.is_over.wait(grace_s)):  # a reset could overtake DISCONNECT
            self.abort(Cause("stopped", "stopped"))
        # the library looks for its thread, which may end meanwhile
        with contextlib.suppress(AttributeError):
            self.client.loop_stop()
        self.echoes.close()

    @property
    def gives_reasons(self) -> bool:
        """Whether an acknowledgement says why a message is refused (MQTT 5). In MQTT 3.1.1 a broker
        acknowledges or closes the connection.
        """
        return self._broker.protocol == "5"

    def _new_client(self, will: Message | None) -> paho.Client:
        version = paho.MQTTv5 if self.gives_reasons else paho.MQTTv311
        client = paho.Client(
            CallbackAPIVersion.VERSION2, self._client_id, protocol=version,
            reconnect_on_failure=False,
            clean_session=None if self.gives_reasons else True,
        )  # fmt: skip
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(0)  # unlimited: the channels count what is in flight
        if self._broker.username:
            client.username_pw_set(self._broker.username, read_password(self._broker))
        context = tls_context(self._broker)
        if context is not None:
            client.tls_set_context(context)
        if will is not None:
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect, client.on_disconnect = self._note_connack, self._note_disconnect
        client.on_subscribe, client.on_publish = self._note_suback, self._note_answer
        client.on_message = lambda _, __, message: self._note_message(message)
        client.on_log, client.on_socket_open = self._note_log, self._note_socket
        return client

    # --- what the library's thread reports ---

    def _note_connack(
        self, client: paho.Client, _: Any, __: Any, reason: Any, properties: Any
    ) -> None:
        if reason.is_failure:
            self._end(cause_of_refusal(reason.value, str(reason), self._broker, self._client_id))
            return
        self.limits, self._reader = Limits.of(properties), threading.current_thread()
        for topic in self._topics:
            client.subscribe(topic, min(1, self.limits.qos))
        self.up_at_s = time.monotonic()
        self._answered.set()
        self._wake()

    def _note_disconnect(self, _: paho.Client, __: Any, flags: Any, reason: Any, ___: Any) -> None:
        code = reason.value if flags.is_disconnect_packet_from_server else 0
        state = self.up_at_s is not None, self.echoes.is_unheard
        self._end(
            cause_of_end(code, str(reason), self._last_error, *state, self._broker, self._client_id)
        )

    def _note_suback(
        self, _: paho.Client, __: Any, ___: int, reasons: Sequence[Any], ____: Any
    ) -> None:
        for reason in reasons:
            if reason.is_failure:
                self.refused = refused_subscription(
                    ", ".join(self._topics), reason.value, str(reason)
                )
                self._wake()

    def _note_answer(self, _: paho.Client, __: Any, mid: int, reason: Any, ___: Any) -> None:
        with self._lock:
            self._answers[mid] = reason.value, str(reason)
        self._wake()

    def _note_message(self, message: paho.MQTTMessage) -> None:
        payload = bytes(message.payload)
        if message.topic in self._ears:
            self._ears[message.topic](Arrival.of(message))
        elif not self.echoes.note(message.topic, payload) and not message.retain:
            self._heard(message.topic, payload)
        self._wake()

    def _note_log(self, _: paho.Client, __: Any, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR or "malformed" in text:
            self._last_error = text

    def _end(self, cause: Cause) -> None:
        """The first cause counts: others follow from it."""
        with self._lock:
            self.cause = self.cause or cause
        self.is_over.set()
        self._answered.set()
        self._wake()

    def _note_socket(self, _: paho.Client, __: Any, opened: Any) -> None:
        """Before the first byte of MQTT."""
        self._socket = opened
        tcp.tune(opened)
        self._opened()

    def _is_flushed(self) -> bool:
        """Whether everything that was sent before has left this machine."""
        return not self.client.want_write() and not tcp.unsent_bytes(self._socket)

    def _wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait up to FLUSH_S for the condition; returns whether it came true."""
        end_s = time.monotonic() + FLUSH_S
        while not condition():
            if time.monotonic() > end_s:
                return False
            time.sleep(0.0002)
        return True
