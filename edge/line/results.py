"""The newest verdicts over MQTT, for a PLC that asks for the last one or acknowledges each.

`last` is answered on `last/verdict`, never on `verdict`: a PLC that was restarted learns what the
station told last, and how long ago, and cannot mistake it for the verdict on a part that waits.
`ack` says that a verdict was taken. From the first one on, verdicts that nobody takes are counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edge.line.base import LineCounters
from edge.line.connection import Arrival, Message
from edge.line.inbound import BadRequest, read_ack, usable_reply
from edge.line.message import verdict_payload
from edge.line.topics import Topics
from edge.line.verdicts import VerdictChannel
from edge.trouble import Trouble

log = logging.getLogger(__name__)

ROOM = 16  # verdicts that may wait for their `ack`
EXPIRY_S = 2
NOTHING = b"{}"  # the answer to `last` before the first verdict


class ResultChannel:
    """Remembers verdicts and answers for them. Thread-safe; `hear_...` are called in the library's
    thread.
    """

    def __init__(self, verdicts: VerdictChannel, topics: Topics, counters: LineCounters) -> None:
        """verdicts: the channel whose link is used. counters: gets `verdicts_overrun`."""
        self._verdicts, self._topics, self._counters = verdicts, topics, counters
        self._lock = threading.Lock()
        self._last: tuple[Mapping[str, Any], int] | None = None
        self._untaken: deque[int] = deque()  # numbers
        self._is_acknowledged = False  # whether the PLC acknowledges at all
        self._unread = Trouble(log, "acknowledgments of verdicts can be read again")

    def note(self, fields: Mapping[str, Any], completed_mono_ns: int) -> None:
        """This verdict was given, whether or not it could be sent."""
        seq = fields["seq"]
        with self._lock:
            is_repeated = self._last is not None and self._last[0]["seq"] == seq
            self._last = fields, completed_mono_ns
            if not self._is_acknowledged or is_repeated or seq in self._untaken:
                return
            self._untaken.append(seq)
            if len(self._untaken) > ROOM:
                self._untaken.popleft()
                self._counters.verdicts_overrun += 1

    def hear_ack(self, arrival: Arrival) -> None:
        """The PLC has taken a verdict."""
        if arrival.is_retained:
            return
        try:
            seq = read_ack(arrival.payload)
        except BadRequest as bad:
            self._unread.happened(f"an `ack` cannot be read: {bad}", cause="bad request")
            return
        self._unread.ended()
        with self._lock:
            self._is_acknowledged = True
            if seq in self._untaken:
                self._untaken.remove(seq)

    def hear_last(self, arrival: Arrival) -> None:
        """The PLC asks for the last verdict: `ms` counts until now, so that its age is known."""
        connection = self._verdicts.link.connection
        if arrival.is_retained or connection is None:
            return
        with self._lock:
            last = self._last
        payload = NOTHING
        if last is not None:
            payload = verdict_payload(last[0], round((time.monotonic_ns() - last[1]) / 1e6))
        reply = usable_reply(arrival.response_topic, arrival.correlation, self._topics.prefix)
        answer = Message(self._topics("last/verdict"), payload, correlation=reply.correlation)
        for one in (answer, *([replace(answer, topic=reply.topic)] if reply.topic else [])):
            connection.publish(one, expiry_s=EXPIRY_S)
