"""What an edge node publishes between one birth and its death: topics, and the number `seq`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.line.connection import Connection, Message, packet_bytes
from edge.line.echo import Echo
from edge.line.sparkplug_metrics import Metric, Value

NAMESPACE = "spBv1.0"
NUMBERS = 256


@dataclass(frozen=True)
class NodeTopics:
    """The topics of one edge node with one device."""

    group: str
    node: str
    device: str

    def __call__(self, kind: str) -> str:
        """Of NBIRTH, NDATA, NDEATH, NCMD, or with the device DBIRTH, DDATA, DDEATH."""
        topic = f"{NAMESPACE}/{self.group}/{kind}/{self.node}"
        return f"{topic}/{self.device}" if kind.startswith("D") else topic


class Session:
    """One MQTT session of the node. For one thread.

    is_born, has_device: whether the births of node and device were published and no death since.
    told: the newest value of every metric of the node. misfit: why something is not even sent.
    """

    def __init__(self, connection: Connection, topics: NodeTopics, bdseq: int) -> None:
        """bdseq: of the will in this connection's CONNECT."""
        self.connection, self.bdseq, self._topics = connection, bdseq, topics
        self.is_born = self.has_device = False
        self.told: dict[Metric, Value] = {}
        self.misfit: str | None = None
        self._seq = 0

    def restart_seq(self) -> None:
        """The next message is NBIRTH: it has number 0."""
        self._seq = 0

    def send(self, kind: str, encode: Callable[[int], bytes], echo: Echo | None = None) -> bool:
        """Publish with QoS 0, not retained, under the next number; whether it was handed over.

        encode: gives the payload, from its number. echo: is told when the message came back; its
        topic and payload are set here.
        """
        message = Message(self._topics(kind), encode(self._seq))
        size, limit = packet_bytes(message), self.connection.limits.packet_bytes
        if size > limit:
            self.misfit = (
                f"the broker takes packets of at most {limit} bytes and {kind} has {size}: raise"
                " its maximum packet size. Records wait in the outbox"
            )
            return False
        if echo is not None:
            echo.topic, echo.payload = message.topic, message.payload
            self.connection.echoes.expect(echo)
        if self.connection.publish(message) is None:
            if echo is not None:
                self.connection.echoes.forget(echo)
            return False
        self._seq = (self._seq + 1) % NUMBERS
        return True
