"""One connection to the broker, and the link that makes it anew whenever it ends.

Each connection is a new paho client: whatever an old one had queued dies with it, so no stale
verdict and no second copy of a record comes out of a library's queue.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.background import keep_running
from edge.backoff import backoff_s
from edge.config import BrokerConfig
from edge.errors import ConfigError
from edge.line.credentials import find_alert, read_password, tls_context
from edge.line.echo import Echoes
from edge.line.identity import short_id
from edge.line.remedy import (
    CLIENT_ID,
    QOS,
    RETAIN,
    TAKEN_OVER,
    Cause,
    cause_of_end,
    cause_of_error,
    cause_of_garbage,
    cause_of_refusal,
    cause_of_silence,
    cause_of_takeover,
    refused_subscription,
)
from edge.trouble import Trouble

log = logging.getLogger(__name__)

KEEPALIVE_S = 10
CONNECT_S = 8.0  # TCP, TLS: a link of 3 s each way needs 6; the kernel asks again after 1, 3, 7 s
ALERT_S = 3.0  # for a server that hung up to say why
ANSWER_S = 20.0  # from CONNECT to CONNACK
USER_TIMEOUT_MS = 8_000  # bytes that stay unacknowledged for so long end the connection
FLUSH_S = 0.05  # a verdict waits so long for the bytes before it, then the link counts as stalled
STABLE_S = 5.0  # a connection that lasted so long resets the back-off and ends the trouble
QUICK_S, SLOW_S = (
    3.0,
    30.0,
)  # caps of the back-off: for what passes by itself, for what somebody has to mend
TAKEOVER_S, TAKEOVER_LIMIT_S = 4.0, 60.0
SIOCOUTQNSD = 0x894B  # linux/sockios.h: bytes in the send queue that were never sent


@dataclass(frozen=True)
class Message:
    """One publication."""

    topic: str
    payload: bytes
    retain: bool = False
    qos: int = 0


@dataclass(frozen=True)
class Limits:
    """What the broker takes, as its CONNACK says (MQTT 5.0, section 3.2.2.3).

    MQTT 3.1.1 says nothing: no limits.
    """

    packet_bytes: int = 268_435_460
    receive_maximum: int = 65_535
    qos: int = 2
    retains: bool = True

    @classmethod
    def of(cls, properties: Properties | None) -> Limits:
        """Of a CONNACK's properties; what is absent has its default."""
        said = cls()
        return cls(
            getattr(properties, "MaximumPacketSize", said.packet_bytes),
            getattr(properties, "ReceiveMaximum", said.receive_maximum),
            getattr(properties, "MaximumQoS", said.qos),
            bool(getattr(properties, "RetainAvailable", said.retains)),
        )


def packet_bytes(message: Message) -> int:
    """Of the whole PUBLISH in MQTT 5, at most: header, topic, packet identifier, an expiry
    interval, payload.
    """
    return 5 + 2 + len(message.topic.encode()) + 2 + 6 + len(message.payload)


class Connection:
    """One MQTT session from CONNECT to its end.

    echoes: what was sent here and is expected back. limits: what the broker takes. refused: why a
    subscription is.
    """

    def __init__(
        self, broker: BrokerConfig, client_id: str, will: Message | None, topics: Sequence[str],
        wake: Callable[[], None], heard: Callable[[str, bytes], None],
    ) -> None:  # fmt: skip
        """Prepare. Both are called in the library's thread.

        Args:
            wake: whenever something has happened. heard: what arrived, not retained, that is not an
                expected echo.
        Raises: ConfigError if a file of [broker] cannot be used.
        """
        self._broker, self._client_id, self._topics = broker, client_id, topics
        self._wake, self._heard = wake, heard
        self.limits, self.echoes = Limits(), Echoes()
        self.refused: str | None = None
        self.cause: Cause | None = None  # why it ended
        self.up_at_s: float | None = None  # since when the broker has accepted this client
        self.is_over = threading.Event()
        self._answered = threading.Event()
        self._lock = threading.Lock()
        self._answers: dict[int, tuple[int, str]] = {}
        self._last_error = ""
        self._sock: Any = None
        self._reader: threading.Thread | None = None  # the library's, known from CONNACK on
        self.client = self._new_client(will)

    @property
    def is_up(self) -> bool:
        """Whether the broker has accepted this client and the connection stands."""
        return self.up_at_s is not None and not self.is_over.is_set() and self.client.is_connected()

    def see_to_reader(self) -> None:
        """A packet that the library cannot read ends its thread and not the connection: end that
        too.
        """
        if self._reader is not None and not self._reader.is_alive() and not self.is_over.is_set():
            self.abort(cause_of_garbage(self._broker))

    def open(self) -> None:
        """Connect and wait for the broker's answer; afterwards it is up or over.

        Raises: OSError, ValueError.
        """
        start = (
            True if self.gives_reasons else paho.MQTT_CLEAN_START_FIRST_ONLY
        )  # 3.1.1: said to the constructor
        self.client.connect(self._broker.host, self._broker.port, KEEPALIVE_S, clean_start=start)
        self.client.loop_start()
        if not self._answered.wait(ANSWER_S):
            self.abort(cause_of_silence(self._broker))

    def publish(self, message: Message, expiry_s: int | None = None) -> int | None:
        """Hand it to the library; returns its message id, None if that does not take it."""
        properties = None
        if self.gives_reasons and expiry_s is not None:
            # paho leaves it untyped
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = expiry_s
        qos, retain = min(message.qos, self.limits.qos), message.retain and self.limits.retains
        info = self.client.publish(message.topic, message.payload, qos, retain, properties)
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def publish_together(self, messages: Sequence[Message], expiry_s: int) -> bool:
        """Now or never, in one TCP segment; False, and nothing handed over, while earlier bytes are
        still unsent.
        """
        if not self.is_up or not self._wait_until(self._is_flushed):
            return False
        with self._corked():
            sent = [self.publish(message, expiry_s) is not None for message in messages]
            self._wait_until(lambda: not self.client.want_write())
        return all(sent)

    def take_answers(self) -> dict[int, tuple[int, str]]:
        """What the broker has said since the last call: message id -> (reason code, its name)."""
        with self._lock:
            taken, self._answers = self._answers, {}
        return taken

    def abort(self, cause: Cause) -> None:
        """End it at once; the kernel throws away what it has not sent (RST)."""
        self._end(cause)
        opened = self._sock
        if opened is not None:
            with contextlib.suppress(OSError):  # closed already
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # not SSLSocket's own, which would leave the library's thread writing in clear
                socket.socket.shutdown(opened, socket.SHUT_RD)

    def close(self, grace_s: float = 0.0) -> None:
        """After the end, or after DISCONNECT, for which there is some grace: end the library's
        thread.
        """
        if not (grace_s and self.is_over.wait(grace_s)):  # a reset could overtake DISCONNECT
            self.abort(Cause("stopped", "stopped"))
        with contextlib.suppress(
            AttributeError
        ):  # the library looks for its thread, which ends meanwhile
            self.client.loop_stop()
        self.echoes.close()

    @property
    def gives_reasons(self) -> bool:
        """Whether an acknowledgement says why something is refused: MQTT 5; 3.1.1 acknowledges or
        hangs up.
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
        client.max_inflight_messages_set(0)  # unlimited: whoever publishes counts
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
        client.on_log, client.on_socket_open = self._note_log, self._tune_socket
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
        if not self.echoes.note(message.topic, payload) and not message.retain:
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

    # --- the socket ---

    def _tune_socket(self, _: paho.Client, __: Any, opened: Any) -> None:
        """Before the first byte of MQTT: no waiting for more bytes (Nagle), a bound on
        unacknowledged ones.
        """
        self._sock = opened
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)

    def _is_flushed(self) -> bool:
        """Whether everything before has left this machine."""
        return not self.client.want_write() and not _unsent_bytes(self._sock)

    def _wait_until(self, condition: Callable[[], bool]) -> bool:
        """Wait a moment for it; False if it took longer."""
        end_s = time.monotonic() + FLUSH_S
        while not condition():
            if time.monotonic() > end_s:
                return False
            time.sleep(0.0002)
        return True

    @contextlib.contextmanager
    def _corked(self) -> Iterator[None]:
        """What is written meanwhile leaves in full segments, the rest at the end; the kernel waits
        0.2 s at most.
        """
        self._cork(True)
        try:
            yield
        finally:
            self._cork(False)

    def _cork(self, on: bool) -> None:
        if hasattr(socket, "TCP_CORK"):  # Linux
            with contextlib.suppress(OSError):  # closed meanwhile
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(on))


class Link:
    """One MQTT client that is kept connected by its own thread."""

    def __init__(
        self,
        broker: BrokerConfig,
        client_id: str,
        will: Message | None,
        topics: Sequence[str] = (),
        wake: Callable[[], None] = lambda: None,
        heard: Callable[[str, bytes], None] = lambda *_: None,
        trouble: Trouble | None = None,
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            will: what the broker publishes when this link breaks without a goodbye.
            topics: to subscribe. wake, heard: as Connection's.
            trouble: where failures are logged; shared by the links of one broker.
        Raises: ConfigError if a file of [broker] cannot be used.
        """
        self._broker, self.client_id, self._will, self._topics = broker, client_id, will, topics
        self._readable_id, self._wake, self._heard = client_id, wake, heard
        self._trouble = trouble or Trouble(log, f"{client_id}: connected again")
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._connection: Connection | None = None  # while it stands
        self._problem: str | None = None
        self._attempt = self._takeovers = 0
        self._is_again = False  # the connection before ended for what was told elsewhere
        self._thread = threading.Thread(target=self._loop, name=client_id, daemon=True)
        read_password(broker)
        tls_context(broker)

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    @property
    def connection(self) -> Connection | None:
        """The one that stands; None while there is none."""
        found = self._connection
        return found if found is not None and found.is_up else None

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted this client and the connection stands."""
        return self.connection is not None

    @property
    def problem(self) -> str | None:
        """Why there is no connection, or why it may not last; None if nothing is wrong."""
        return self._problem

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until connected; False if it took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_connected, timeout_s)

    def note_twin(self) -> None:
        """Another station of this name was heard.

        Not every broker says so when it throws one of two off.
        """
        cause = cause_of_takeover(self._broker, self.client_id)
        self._takeovers, self._problem = max(1, self._takeovers), cause.sentence
        self._trouble.happened(cause.sentence, self.client_id, cause.key)
        self._tell()

    def say_goodbye(self) -> None:
        """Disconnect, so that the will is not published, and connect no more."""
        self._stopping.set()
        connection = self._connection
        if connection is not None:
            connection.client.disconnect()
        self._tell()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end after say_goodbye."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self._wake()

    def _loop(self) -> None:
        keep_running(log, self._run, self._stopping)

    def _run(self) -> None:
        while not self._stopping.is_set():
            cause = self._hold_connection()
            self._tell()
            if not self._stopping.is_set():
                self._stopping.wait(self._delay_s(cause))

    def _hold_connection(self) -> Cause:
        """One connection from CONNECT to its end; returns why that came."""
        try:
            connection = Connection(
                self._broker, self.client_id, self._will, self._topics, self._tell, self._heard
            )
        except ConfigError as error:  # a file that was there at the start
            return self._note_end(Cause(str(error), str(error)), None)
        try:
            connection.open()
            if connection.is_up:
                self._connection = connection
                level = logging.DEBUG if self._trouble.is_on or self._is_again else logging.INFO
                log.log(
                    level,
                    "%s: connected to %s:%d",
                    self.client_id,
                    self._broker.host,
                    self._broker.port,
                )
                self._tell()
                self._stay(connection)
        except (OSError, ValueError) as error:  # ValueError: a host name that cannot be one
            connection.cause = cause_of_error(error, self._broker)
        finally:
            self._connection = None
            connection.close(grace_s=0.2 if self._stopping.is_set() else 0.0)
        cause = connection.cause or Cause("closed", "closed")
        if cause.key == "closed at once" and (alert := find_alert(self._broker, ALERT_S)):
            cause = cause_of_end(0, "", alert, False, False, self._broker, self.client_id)
        return self._note_end(cause, connection.up_at_s)

    def _stay(self, connection: Connection) -> None:
        """Until it ends. The end of the trouble is logged once the connection has lasted.

        After a takeover it has to last before there is no problem any more: the other station may
        come again.
        """
        while not connection.is_over.wait(0.1) and not self._stopping.is_set():
            connection.see_to_reader()
            quiet_s = TAKEOVER_LIMIT_S if self._takeovers else 0.0
            up_s = time.monotonic() - (connection.up_at_s or 0.0)
            if self._problem is not None and up_s >= quiet_s:
                self._takeovers, self._problem = 0, None
                self._tell()
            if up_s >= max(quiet_s, STABLE_S):
                self._trouble.ended(self.client_id)

    def _note_end(self, cause: Cause, up_at_s: float | None) -> Cause:
        if self._stopping.is_set():
            return cause
        if self._takeovers and up_at_s is not None and not cause.code:
            cause = cause_of_takeover(self._broker, self.client_id)
        self._problem, self._is_again = cause.sentence, cause.is_told
        if not cause.is_told and not self._gives_way(cause):
            self._trouble.happened(cause.sentence, self.client_id, cause.key)
        lasted = up_at_s is not None and time.monotonic() - up_at_s > STABLE_S
        self._attempt = 0 if lasted else self._attempt + 1
        self._takeovers += cause.code == TAKEN_OVER
        return cause

    def _gives_way(self, cause: Cause) -> bool:
        """Whether CONNECT was refused for something that the next one does without."""
        asked = self.client_id, self._will
        if cause.code == CLIENT_ID:
            self.client_id = short_id(self._readable_id)
        if self._will is not None and cause.code == RETAIN:
            self._will = replace(self._will, retain=False)
        if self._will is not None and cause.code == QOS:
            self._will = replace(self._will, qos=0)
        return asked != (self.client_id, self._will)

    def _delay_s(self, cause: Cause) -> float:
        if cause.code == TAKEN_OVER:
            limit_s = min(TAKEOVER_LIMIT_S, TAKEOVER_S * 2.0 ** min(self._takeovers, 10))
            return limit_s * random.uniform(0.5, 1.0)
        return max(
            cause.pause_s,
            backoff_s(self._attempt, random.random(), SLOW_S if cause.slow else QUICK_S),
        )


LinkMaker = Callable[
    [tuple[str, ...], Callable[[], None]], Link
]  # from topics to subscribe, and what it wakes


def _unsent_bytes(opened: Any) -> int:
    """How many bytes the kernel holds that it has not sent yet; 0 where it does not tell."""
    if sys.platform != "linux" or opened is None:
        return 0
    try:
        return int(
            struct.unpack("i", fcntl.ioctl(opened.fileno(), SIOCOUTQNSD, struct.pack("i", 0)))[0]
        )
    except (OSError, ValueError):  # closed meanwhile
        return 0
