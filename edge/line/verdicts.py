"""Verdicts for the PLC, sent at once or not at all, on a link that is checked all the time: what
the broker delivers comes back to the station.

A heartbeat each second, and every verdict, comes back on the station's own subscription. So a
broker that refuses, discards or delays messages is noticed even if it does not say so, in MQTT
3.1.1 too.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from edge.background import keep_running
from edge.line.base import LineCounters
from edge.line.connection import Connection, Message
from edge.line.echo import Echo
from edge.line.inbound import NO_REPLY, Reply
from edge.line.link import LinkMaker
from edge.line.message import code_payload, heartbeat_payload, verdict_payload
from edge.line.remedy import Cause, refused_publication
from edge.line.topics import Topics
from edge.trouble import Trouble

log = logging.getLogger(__name__)

HEARTBEAT_S = 1.0
# however long the deadline: a link that is silent this long is not ready
HEARTBEAT_LIMIT_S = 10.0
TICK_S = 0.05
ECHO_S = 0.5  # on a busy machine a message may take this long to come back; it is not late before
DISCARDED_LIMIT_S = 60.0  # between two tries of a topic that the broker discards
ECHOED = ("verdict", "verdict/code", "heartbeat")


class VerdictChannel:
    """The verdict link with its heartbeat, and the check that both come back."""

    def __init__(
        self,
        link: LinkMaker,
        topics: Topics,
        counters: LineCounters,
        deadline_s: float,
        run: str,
        ready: Callable[[], bool],
        changed: Callable[[], None],
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            link: makes the link, from the topics to subscribe to and the function to call when
                something has happened.
            deadline_s: of a part, from the capture of the frame that completed it.
            run: the mark of this process. ready: what the heartbeat says. changed: called when
                `problem` has changed.
        """
        self._topics, self._counters, self._deadline_s = topics, counters, deadline_s
        self._run_mark, self._ready, self._changed = run, ready, changed
        self._limit_s = min(max(deadline_s, ECHO_S), HEARTBEAT_LIMIT_S)
        self._wake, self._stopping = threading.Event(), threading.Event()
        self.link = link(tuple(topics(name) for name in ECHOED), self._wake.set)
        self._sending, self._counting = threading.Lock(), threading.Lock()
        self._beaten: Connection | None = None  # where a heartbeat was sent already
        self._first_mid: int | None = None
        self._refused: str | None = None  # why the broker refused a heartbeat, until one comes back
        self._beat_at_s = 0.0
        self._discards = 0
        self.heartbeats = 0
        self.problem: str | None = "not connected to the broker yet"
        self._unsent = Trouble(log, "verdicts are sent again")
        self._refusals = Trouble(log, "heartbeats are accepted again")
        self._lost = Trouble(log, "verdicts come back again")
        self._thread = threading.Thread(target=self._loop, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Connect, and check the link every second."""
        self.link.start()
        self._thread.start()

    def stop(self) -> None:
        """Send no more heartbeats; the link disconnects by itself."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(0.3)

    @property
    def is_delayed(self) -> bool:
        """Whether what was sent earlier is still on its way through the broker: so is, perhaps,
        what comes from there now.
        """
        connection = self.link.connection
        return connection is None or self._waits_too_long(connection)

    def publish(
        self,
        fields: Mapping[str, Any],
        deadline_mono_ns: int,
        completed_mono_ns: int | None = None,
        reply: Reply = NO_REPLY,
    ) -> bool:
        """`verdict` and `verdict/code`, once, on a link that works, before the deadline; returns
        whether they left.

        completed_mono_ns: capture of the part's last frame; by default as the deadline of free run
        says. reply: where a copy of the verdict goes, too.
        """
        completed_ns = completed_mono_ns or deadline_mono_ns - round(self._deadline_s * 1e9)
        why = self._send(fields, deadline_mono_ns, completed_ns, reply)
        if why is None:
            return True
        with self._counting:
            self._counters.verdicts_unsent += 1
        self._unsent.happened(f"no verdict is sent, the PLC's timer rejects the parts: {why}")
        return False

    def _send(
        self, fields: Mapping[str, Any], deadline_mono_ns: int, completed_mono_ns: int, reply: Reply
    ) -> str | None:
        """None if it was sent, else why not."""
        connection = self.link.connection
        if connection is None:
            return "no connection to the broker"
        now_ns = time.monotonic_ns()
        left_s = (deadline_mono_ns - now_ns) / 1e9
        if left_s <= 0:
            return "they are judged after the deadline"
        if self._waits_too_long(connection):
            return "earlier messages are still on their way through the broker"
        told, copies = self._messages(fields, round((now_ns - completed_mono_ns) / 1e6), reply)
        echoes = self._echoes(told, time.monotonic() + max(left_s, ECHO_S))
        with self._sending:
            for echo in echoes:
                connection.echoes.expect(echo)
            if connection.publish_together((*told, *copies), max(1, math.ceil(left_s))):
                return None
            for echo in echoes:
                connection.echoes.forget(echo)
        return "bytes that were sent before have not left this machine"

    def _messages(
        self, fields: Mapping[str, Any], ms: int, reply: Reply
    ) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """`verdict` and `verdict/code`, which come back; and the copy for a response topic, which
        does not.
        """
        told = tuple(
            Message(self._topics(name), payload, correlation=reply.correlation)
            for name, payload in (
                ("verdict", verdict_payload(fields, ms)),
                ("verdict/code", code_payload(fields)),
            )
        )
        return told, (replace(told[0], topic=reply.topic),) if reply.topic else ()

    def _echoes(self, messages: Sequence[Message], due_s: float) -> list[Echo]:
        """What has to come back of one part; `verdict` counts as sent when it does."""
        verdict = self._topics("verdict")
        missing = {one.topic for one in messages}

        def note(topic: str, came_back: bool) -> None:
            if topic == verdict:
                self._count(came_back)
            if came_back:
                missing.discard(topic)
            if not missing:
                self._note_delivered()

        return [Echo(one.topic, one.payload, due_s, partial(note, one.topic)) for one in messages]

    def _waits_too_long(self, connection: Connection) -> bool:
        return connection.echoes.oldest_age_s() > self._patience_s(connection)

    def _patience_s(self, connection: Connection) -> float:
        """If a message has not come back after twice the usual round trip it is delayed somewhere,
        and so would be the next verdict.
        """
        return min(max(ECHO_S, 2 * connection.echoes.slowest_s), self._limit_s)

    def _count(self, came_back: bool) -> None:
        with self._counting:
            self._counters.verdicts_sent += came_back
            self._counters.verdicts_unsent += not came_back

    def _note_delivered(self) -> None:
        """Both messages about a part came back: only that ends a trouble with verdicts; having
        handed them over does not.
        """
        self._discards = 0
        self._unsent.ended()
        self._lost.ended()

    def _loop(self) -> None:
        keep_running(log, self._run, self._stopping)

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._beaten is not None:
                # also the answers of a broker that has closed the connection since
                self._hear(self._beaten)
            connection = self.link.connection
            if connection is not None:
                self._beat(connection)
                self._find_late(connection)
            self._set_problem(self._find_problem(connection))
            self._wake.wait(TICK_S)
            self._wake.clear()

    def _beat(self, connection: Connection) -> None:
        """Send a heartbeat if it is due. The first one of a connection asks for an acknowledgement:
        in MQTT 5 it says why a broker refuses.
        """
        is_first = connection is not self._beaten
        if not is_first and time.monotonic() < self._beat_at_s + HEARTBEAT_S:
            return
        self._beat_at_s = time.monotonic()
        self.heartbeats += 1
        beat = heartbeat_payload(self.heartbeats, self._ready(), self._run_mark)
        message = Message(
            self._topics("heartbeat"), beat, qos=int(is_first and connection.gives_reasons)
        )
        with self._sending:
            connection.echoes.expect(
                Echo(message.topic, message.payload, self._beat_at_s + self._limit_s, _ignore)
            )
            mid = connection.publish(message, expiry_s=math.ceil(self._limit_s))
        if is_first:
            self._beaten, self._first_mid = connection, mid

    def _hear(self, connection: Connection) -> None:
        code, name = connection.take_answers().get(self._first_mid or 0, (0, ""))
        if code >= 0x80:
            self._refused = refused_publication(self._topics("heartbeat"), code, name)
            self._refusals.happened(self._refused)
        elif self._refused is not None and self._topics("heartbeat") in connection.echoes.back:
            self._refused = None
            self._refusals.ended()

    def _find_late(self, connection: Connection) -> None:
        """A verdict that is not back in time ends the connection, which discards what is still
        unsent there.

        So does silence after messages have come back on it: one direction is dead, and without a
        verdict on its way only TCP would find out, after many seconds.
        """
        late = connection.echoes.overdue(besides=self._topics("heartbeat"))
        if late is None:
            if connection.echoes.silent_s() > self._limit_s + HEARTBEAT_S:
                what = (
                    "nothing that the station sends comes back any more: the broker or the network"
                    " is stalled"
                )
                connection.abort(Cause(what, what))
            return
        others = [sent_s for topic, sent_s in connection.echoes.back.items() if topic != late.topic]
        is_discarded = max(others, default=0.0) > late.sent_mono_s
        self._discards += is_discarded
        if is_discarded:
            what = (
                f"the broker discards {late.topic}, later messages came back: allow this user"
                " to publish and to read it, in the broker's access list"
            )
        else:
            what = (
                f"{late.topic} did not come back before the deadline: the broker or the network is"
                " stalled"
            )
        self._lost.happened(what)
        pause_s = (
            min(DISCARDED_LIMIT_S, 0.25 * 2.0 ** min(self._discards, 10)) if is_discarded else 0.0
        )
        connection.abort(Cause(what, what, pause_s=pause_s, is_told=True))

    def _find_problem(self, connection: Connection | None) -> str | None:
        if self._refused is not None:
            return self._refused
        if connection is None or self.link.problem is not None:
            return self.link.problem or "not connected to the broker yet"
        if connection.refused is not None:
            return connection.refused
        if connection.echoes.oldest_age_s() > self._limit_s:
            return (
                f"what the station sends does not come back within {self._limit_s:g} s: the broker"
                " or the network is slow or stalled, or this user may not publish and read"
                f" {', '.join(ECHOED)} below {self._topics.prefix}"
            )
        return None if connection.echoes.back else "the broker has returned nothing yet"

    def _set_problem(self, found: str | None) -> None:
        if found != self.problem:
            self.problem = found
            self._changed()


def _ignore(_: bool) -> None:
    """For a heartbeat: that it came back is noted in `Echoes.back`, and that is all."""
