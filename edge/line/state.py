"""The `state` topic: retained, published whenever the state has changed and every 10 s.

One state message is on its way at a time, so that an old one never overtakes a new one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from edge.line.connection import Connection, Message, packet_bytes
from edge.line.delivery import Delivery
from edge.line.message import short_state
from edge.line.remedy import refused_publication
from edge.trouble import Trouble

log = logging.getLogger(__name__)

STATE_S = 10.0


class StatePublisher:
    """Publishes the state on the record link. Used by the thread of the records and, after its end,
    by the one that stops the channel; `changed` by any thread.
    """

    def __init__(
        self, topic: str, state: Callable[[], bytes], needs_echo: bool, trouble: Trouble
    ) -> None:
        """state: the present message. needs_echo: see Delivery. trouble: where refusals are logged,
        under the name "state".
        """
        self.topic, self._state, self._needs_echo = topic, state, needs_echo
        self._trouble = trouble
        self.sent: Delivery | None = None  # the one that waits for its acknowledgement
        self.problem: str | None = None  # why the broker refuses the state
        self._is_dirty, self._at_s = True, 0.0

    def changed(self) -> None:
        """Publish it at the next opportunity and not only at its next turn."""
        self._is_dirty = True

    def begin(self) -> None:
        """There is another connection: publish the state again, whatever was on its way before."""
        self.sent, self._is_dirty = None, True

    def publish_if_due(self, connection: Connection) -> None:
        """If it has changed or its turn has come, unless the one before is still on its way."""
        is_its_turn = time.monotonic() - self._at_s >= STATE_S
        if self.sent is None and (is_its_turn or (self._is_dirty and self.problem is None)):
            self._is_dirty = False
            self.publish(connection, self._state())

    def publish(self, connection: Connection, payload: bytes) -> None:
        """Publish this one now; without its details where the broker takes no more."""
        message = Message(self.topic, payload, retain=True, qos=1)
        if packet_bytes(message) > connection.limits.packet_bytes:
            message = Message(message.topic, short_state(payload), retain=True, qos=1)
        self._at_s = time.monotonic()
        self.sent = Delivery(self._needs_echo)
        self.sent.send(connection, message)
        if connection.limits.qos == 0:
            self.sent = None  # nobody acknowledges it

    def take_answers(self, answers: Mapping[int, tuple[int, str]]) -> None:
        """What the broker has answered: message id -> (reason code, its name)."""
        if self.sent is None or self.sent.mid is None or self.sent.mid not in answers:
            return
        code, name = answers[self.sent.mid]
        if code < 0x80:
            self.sent.is_acknowledged = True
        else:
            self.refuse(refused_publication(self.topic, code, name))

    def refuse(self, why: str) -> None:
        """The broker does not take it: it is tried again at its next turn."""
        self.sent, self.problem = None, why
        self._trouble.happened(why, "state")

    def settle(self) -> None:
        """Draw the conclusion if the broker has taken it."""
        if self.sent is not None and self.sent.is_done:
            self.sent = self.problem = None
            self._trouble.ended("state")
