"""The line over MQTT: verdicts for the PLC at once or not at all, every record for the archive, and
the station's state.

Two clients, because the two audiences must not wait for each other: edge/line/verdicts.py and
edge/line/records.py, each on a link of its own that is kept connected by edge/line/link.py.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from edge.line.base import LineCounters, LineSetup
from edge.line.command_channel import CommandChannel
from edge.line.commands import CommandAnswer, Commanded
from edge.line.connection import Arrival, Ears, Message
from edge.line.credentials import with_paths_below
from edge.line.identity import TwinWatch, client_id
from edge.line.inbound import Ack, Asked, Reply
from edge.line.link import Link, LinkMaker
from edge.line.message import StationState, signed_state, state_message
from edge.line.outbox import Outbox
from edge.line.records import RecordChannel
from edge.line.results import ResultChannel
from edge.line.topics import Topics
from edge.line.triggers import TriggerChannel
from edge.line.verdicts import VerdictChannel
from edge.sections import BrokerConfig
from edge.trouble import Trouble

log = logging.getLogger(__name__)


class MqttLine:
    """Both clients of a station. See edge.line.base.Line."""

    tells_plc = True

    def __init__(
        self,
        broker: BrokerConfig,
        prefix: str,
        outbox: Outbox,
        state: Callable[[], bytes],
        offline: Callable[[str], bytes],
        deadline_s: float = 2.0,
        ready: Callable[[], bool] | None = None,
        changed: Callable[[], None] = lambda: None,
        triggered: Callable[[Asked], None] | None = None,
        period_ms: float = 1e3 / 30,
        commanded: Callable[[Commanded], None] | None = None,
    ) -> None:
        """Prepare; nothing is sent before start().

        Args:
            prefix: `edge/<site>/<line>/<station>`.
            state: the present state message. offline: the one for the last will and the goodbye,
                from its reason.
            deadline_s: of a part, from the capture of the frame that completed it.
            ready: what the heartbeat says; by default whether the verdict link works.
            changed: called when `verdict_problem` or `record_problem` has changed.
            triggered: is given each trigger that can be read, in the library's thread; None: the
                station hears none.
            period_ms: of the camera's frames.
            commanded: is given each command, in the library's thread; None: the station hears none.
        Raises: ConfigError if a file that [broker] names cannot be used.
        """
        self.counters = LineCounters()
        self._offline, self._outbox = offline, outbox
        self._ready, self._was_ready = ready or (lambda: self.verdict_problem is None), False
        topics = Topics(prefix)
        trouble = Trouble(log, f"broker {broker.host}:{broker.port}: connected again")
        will = Message(topics("state"), offline("connection lost"), retain=True, qos=1)

        run = secrets.token_hex(4)
        twins = TwinWatch(run, self._note_twin)

        ears = self._ears(topics, triggered is not None, commanded is not None)

        def new_link(
            role: str, will: Message | None, more: str, ears: Ears | None = None
        ) -> LinkMaker:
            name = client_id(prefix, role)
            return lambda echoed, wake: Link(
                broker, name, will, (*echoed, topics(more)), wake, twins.hear, trouble, ears
            )

        self._verdicts = VerdictChannel(
            new_link("verdict", None, "state", ears),
            topics,
            self.counters,
            deadline_s,
            run,
            self._is_ready,
            changed,
        )
        self._triggers = TriggerChannel(
            self._verdicts, topics, self.counters, period_ms, triggered or _take_none
        )
        is_authenticated = bool(broker.username or broker.cert_file)
        self._commands = CommandChannel(
            self._verdicts, topics, is_authenticated, commanded or _take_none
        )
        self._results = ResultChannel(self._verdicts, topics, self.counters)
        self._records = RecordChannel(
            new_link("record", will, "heartbeat"),
            topics,
            self.counters,
            outbox,
            lambda: signed_state(state(), run),
            changed,
            needs_echo=broker.protocol != "5",
        )

    def start(self) -> None:
        """Connect both clients and send what an earlier run has left."""
        self._verdicts.start()
        self._records.start()

    def publish_verdict(self, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        """`verdict` and `verdict/code`, once, if the link works and before the deadline; returns
        whether they left.

        Whether the broker delivered them is known later: `counters`, and `verdict_problem`.

        Args:
            fields: of a record that is committed.
            deadline_mono_ns: host monotonic clock; from then on the PLC has rejected the part.
        """
        return self._verdicts.publish(fields, deadline_mono_ns)

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """`trigger/ack`, and the same to the response topic. Does not wait."""
        self._triggers.acknowledge(ack, reply)

    def answer(
        self, fields: Mapping[str, Any], deadline_mono_ns: int, completed_mono_ns: int, reply: Reply
    ) -> bool:
        """As publish_verdict, for a triggered part; its verdict goes to the response topic, too."""
        self._results.note(fields, completed_mono_ns)
        return self._verdicts.publish(fields, deadline_mono_ns, completed_mono_ns, reply)

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        """`command/answer`, and the same to the response topic. Does not wait."""
        self._commands.answer(answer, reply)

    def records_waiting(self) -> None:
        """Tell the records' thread that the outbox has a new one."""
        self._records.records_waiting()

    def state_changed(self) -> None:
        """Publish the state now and not only at its next turn."""
        self._records.state_changed()

    @property
    def is_connected(self) -> bool:
        """Whether the verdict client is connected."""
        return self._verdicts.link.is_connected

    @property
    def verdict_problem(self) -> str | None:
        """Why no verdict would reach the PLC now, in a sentence with the remedy; None if one
        would.
        """
        return self._verdicts.problem

    @property
    def record_problem(self) -> str | None:
        """Why records wait or the state is not published; None if nothing is wrong."""
        return self._records.problem

    @property
    def problem(self) -> str | None:
        """The worse of both; None if nothing is wrong."""
        return self.verdict_problem or self.record_problem

    @property
    def heartbeats(self) -> int:
        """How many were sent: the counter that the heartbeat carries."""
        return self._verdicts.heartbeats

    @property
    def backlog(self) -> int:
        """Records that the broker has not acknowledged."""
        return self._outbox.counts()["waiting"]

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait for both clients; False if it took longer."""
        return self._verdicts.link.wait_connected(timeout_s) and self._records.link.wait_connected(
            timeout_s
        )

    def _note_twin(self) -> None:
        for channel in (self._verdicts, self._records):
            channel.link.note_twin()

    # The channels that hear are made after the link, which needs to know who hears.

    def _ears(self, topics: Topics, for_triggers: bool, for_commands: bool) -> Ears:
        triggers = {
            topics("trigger"): self._hear_trigger,
            topics("ack"): self._hear_ack,
            topics("last"): self._hear_last,
        }
        commands = {topics("command"): self._hear_command}
        return {**(triggers if for_triggers else {}), **(commands if for_commands else {})}

    def _hear_command(self, arrival: Arrival) -> None:
        self._commands.hear(arrival)

    def _hear_trigger(self, arrival: Arrival) -> None:
        self._triggers.hear(arrival)

    def _hear_ack(self, arrival: Arrival) -> None:
        self._results.hear_ack(arrival)

    def _hear_last(self, arrival: Arrival) -> None:
        self._results.hear_last(arrival)

    def _is_ready(self) -> bool:
        """Called for each heartbeat; if it has changed the state is published at once, so that both
        say the same.
        """
        ready = self._ready()
        if ready != self._was_ready:
            self._was_ready = ready
            self._records.state_changed()
        return ready

    def stop(self) -> None:
        """Publish that the station is offline and disconnect; unsent records stay in the outbox for
        the next run.
        """
        self._verdicts.stop()
        self._records.stop(self._offline("stopped"))
        links = self._verdicts.link, self._records.link
        for link in links:
            link.say_goodbye()
        for link in links:
            link.join(0.4)


def _take_none(_: Asked | Commanded) -> None:
    """In free run nothing is heard on `trigger`, and without [commands] nothing on `command`."""


def make_mqtt_line(setup: LineSetup) -> MqttLine:
    """For edge.line.factory: speaks to [broker], below the topic of the names in [station].

    Raises: ConfigError if a file that [broker] names cannot be used.
    """
    config, names = setup.config, setup.config.station
    if setup.commanded is not None and not (config.broker.username or config.broker.cert_file):
        log.warning(
            "commands over MQTT are refused: set username or cert_file in [broker], and let the"
            " broker's access list allow only the PLC to publish `command`"
        )
    return MqttLine(
        with_paths_below(config.broker, setup.root),
        f"edge/{names.site}/{names.line}/{names.station}",
        setup.outbox,
        state=lambda: state_message(setup.state()),
        offline=lambda why: state_message(StationState(names.station, "offline", why, ready=False)),
        deadline_s=config.decision.deadline_ms / 1e3,
        ready=setup.is_ready,
        changed=setup.changed,
        triggered=setup.triggered,
        period_ms=1e3 / config.camera.fps,
        commanded=setup.commanded,
    )
