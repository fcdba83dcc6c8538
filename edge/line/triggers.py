"""The PLC's triggers over MQTT: what is heard on `trigger`, and the answer on `trigger/ack`.

They arrive on the link of the verdicts, whose session is clean: nothing that was published before
it is delivered. What is retained or has expired is not taken, but counted. A trigger is dated by
its arrival, so one that comes over a link on which the station's own messages are late is refused.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from edge.line.base import LineCounters
from edge.line.connection import Arrival, Message
from edge.line.inbound import (
    Ack,
    Asked,
    BadRequest,
    Refusal,
    Reply,
    ack_payload,
    read_trigger,
    usable_reply,
)
from edge.line.topics import Topics
from edge.line.verdicts import VerdictChannel
from edge.trouble import Trouble

log = logging.getLogger(__name__)

ACK_EXPIRY_S = 2


class TriggerChannel:
    """Hears triggers and sends their acknowledgments. `hear` is called in the library's thread."""

    def __init__(
        self,
        verdicts: VerdictChannel,
        topics: Topics,
        counters: LineCounters,
        period_ms: float,
        triggered: Callable[[Asked], None],
    ) -> None:
        """verdicts: the channel whose link the triggers use. period_ms: of the camera's frames.

        triggered: is given each trigger that can be read; it must not wait.
        """
        self._verdicts, self._topics, self._counters = verdicts, topics, counters
        self._period_ms, self._triggered = period_ms, triggered
        self._counting = threading.Lock()
        self._unread = Trouble(log, "triggers can be read again")

    def hear(self, arrival: Arrival) -> None:
        """A message came on `trigger`."""
        if arrival.is_retained or arrival.expiry_s == 0:
            self._counters.triggers_ignored += 1
            return
        reply = usable_reply(arrival.response_topic, arrival.correlation, self._topics.prefix)
        try:
            request = read_trigger(arrival.payload, self._period_ms)
        except BadRequest as bad:
            self._unread.happened(f"a trigger cannot be taken: {bad}", cause="bad request")
            ack = Ack(bad.part, bad.n, None, Refusal.BAD_REQUEST, bad.field)
            self.acknowledge(ack, reply)
            return
        self._unread.ended()
        if self._verdicts.is_delayed:
            self.acknowledge(Ack(request.part, request.n, None, Refusal.NOT_READY), reply)
            return
        self._triggered(Asked(request, arrival.is_dup, reply))

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """`trigger/ack`, and the same to the response topic; once, if there is a connection."""
        with self._counting:
            self._counters.triggers_refused += ack.reason is not None
        connection = self._verdicts.link.connection
        if connection is None:
            return
        message = Message(
            self._topics("trigger/ack"), ack_payload(ack), correlation=reply.correlation
        )
        for one in (message, *([replace(message, topic=reply.topic)] if reply.topic else [])):
            connection.publish(one, expiry_s=ACK_EXPIRY_S)
