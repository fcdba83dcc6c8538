"""One message of QoS 1 on its way, until it is known that the broker has taken and delivers it.

In MQTT 5 the acknowledgement says so: it carries a reason code. In MQTT 3.1.1 it says nothing about
access rights, so there the message must also come back on the station's own subscription.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from edge.line.connection import Connection, Message
from edge.line.echo import Echo

ACK_S = 15.0  # without a PUBACK for this long the connection is given up


@dataclass(eq=False)
class Delivery:
    """needs_echo: whether an acknowledgement is not enough (MQTT 3.1.1).

    mid: the library's number of it, None while it is not on its way (refused, or not sent yet).
    """

    needs_echo: bool
    mid: int | None = None
    at_s: float = 0.0
    is_acknowledged: bool = False
    is_back: bool = False

    @property
    def is_done(self) -> bool:
        """Whether the broker has taken it and delivers it."""
        return self.is_acknowledged and (self.is_back or not self.needs_echo)

    @property
    def is_late(self) -> bool:
        """Whether it has been on its way for longer than a broker may take."""
        return self.mid is not None and not self.is_done and time.monotonic() - self.at_s >= ACK_S

    def send(self, connection: Connection, message: Message) -> None:
        """Send it, perhaps again."""
        self.at_s, self.is_acknowledged, self.is_back = time.monotonic(), False, False
        if self.needs_echo:
            connection.echoes.expect(
                Echo(message.topic, message.payload, self.at_s + ACK_S, self._note_back)
            )
        self.mid = connection.publish(message)

    def take_back(self) -> None:
        """The broker has refused it: it is not on its way any more."""
        self.mid, self.is_acknowledged = None, False

    def _note_back(self, came_back: bool) -> None:
        """Called in the library's thread; the channel draws the conclusion in its own."""
        self.is_back = came_back
