"""The line of a station without a broker: verdicts and records are stored on its disk only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.line.base import LineCounters, LineSetup


class NoLine:
    """Sends nothing and never has a problem. See edge.line.base.Line."""

    is_connected = False
    verdict_problem: str | None = None
    record_problem: str | None = None
    problem: str | None = None
    heartbeats = 0
    backlog = 0

    def __init__(self) -> None:
        """Its counters stay 0: there is nobody to send to."""
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

    def records_waiting(self) -> None:
        """They stay in the outbox."""

    def state_changed(self) -> None:
        """There is nobody to publish it to."""

    def stop(self) -> None:
        """There is nothing to disconnect from."""


def make_no_line(setup: LineSetup) -> NoLine:  # noqa: ARG001  # as of every dialect
    """For edge.line.factory."""
    return NoLine()
