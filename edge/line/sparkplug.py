"""The line over Sparkplug B 3.0: the state of the station as an edge node, its records as a device.

For records and state only: Sparkplug sends data with QoS 0 and waits for its primary host, so that
no PLC may rely on it for a verdict, and nothing that happens here makes the station not ready. One
MQTT client of its own; its thread publishes, the library's hears.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.background import keep_running
from edge.config import EdgeConfig
from edge.errors import ConfigError, StorageError
from edge.line import sparkplug_payload as payload
from edge.line.base import LineSetup
from edge.line.connection import Arrival, Connection, Message
from edge.line.credentials import check_credentials, with_paths_below
from edge.line.identity import client_id
from edge.line.message import StationState
from edge.line.outbox import Outbox
from edge.line.quiet import QuietLine
from edge.line.remedy import Cause
from edge.line.sparkplug_host import PrimaryHost
from edge.line.sparkplug_link import FILE_NAME, BirthNumbers, NodeLink, now_ms
from edge.line.sparkplug_metrics import device_values, node_values, time_of
from edge.line.sparkplug_records import RecordFlow
from edge.line.sparkplug_schema import payload_class
from edge.line.sparkplug_session import NodeTopics, Session
from edge.sections import BrokerConfig
from edge.trouble import Trouble

log = logging.getLogger(__name__)

NAME = "sparkplug"
STATE_S, STATE_PAUSE_S = 10.0, 0.2  # the state is looked at this often, and no more often
REBIRTH_PAUSE_S = 1.0  # however often births are asked for
ROUND_S, THROTTLED_ROUND_S = 0.5, 0.02
HOST_S = 2.0  # from a connection until the host application counts as away
DEATH_S = 0.5  # for the acknowledgment of NDEATH
NOT_CONNECTED = "not connected to the Sparkplug broker yet"


class SparkplugLine(QuietLine):
    """One edge node with one device. See edge.line.base.Line.

    commands_ignored: NCMD messages that were no request for births.
    """

    def __init__(
        self,
        broker: BrokerConfig,
        client: str,
        topics: NodeTopics,
        names: Mapping[str, str],
        host_id: str,
        outbox: Outbox,
        state: Callable[[], StationState],
        changed: Callable[[], None] = lambda: None,
        section: str = "broker",
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            client: identifier of the MQTT client. names: of the metrics Properties/*.
            host_id: of the primary host application; "": births are sent without one.
            changed: called when `record_problem` has changed.
            section: of station.toml that `broker` is from, for sentences.
        Raises: ConfigError if a file that `broker` names cannot be used; MissingDependency without
            protobuf.
        """
        super().__init__()
        payload_class()
        self._topics, self._names, self._section = topics, names, section
        self._state, self._changed = state, changed
        self.commands_ignored = 0
        self._host = PrimaryHost(host_id)
        self._wake, self._stopping = threading.Event(), threading.Event()
        consumer = outbox.consumer(NAME)
        self._flow = RecordFlow(
            consumer, lambda: outbox.counts()["seq"], self.counters, self._wake.set
        )
        ears = {topics("NCMD"): self._hear_command}
        if self._host.topic is not None:
            ears[self._host.topic] = self._hear_state
        self._link = NodeLink(
            self._new_will,
            BirthNumbers(outbox.path.parent / FILE_NAME),
            self._host.forget,
            broker,
            client,
            (topics("DDATA"),),
            self._wake.set,
            trouble=_SectionTrouble(section, f"{NAME}: connected again"),
            ears=ears,
        )
        self._session: Session | None = None
        self._asks_birth, self._departures = False, 0  # of the host, before the births
        self._is_dirty, self._state_at_s, self._birth_at_s = True, 0.0, 0.0
        self._disk = Trouble(log, f"{NAME}: the outbox works again")
        self._waits = Trouble(log, f"{NAME}: records leave again")
        self.record_problem: str | None = NOT_CONNECTED
        self._thread = threading.Thread(target=self._loop, name=NAME, daemon=True)

    @property
    def problem(self) -> str | None:  # type: ignore[override]
        """As record_problem: there are no verdicts here."""
        return self.record_problem

    @property
    def backlog(self) -> int:  # type: ignore[override]
        """Records that the broker has not delivered."""
        return self._flow.backlog

    @property
    def is_born(self) -> bool:
        """Whether the births of the present session were published."""
        session = self._session
        return session is not None and session.is_born

    def start(self) -> None:
        """Connect, publish births, and send what an earlier run has left."""
        self._link.start()
        self._thread.start()

    def records_waiting(self) -> None:
        """The outbox has a new record."""
        self._wake.set()

    def state_changed(self) -> None:
        """Publish what has changed in the state now and not only at its next turn."""
        self._is_dirty = True
        self._wake.set()

    def stop(self) -> None:
        """Publish NDEATH and disconnect."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(DEATH_S)
        connection, session = self._link.connection, self._session
        is_over = not self._thread.is_alive()
        if is_over and session is not None and session.connection is connection:
            self._die(session)
        self._link.say_goodbye()
        self._link.join(0.4)

    # --- the library's thread ---

    def _hear_command(self, arrival: Arrival) -> None:
        if not arrival.is_retained and payload.asks_for_rebirth(arrival.payload):
            self._asks_birth = True
        else:
            self.commands_ignored += 1
            self._is_dirty = True

    def _hear_state(self, arrival: Arrival) -> None:
        self._host.hear(arrival.payload)

    # --- the thread of this line ---

    def _new_will(self, bdseq: int) -> Message:
        return Message(self._topics("NDEATH"), payload.node_death(bdseq, now_ms()), qos=1)

    def _loop(self) -> None:
        keep_running(log, self._run, self._stopping)

    def _run(self) -> None:
        while not self._stopping.is_set():
            connection = self._link.connection
            if self._session is None or connection is not self._session.connection:
                self._begin(connection)
            if self._session is not None:
                self._work(self._session)
            self._set_problem()
            throttled = self.is_born and self._flow.is_throttled
            self._wake.wait(THROTTLED_ROUND_S if throttled else ROUND_S)
            self._wake.clear()

    def _begin(self, connection: Connection | None) -> None:
        number = None if connection is None else self._link.number_of(connection)
        self._session = None
        if connection is not None and number is not None:
            self._session = Session(connection, self._topics, number)
            self._flow.begin()

    def _work(self, session: Session) -> None:
        session.connection.take_answers()  # of QoS 0: they say nothing
        if session.is_born and self._departures != self._host.departures:
            self._leave(session)
        if not session.is_born:
            self._departures = self._host.departures
        if not self._host.is_online or not session.connection.is_up:
            return
        try:
            if not session.is_born or self._asks_birth:
                self._give_birth(session)
            if session.is_born and not self._asks_birth:
                self._tell_state(session)
                if session.has_device:
                    self._flow.work(session)
        except StorageError as error:
            self._disk.happened(f"{NAME}: records wait: {error}")
            self._stopping.wait(1.0)
        else:
            self._disk.ended()

    def _give_birth(self, session: Session) -> None:
        """NBIRTH and DBIRTH, at most once in REBIRTH_PAUSE_S; no data before them."""
        now_s = time.monotonic()
        if session.is_born and now_s - self._birth_at_s < REBIRTH_PAUSE_S:
            return
        self._asks_birth, self._is_dirty = False, False
        state, now = self._state(), now_ms()
        values = node_values(state, self._names, self.commands_ignored)
        session.restart_seq()
        session.is_born = session.send(
            "NBIRTH", lambda seq: payload.node_birth(values, session.bdseq, seq, now)
        )
        session.told, session.has_device = values, False
        self._birth_at_s = self._state_at_s = now_s
        if session.is_born and _has_camera(state):
            self._give_device_birth(session)

    def _give_device_birth(self, session: Session) -> None:
        record, now = self._flow.newest(), now_ms()
        at = now if record is None else time_of(record, now)
        values = device_values(record)
        session.has_device = session.send(
            "DBIRTH", lambda seq: payload.device_birth(values, seq, now, at)
        )

    def _tell_state(self, session: Session) -> None:
        """NDATA with what has changed; DDEATH and DBIRTH as the camera goes and comes."""
        now_s = time.monotonic()
        if now_s - self._state_at_s < (STATE_PAUSE_S if self._is_dirty else STATE_S):
            return
        self._is_dirty, self._state_at_s = False, now_s
        state, now = self._state(), now_ms()
        values = node_values(state, self._names, self.commands_ignored)
        changed = {one: value for one, value in values.items() if session.told[one] != value}
        if session.has_device and not _has_camera(state):
            session.has_device = not session.send(
                "DDEATH", lambda seq: payload.device_death(seq, now)
            )
        if not session.has_device and _has_camera(state):
            self._give_device_birth(session)
        if changed and session.send("NDATA", lambda seq: payload.data(changed, seq, now, now)):
            session.told = values

    def _leave(self, session: Session) -> None:
        """The primary host has gone: NDEATH, and another session as soon as it is back."""
        self._die(session)
        self._link.restart(session.connection, Cause("host", self._host_problem(), is_told=True))

    def _die(self, session: Session) -> None:
        """NDEATH, waited for: what follows it may overtake it."""
        session.is_born = session.has_device = False
        connection = session.connection
        mid = connection.publish(self._new_will(session.bdseq))
        end_s = time.monotonic() + DEATH_S
        while mid is not None and connection.is_up and time.monotonic() < end_s:
            if mid in connection.take_answers():
                return
            self._wake.wait(0.05)
            self._wake.clear()

    def _host_problem(self) -> str:
        return (
            f"the primary host application {self._host.host_id} is not online: start it, or check"
            " primary_host in [sparkplug]. Records wait in the outbox"
        )

    def _set_problem(self) -> None:
        session = self._session
        found: str | None = self._link.problem or NOT_CONNECTED
        if session is not None:
            self._log_problem(session)
            found = session.connection.refused or self._session_problem(session)
            found = found or self._link.problem
        found = None if found is None else _in_section(found, self._section)
        if found != self.record_problem:
            self.record_problem = found
            self._changed()

    def _session_problem(self, session: Session) -> str | None:
        """Why records wait though there is a connection."""
        if not self._host.is_online:
            return self._host_problem()
        return session.misfit or self._flow.problem

    def _log_problem(self, session: Session) -> None:
        """At its begin and end; STATE may come a moment after the connection."""
        problem, up_at_s = self._session_problem(session), session.connection.up_at_s or 0.0
        if problem is None:
            self._waits.ended()
        elif self._host.is_online or time.monotonic() - up_at_s > HOST_S:
            self._waits.happened(f"{NAME}: {problem}")


def _has_camera(state: StationState) -> bool:
    """Whether frames come, without which there are no parts: the device is there."""
    return state.details is None or state.details.camera_problem is None


class _SectionTrouble(Trouble):
    """Logs sentences about a broker that station.toml names in this section."""

    def __init__(self, section: str, mended: str) -> None:
        super().__init__(log, mended)
        self._section = section

    def happened(self, sentence: str, who: str = "", cause: str = "") -> None:
        """As Trouble's."""
        super().happened(f"{NAME}: {_in_section(sentence, self._section)}", who, cause)


def _in_section(sentence: str, section: str) -> str:
    """A sentence about the broker of [broker] as one about that of another section, with the topics
    of Sparkplug.
    """
    own = sentence.replace("heartbeat, verdict, verdict/code, record and state", "spBv1.0/#")
    if own.startswith("broker."):
        own = own.replace("broker.", f"{section}.", 1)
    return own.replace("[broker]", f"[{section}]")


def broker_of(config: EdgeConfig, root: Path) -> tuple[BrokerConfig, str]:
    """The broker that [sparkplug] names, or else that of [broker], and the name of the section."""
    own = config.sparkplug
    found, section = (own, NAME) if own.host else (config.broker, "broker")
    return with_paths_below(found, root), section


def topics_of(config: EdgeConfig) -> NodeTopics:
    """Of this station. A name that [sparkplug] leaves out comes from [station]."""
    names, own = config.station, config.sparkplug
    node = own.node or f"{names.line}:{names.station}"
    return NodeTopics(own.group or names.site, node, own.device)


def new_sparkplug_line(setup: LineSetup) -> SparkplugLine:
    """For edge.line.factory.

    Raises: ConfigError if a file that station.toml names for it cannot be used; MissingDependency
        without protobuf.
    """
    names = setup.config.station
    broker, section = broker_of(setup.config, setup.root)
    try:
        check_credentials(broker, section)
        return SparkplugLine(
            broker,
            client_id(f"edge/{names.site}/{names.line}/{names.station}", NAME),
            topics_of(setup.config),
            {
                "Properties/Site": names.site,
                "Properties/Line": names.line,
                "Properties/Station": names.station,
            },
            setup.config.sparkplug.primary_host,
            setup.outbox,
            setup.state,
            setup.changed,
            section,
        )
    except ConfigError as error:
        raise ConfigError(_in_section(str(error), section)) from error
