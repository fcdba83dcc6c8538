"""A small broker whose answers a test sets: reason codes, delays, silence, lost packets."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, PINGRESP = 1, 2, 3, 4, 8, 9, 12, 13


def packet(kind: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind << 4]) + bytes(digits) + body


@dataclass(frozen=True)
class Publication:
    """What a client published. number: its packet identifier, 0 for QoS 0."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    number: int


@dataclass(eq=False)
class FakeBroker:
    """MQTT 5 or 3.1.1 by what CONNECT asks for; returns to every client what it publishes, if it
    subscribed that.

    connack: the body of CONNACK. puback: reason code for a publication; None: no answer.
    delivers: whether a publication comes back.
    """

    connack: bytes | None = None
    puback: Callable[[Publication], int | None] = lambda _: 0
    delivers: Callable[[Publication], bool] = lambda _: True
    suback: int = 0
    published: list[Publication] = field(default_factory=list)
    connects: list[bytes] = field(default_factory=list)
    subscribes: list[bytes] = field(default_factory=list)

    def __enter__(self) -> FakeBroker:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        _close(self._server)

    def of(self, topic: str) -> list[Publication]:
        return [one for one in list(self.published) if one.topic.endswith(f"/s1/{topic}")]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._server.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        version, topics = 5, set[str]()
        with contextlib.suppress(OSError, IndexError), client, client.makefile("rb") as stream:
            while True:
                head, body = stream.read(1)[0], stream.read(_length(stream.read))
                kind = head >> 4
                if kind == CONNECT:
                    version = body[6]
                    self.connects.append(body)
                    answer = b"\0\0\0" if version == 5 else b"\0\0"
                    client.sendall(
                        packet(CONNACK, answer if self.connack is None else self.connack)
                    )
                elif kind == SUBSCRIBE:
                    self.subscribes.append(body)
                    topics.add(_text(body[2:], 1 if version == 5 else 0))
                    client.sendall(
                        packet(
                            SUBACK,
                            body[:2] + (b"\0" if version == 5 else b"") + bytes([self.suback]),
                        )
                    )
                elif kind == PUBLISH:
                    self._publish(client, head, body, version, topics)
                elif kind == PINGREQ:
                    client.sendall(packet(PINGRESP, b""))

    def _publish(
        self, client: socket.socket, head: int, body: bytes, version: int, topics: set[str]
    ) -> None:
        length = int.from_bytes(body[:2], "big")
        topic, rest, qos, number = (
            body[2 : 2 + length].decode(),
            body[2 + length :],
            (head >> 1) & 3,
            0,
        )
        if qos:
            number, rest = int.from_bytes(rest[:2], "big"), rest[2:]
        payload = rest[1 + rest[0] :] if version == 5 else rest
        one = Publication(topic, payload, qos, bool(head & 1), number)
        self.published.append(one)
        code = self.puback(one) if qos else None
        if code is not None:
            reason = bytes([code]) if version == 5 and code else b""
            client.sendall(packet(PUBACK, number.to_bytes(2, "big") + reason))
        if topic in topics and self.delivers(one) and not (code or 0) >= 0x80:
            client.sendall(
                packet(PUBLISH, body[: 2 + length] + (b"\0" if version == 5 else b"") + payload)
            )


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def _length(read: Callable[[int], bytes]) -> int:
    value, shift = 0, 0
    while True:
        digit = read(1)[0]
        value |= (digit & 127) << shift
        shift += 7
        if not digit & 128:
            return value


def _text(body: bytes, properties: int) -> str:
    start = properties * (1 + body[0])
    length = int.from_bytes(body[start : start + 2], "big")
    return body[start + 2 : start + 2 + length].decode()
