"""Every record for the archive: from the outbox to the broker in the order of `seq`, several in
flight.

A record counts as sent when the broker has acknowledged it, and in MQTT 3.1.1, where an
acknowledgement says nothing about access rights, when it also came back on the station's own
subscription. A refused one stays in the outbox and is tried again, alone, with growing delays;
those behind it wait, so that the archive gets them in order.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.background import keep_running
from edge.backoff import backoff_s
from edge.errors import StorageError
from edge.line.base import LineCounters
from edge.line.connection import Connection, Message, packet_bytes
from edge.line.delivery import Delivery
from edge.line.link import LinkMaker
from edge.line.message import record_payload
from edge.line.outbox import Outbox
from edge.line.remedy import Cause, refused_publication
from edge.line.state import STATE_S, StatePublisher
from edge.line.tables import Waiting
from edge.line.topics import Topics
from edge.trouble import Trouble

log = logging.getLogger(__name__)

WINDOW = 64  # records in flight, or as many as the broker allows
REFUSED_LIMIT_S = 30.0  # between two tries of a refused record
ROUND_S = 0.5  # the thread looks this often if nothing wakes it


@dataclass(eq=False)
class _InFlight:
    """One record and its delivery; it stays here while the broker refuses it."""

    waiting: Waiting
    delivery: Delivery


class RecordChannel:
    """The record link, the records in flight on it and the state message."""

    def __init__(
        self,
        link: LinkMaker,
        topics: Topics,
        counters: LineCounters,
        outbox: Outbox,
        state: Callable[[], bytes],
        changed: Callable[[], None],
        needs_echo: bool,
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            link: makes the link, from the topics to subscribe to and the function to call when
                something has happened.
            state: the present state message. changed: called when `problem` has changed.
            needs_echo: whether a PUBACK carries no reason code (MQTT 3.1.1), see Delivery.
        """
        self._topics, self._counters, self._outbox = topics, counters, outbox
        self._changed, self._needs_echo = changed, needs_echo
        self._wake, self._stopping = threading.Event(), threading.Event()
        echoed = (topics("record"), topics("state")) if needs_echo else ()
        self.link = link(echoed, self._wake.set)
        self._connection: Connection | None = None
        self._flight: dict[int, _InFlight] = {}  # by seq, lowest first
        self._accepted: list[int] = []  # acknowledged, not yet marked in the outbox
        self._after = 0  # records up to this number are in flight, or do not fit
        self._refusals, self._retry_at_s = 0, 0.0
        self._refused: str | None = None  # why the broker refuses records
        self._misfit: str | None = None  # why records are not even sent
        self.problem: str | None = "not connected to the broker yet"
        self._trouble = Trouble(log, "records are accepted again")
        self._state = StatePublisher(topics("state"), state, needs_echo, self._trouble)
        self._disk = Trouble(log, "records leave again")
        self._thread = threading.Thread(target=self._loop, name="records", daemon=True)

    def start(self) -> None:
        """Connect and send what an earlier run has left."""
        self.link.start()
        self._thread.start()

    def stop(self, goodbye: bytes) -> None:
        """Send no more records. `goodbye`, the last state, is sent and waited for, up to 0.5 s."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(0.5)
        connection = self.link.connection
        if connection is None or self._thread.is_alive():
            return
        self._state.publish(connection, goodbye)
        end_s = time.monotonic() + 0.5
        while self._state.sent is not None and connection.is_up and time.monotonic() < end_s:
            self._wake.wait(0.05)
            self._wake.clear()
            self._take_answers(connection)
            self._settle()

    def records_waiting(self) -> None:
        """The outbox has a new record."""
        self._wake.set()

    def state_changed(self) -> None:
        """Publish the state now and not only at its next turn."""
        self._state.changed()
        self._wake.set()

    def _loop(self) -> None:
        keep_running(log, self._run, self._stopping)

    def _run(self) -> None:
        while not self._stopping.is_set():
            connection = self.link.connection
            if connection is not self._connection:
                self._begin(connection)
            if connection is not None:
                self._work(connection)
            self._set_problem()
            self._wake.wait(ROUND_S)
            self._wake.clear()

    def _work(self, connection: Connection) -> None:
        self._take_answers(connection)
        if connection.limits.receive_maximum > 1 or not self._flight:
            self._state.publish_if_due(connection)
        try:
            self._mark()
            self._fill(connection)
        except StorageError as error:
            self._disk.happened(f"records wait: {error}")
            self._stopping.wait(1.0)
        else:
            self._disk.ended()
        self._find_silence(connection)

    def _begin(self, connection: Connection | None) -> None:
        """There is another connection, or none: what was in flight on the one before is sent again,
        in order, on the next.
        """
        if self._connection is not None:
            # a broker may have answered before it closed the connection
            self._take_answers(self._connection)
        self._connection = connection
        self._state.begin()
        self._flight = {seq: one for seq, one in self._flight.items() if one.delivery.is_done}
        self._after, self._misfit = 0, None
        if connection is None:
            with contextlib.suppress(StorageError):
                # no room for records now: the next commits are not marked as attempted
                self._outbox.unsent(0, 0)
        if connection is not None:
            self._misfit = _why_nothing_is_sent(connection)
            if self._misfit is not None:
                self._trouble.happened(self._misfit, "record")
            if not connection.limits.retains:
                log.warning(
                    "the broker retains no messages: a new subscriber gets the state after up to %g"
                    " s",
                    STATE_S,
                )

    # --- answers ---

    def _take_answers(self, connection: Connection) -> None:
        answers = connection.take_answers()
        if not answers:
            return
        self._state.take_answers(answers)
        for one in list(self._flight.values()):
            if one.delivery.mid in answers:
                self._answered(one, *answers[one.delivery.mid])
        self._settle()

    def _answered(self, one: _InFlight, code: int, name: str) -> None:
        if code < 0x80:
            one.delivery.is_acknowledged = True
            self._settle()
        else:
            self._refuse(one, refused_publication(self._topics("record"), code, name))

    def _refuse(self, one: _InFlight, why: str) -> None:
        """The record stays in the outbox. The delay grows with each round of refusals, not with
        each record in a round.
        """
        one.delivery.take_back()
        self._refused = why
        self._trouble.happened(f"{why}. Records wait in the outbox", "record")
        if time.monotonic() >= self._retry_at_s:
            self._refusals += 1
            self._retry_at_s = time.monotonic() + max(
                1.0, backoff_s(self._refusals + 2, 1.0, REFUSED_LIMIT_S)
            )

    def _settle(self) -> None:
        """Take out the records that are delivered, from the lowest number on: a record that
        overtook another waits for it.
        """
        self._state.settle()
        for seq in sorted(self._flight):
            if not self._flight[seq].delivery.is_done:
                return
            del self._flight[seq]
            self._accepted.append(seq)
            self._refused, self._refusals = None, 0
            self._trouble.ended("record")

    def _mark(self) -> None:
        self._settle()
        if self._accepted:
            self._outbox.mark_sent(self._accepted)
            self._counters.records_sent += len(self._accepted)
            self._accepted = []

    # --- sending ---

    def _fill(self, connection: Connection) -> None:
        if connection.limits.qos == 0 or time.monotonic() < self._retry_at_s:
            return
        refused = [
            self._flight[seq]
            for seq in sorted(self._flight)
            if self._flight[seq].delivery.mid is None
        ]
        if self._refusals and self._flight:  # one at a time, the lowest, until the broker takes it
            done = sum(one.delivery.is_done for one in self._flight.values())
            in_flight = len(self._flight) - len(refused) - done
            for one in refused[: 0 if in_flight else 1]:
                self._send(connection, one)
            return
        for one in refused:
            self._send(connection, one)
        # after a refusal on the connection before: one record again
        room = 1 if self._refusals else self._room(connection)
        if room <= 0:
            return
        batch = self._outbox.unsent(self._after, room)
        for waiting in batch:
            self._after = waiting.seq
            if waiting.seq not in self._flight:
                self._take(connection, waiting)
        if batch and self._room(connection) > 0:
            self._wake.set()  # there may be more

    def _room(self, connection: Connection) -> int:
        """How many more may be in flight; one place is the state's."""
        return min(WINDOW, max(1, connection.limits.receive_maximum - 1)) - len(self._flight)

    def _take(self, connection: Connection, waiting: Waiting) -> None:
        size, limit = packet_bytes(self._message(waiting)), connection.limits.packet_bytes
        if size > limit:
            what = f"the broker takes packets of at most {limit} bytes and a record has {size}"
            self._misfit = (
                self._misfit or f"{what}: raise its maximum packet size. Records wait in the outbox"
            )
            self._trouble.happened(self._misfit, "record")
            return
        self._flight[waiting.seq] = one = _InFlight(waiting, Delivery(self._needs_echo))
        self._send(connection, one)

    def _message(self, waiting: Waiting) -> Message:
        return Message(
            self._topics("record"), record_payload(waiting.fields, waiting.replay), qos=1
        )

    def _send(self, connection: Connection, one: _InFlight) -> None:
        one.delivery.send(connection, self._message(one.waiting))

    def _find_silence(self, connection: Connection) -> None:
        """Leave a broker that acknowledges nothing. One that acknowledges and does not deliver
        (MQTT 3.1.1) counts as refusing.
        """
        state, records = self._state.sent, [one.delivery for one in self._flight.values()]
        late = [one for one in (*records, *([state] if state else [])) if one.is_late]
        if not all(one.is_acknowledged for one in late):
            what = (
                "the broker acknowledges nothing: is it overloaded, or its disk full? Look at its"
                " log"
            )
            connection.abort(Cause(what, what))
            return
        for one in [one for one in self._flight.values() if one.delivery in late]:
            self._refuse(one, _why_discarded(self._topics("record")))
        if state in late:
            self._state.refuse(_why_discarded(self._state.topic))

    def _set_problem(self) -> None:
        connection = self._connection
        found = self.link.problem
        if connection is None:
            found = found or "not connected to the broker yet"
        else:
            found = found or connection.refused or self._misfit or self._refused
            found = found or self._state.problem
        if found != self.problem:
            self.problem = found
            self._changed()


def _why_nothing_is_sent(connection: Connection) -> str | None:
    if connection.limits.qos > 0:
        return None
    return (
        "the broker takes QoS 0 only and acknowledges nothing: allow QoS 1 in its configuration."
        " Records wait in the outbox"
    )


def _why_discarded(topic: str) -> str:
    return (
        f"the broker acknowledges {topic} and does not deliver it: allow this user to publish"
        " and to read it, in the broker's access list"
    )
