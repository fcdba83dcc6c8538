"""What a dialect answers where it has nothing of its own to say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.line.base import LineCounters
from edge.line.commands import CommandAnswer
from edge.line.inbound import Ack, Reply


class QuietLine:
    """Sends nothing, hears nothing and never has a problem: the base of the dialects that need only
    a part of edge.line.base.Line.
    """

    tells_plc = False
    is_connected = False
    verdict_problem: str | None = None
    record_problem: str | None = None
    problem: str | None = None
    heartbeats = 0
    backlog = 0

    def __init__(self) -> None:
        """Its counters are 0."""
        self.counters = LineCounters()

    def start(self) -> None:
        """There is nothing to connect to."""

    def wait_connected(self, timeout_s: float) -> bool:  # noqa: ARG002  # Line's signature
        """True at once."""
        return True

    def publish_verdict(
        self,
        fields: Mapping[str, Any],  # noqa: ARG002  # Line's signature
        deadline_mono_ns: int,  # noqa: ARG002
    ) -> bool:
        """False: there is nobody to send it to."""
        return False

    def answer(
        self,
        fields: Mapping[str, Any],
        deadline_mono_ns: int,
        completed_mono_ns: int,  # noqa: ARG002  # Line's signature
        reply: Reply,  # noqa: ARG002
    ) -> bool:
        """As any other verdict."""
        return self.publish_verdict(fields, deadline_mono_ns)

    def acknowledge(self, ack: Ack, reply: Reply) -> None:
        """Nobody has asked."""

    def answer_command(self, answer: CommandAnswer, reply: Reply) -> None:
        """Nobody has commanded."""

    def records_waiting(self) -> None:
        """They stay in the outbox."""

    def state_changed(self) -> None:
        """There is nobody to publish it to."""

    def stop(self) -> None:
        """There is nothing to disconnect from."""
