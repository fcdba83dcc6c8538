"""The line of a station without any: verdicts and records are stored on its disk only."""

from __future__ import annotations

from edge.line.base import LineSetup
from edge.line.quiet import QuietLine


class NoLine(QuietLine):
    """Sends nothing and never has a problem. See edge.line.base.Line."""


def make_no_line(setup: LineSetup) -> NoLine:  # noqa: ARG001  # as of every dialect
    """For edge.line.factory."""
    return NoLine()
