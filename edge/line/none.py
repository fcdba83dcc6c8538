"""The line of a station without a broker: verdicts and records are stored on its disk only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.line.base import LineCounters, LineSetup


class NoLine:
    """Tells nobody, and has no problem with it. See edge.line.base.Line."""

    is_connected = False
    verdict_problem: str | None = None
    record_problem: str | None = None
    problem: str | None = None
    heartbeats = 0
    backlog = 0

    def __init__(self) -> None:
        """All counters stay 0: nothing was to be sent."""
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
        """False: nobody listens."""
        return False

    def records_waiting(self) -> None:
        """They stay in the outbox."""

    def state_changed(self) -> None:
        """Nobody asks."""

    def stop(self) -> None:
        """There is nobody to tell."""


def make_no_line(setup: LineSetup) -> NoLine:  # noqa: ARG001  # as of every dialect
    """For edge.line.factory."""
    return NoLine()
