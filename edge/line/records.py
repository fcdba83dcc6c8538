"""Records for the archive, always: from the outbox to the broker in the order of `seq`, several in
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
from edge.line.echo import Echo
from edge.line.link import Connection, LinkMaker, Message, packet_bytes
from edge.line.message import record_payload, short_state
from edge.line.outbox import Outbox
from edge.line.remedy import Cause, refused_publication
from edge.line.tables import Waiting
from edge.line.topics import Topics
from edge.trouble import Trouble

log = logging.getLogger(__name__)

WINDOW = 64  # records in flight, or as many as the broker allows
STATE_S = 10.0
ACK_S = 15.0  # without a PUBACK for so long the connection is given up
REFUSED_LIMIT_S = 30.0  # between two tries of a refused record
ROUND_S = 0.5  # without news the thread looks for itself


@dataclass(eq=False)
class _Sent:
    """One message that waits for its acknowledgement. waiting: None for the state."""

    waiting: Waiting | None
    mid: int | None = None  # None: refused, waits to be tried again
    at_s: float = 0.0
    is_acknowledged: bool = False
    is_back: bool = False  # where an acknowledgement is not enough


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
        trusts_acknowledgement: bool,
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            link: makes the link from the topics to subscribe and what it calls when something has
                happened.
            state: the present state message. changed: called when `problem` is another.
            trusts_acknowledgement: whether a PUBACK carries a reason code (MQTT 5).
        """
        self._topics, self._counters, self._outbox, self._state = topics, counters, outbox, state
        self._changed, self._trusts = changed, trusts_acknowledgement
        self._wake, self._stopping = threading.Event(), threading.Event()
        echoed = () if trusts_acknowledgement else (topics("record"), topics("state"))
        self.link = link(echoed, self._wake.set)
        self._connection: Connection | None = None
        self._flight: dict[int, _Sent] = {}  # seq -> record, lowest first
        self._accepted: list[int] = []  # acknowledged, not yet marked in the outbox
        self._told: _Sent | None = None  # the state message that waits for its acknowledgement
        self._after = 0  # records up to this number are in flight, or do not fit
        self._refusals, self._retry_at_s = 0, 0.0
        self._refused: str | None = None  # why the broker refuses records
        self._untold: str | None = None  # why it refuses the state
        self._misfit: str | None = None  # why records are not even sent
        self._is_dirty, self._state_at_s = True, 0.0
        self.problem: str | None = "not connected to the broker yet"
        self._trouble = Trouble(log, "records are accepted again")
        self._disk = Trouble(log, "records leave again")
        self._thread = threading.Thread(target=self._loop, name="records", daemon=True)

    def start(self) -> None:
        """Connect and send what an earlier run has left."""
        self.link.start()
        self._thread.start()

    def stop(self, goodbye: bytes) -> None:
        """Send no more records; `goodbye` is the last state, waited for a moment."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(0.5)
        connection = self.link.connection
        if connection is None or self._thread.is_alive():
            return
        self._tell(connection, goodbye)
        end_s = time.monotonic() + 0.5
        while self._told is not None and connection.is_up and time.monotonic() < end_s:
            self._wake.wait(0.05)
            self._wake.clear()
            self._take_answers(connection)
            self._settle()

    def records_waiting(self) -> None:
        """The outbox has a new record."""
        self._wake.set()

    def state_changed(self) -> None:
        """Publish the state now and not only at its next turn."""
        self._is_dirty = True
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
        self._publish_state(connection)
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
        """Whatever was in flight on the connection before is sent again, in order, by the
        next one.
        """
        if self._connection is not None:
            self._take_answers(
                self._connection
            )  # what a broker says before it closes the connection
        self._connection, self._told, self._is_dirty = connection, None, True
        self._flight = {seq: one for seq, one in self._flight.items() if self._is_done(one)}
        self._after, self._misfit = 0, None
        if connection is None:
            with contextlib.suppress(StorageError):
                self._outbox.unsent(
                    0, 0
                )  # nothing is taken now: what is committed is not yet handed over
        if connection is not None:
            self._misfit = _why_nothing_is_sent(connection)
            if self._misfit is not None:
                self._trouble.happened(self._misfit, "record")
            if not connection.limits.retains:
                log.warning(
                    "the broker retains no message: who subscribes sees the state within %g s only",
                    STATE_S,
                )

    # --- answers ---

    def _take_answers(self, connection: Connection) -> None:
        answers = connection.take_answers()
        if not answers:
            return
        for one in [*self._flight.values(), *([] if self._told is None else [self._told])]:
            if one.mid in answers:
                self._answered(one, *answers[one.mid])

    def _answered(self, one: _Sent, code: int, name: str) -> None:
        if code < 0x80:
            one.is_acknowledged = True
        elif one.waiting is None:
            self._refuse_state(refused_publication(self._topics("state"), code, name))
        else:
            self._refuse(one, refused_publication(self._topics("record"), code, name))
        self._settle()

    def _refuse_state(self, why: str) -> None:
        self._told, self._untold = None, why
        self._trouble.happened(why, "state")

    def _refuse(self, one: _Sent, why: str) -> None:
        """It stays in the outbox; the delay grows with each round of refusals, not with each record
        of one.
        """
        one.mid, one.is_acknowledged, self._refused = None, False, why
        self._trouble.happened(f"{why}. Records wait in the outbox", "record")
        if time.monotonic() >= self._retry_at_s:
            self._refusals += 1
            self._retry_at_s = time.monotonic() + max(
                1.0, backoff_s(self._refusals + 2, 1.0, REFUSED_LIMIT_S)
            )

    def _is_done(self, one: _Sent) -> bool:
        return one.is_acknowledged and (self._trusts or one.is_back)

    def _settle(self) -> None:
        """Take out what is done, from the lowest number on: one that overtook another waits
        for it.
        """
        if self._told is not None and self._is_done(self._told):
            self._told = self._untold = None
            self._trouble.ended("state")
        for seq in sorted(self._flight):
            if not self._is_done(self._flight[seq]):
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
            self._flight[seq] for seq in sorted(self._flight) if self._flight[seq].mid is None
        ]
        if self._refusals and self._flight:  # one at a time, the lowest, until the broker takes it
            in_flight = (
                len(self._flight) - len(refused) - sum(map(self._is_done, self._flight.values()))
            )
            for one in refused[: 0 if in_flight else 1]:
                self._send(connection, one)
            return
        for one in refused:
            self._send(connection, one)
        room = (
            1 if self._refusals else self._room(connection)
        )  # refused on the connection before: one again
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
        self._flight[waiting.seq] = one = _Sent(waiting)
        self._send(connection, one)

    def _message(self, waiting: Waiting) -> Message:
        return Message(
            self._topics("record"), record_payload(waiting.fields, waiting.replay), qos=1
        )

    def _send(self, connection: Connection, one: _Sent) -> None:
        if one.waiting is not None:
            self._publish(connection, one, self._message(one.waiting))

    def _publish(self, connection: Connection, one: _Sent, message: Message) -> None:
        one.at_s, one.is_acknowledged, one.is_back = time.monotonic(), False, False
        if not self._trusts:
            echo = Echo(
                message.topic,
                message.payload,
                one.at_s + ACK_S,
                lambda back: self._heard(one, back),
            )
            connection.echoes.expect(echo)
        one.mid = connection.publish(message)

    def _heard(self, one: _Sent, came_back: bool) -> None:
        """In the library's thread: the channel's own thread draws the conclusion."""
        one.is_back = came_back

    def _publish_state(self, connection: Connection) -> None:
        """If it has changed, or every 10 s; one at a time, so that an old one never overtakes a new
        one.
        """
        now_s = time.monotonic()
        is_due = now_s - self._state_at_s >= STATE_S or (self._is_dirty and self._untold is None)
        if (
            self._told is None
            and is_due
            and not (connection.limits.receive_maximum == 1 and self._flight)
        ):
            self._is_dirty = False
            self._tell(connection, self._state())

    def _tell(self, connection: Connection, payload: bytes) -> None:
        message = Message(self._topics("state"), payload, retain=True, qos=1)
        if packet_bytes(message) > connection.limits.packet_bytes:
            message = Message(message.topic, short_state(payload), retain=True, qos=1)
        self._state_at_s = time.monotonic()
        self._told = _Sent(None)
        self._publish(connection, self._told, message)
        if connection.limits.qos == 0:
            self._told = None  # nobody acknowledges it

    def _find_silence(self, connection: Connection) -> None:
        """A broker that acknowledges nothing is left; one that acknowledges and does not deliver,
        in 3.1.1, refuses.
        """
        late_s = time.monotonic() - ACK_S
        for one in [*self._flight.values(), *([] if self._told is None else [self._told])]:
            if one.mid is None or one.at_s > late_s or self._is_done(one):
                continue
            if not one.is_acknowledged:
                what = (
                    "the broker acknowledges nothing: is it overloaded, or its disk full? Look at"
                    " its log"
                )
                connection.abort(Cause(what, what))
                return
            self._discarded(one)

    def _discarded(self, one: _Sent) -> None:
        topic = self._topics("state" if one.waiting is None else "record")
        why = (
            f"the broker acknowledges {topic} and does not deliver it: allow this user to publish"
            " and to read it, in the broker's access list"
        )
        if one.waiting is None:
            self._refuse_state(why)
        else:
            self._refuse(one, why)

    def _set_problem(self) -> None:
        connection = self._connection
        found = self.link.problem
        if connection is None:
            found = found or "not connected to the broker yet"
        else:
            found = found or connection.refused or self._misfit or self._refused or self._untold
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
