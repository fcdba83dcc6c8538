"""What every line dialect offers to a running station: the protocol `Line`, and what a
dialect is made from.

A dialect is one file that implements it (edge/line/mqtt.py; edge/line/quiet.py has what most of
them need not say) and one entry in edge/line/factory.py. The station calls these methods from
several threads, so a dialect is thread-safe, and no method waits for the network unless its
docstring says how long. A station that speaks several of them has edge.line.several.SeveralLines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from edge.config import EdgeConfig
from edge.line.commands import CommandAnswer, Commanded
from edge.line.inbound import Ack, Asked, Reply
from edge.line.message import StationState
from edge.line.outbox import Outbox


@dataclass
class LineCounters:
    """What a line has done since the start."""

    verdicts_sent: int = 0  # that came back: the broker delivers them
    verdicts_unsent: int = 0  # not sent, or did not come back: the PLC's timer rejected the part
    records_sent: int = 0  # that were acknowledged
    triggers_refused: int = 0  # each was told
    triggers_ignored: int = 0  # retained, expired, or more at once than can be answered
    verdicts_overrun: int = 0  # not acknowledged by a PLC that acknowledges


@runtime_checkable
class Line(Protocol):
    """Where verdicts, records and the state of one station go."""

    @property
    def counters(self) -> LineCounters:
        """What it has done since the start."""
        ...

    @property
    def tells_plc(self) -> bool:
        """Whether a PLC takes its verdicts from it: then its `verdict_problem` counts."""
        ...

    @property
    def is_connected(self) -> bool:
        """Whether the receiver of the verdicts is connected now."""
        ...

    @property
    def verdict_problem(self) -> str | None:
        """Why no verdict would reach the PLC now, in a sentence with the remedy; None if one would,
        or if there is nobody to send it to.
        """
        ...

    @property
    def record_problem(self) -> str | None:
        """Why records wait or the state is not published, in a sentence with the remedy; None if
        nothing is wrong.
        """
        ...

    @property
    def problem(self) -> str | None:
        """`verdict_problem` or, where there is none, `record_problem`."""
        ...

    @property
    def heartbeats(self) -> int:
        """How many heartbeats were sent since the start; 0 for a dialect without them."""
        ...

    @property
    def backlog(self) -> int:
        """How many records of the outbox this line has still to deliver; 0 where nobody takes any.

        Read from memory, so that it may be asked every few milliseconds.
        """
        ...

    def start(self) -> None:
        """Begin to connect, in the background, and to send what an earlier run has left.

        Called once, before any other method but the properties.
        """
        ...

    def wait_connected(self, timeout_s: float) -> bool:
        """Wait until every receiver is connected; False if that took longer than timeout_s.

        True at once where there is nobody to connect to.
        """
        ...

    def publish_verdict(self, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        """Tell the PLC the verdict on one part, at once or not at all; returns whether it left.

        A verdict that cannot leave now is never queued: the PLC's timer rejects the part.

        Args:
            fields: of a record that is committed: edge.line.message.record_fields.
            deadline_mono_ns: host monotonic clock; from then on the PLC has rejected the part.
        """
        ...

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """Tell the PLC at once whether its trigger is accepted. Does not wait."""
        ...

    def answer(
        self, fields: Mapping[str, Any], deadline_mono_ns: int, completed_mono_ns: int, reply: Reply
    ) -> bool:
        """As publish_verdict, for a part that was triggered.

        completed_mono_ns: capture of its last frame; the trigger's arrival, where it has none.
        """
        ...

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        """Tell the sender of a command what became of it. Does not wait."""
        ...

    def records_waiting(self) -> None:
        """The outbox has a new record. Only wakes the thread that sends records."""
        ...

    def state_changed(self) -> None:
        """The state has changed: publish it now and not only at its next turn. Does not wait."""
        ...

    def stop(self) -> None:
        """Publish that the station is offline and disconnect, within a second or two.

        Records that were not delivered stay in the outbox for the next run.
        """
        ...


@dataclass(frozen=True)
class LineSetup:
    """What a dialect is made from. The functions belong to the running station: any thread may call
    them, at any time after `Line.start`.

    root: of the station; relative paths in `config` begin there.
    state: the present state of the station.
    is_ready: whether a part would be judged now and its verdict published, for the heartbeat.
    changed: to be called when `verdict_problem` or `record_problem` has changed.
    triggered: to be called, in a thread that must not wait, with each trigger; None in free run.
    commanded: the same with each command; None where the station takes none. Both get the dialect's
    own name in `reply.dialect`, by which the answer finds it.
    """

    config: EdgeConfig
    root: Path
    outbox: Outbox
    state: Callable[[], StationState]
    is_ready: Callable[[], bool]
    changed: Callable[[], None]
    triggered: Callable[[Asked], None] | None = None
    commanded: Callable[[Commanded], None] | None = None
