"""A plugin of pytest: the number of cuts of each act, at the end of every run that made some."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cuts.cuts import Cut, Recording

CUTS = "cuts"


def counted_cuts(
    recording: Recording, act: str, record_property: Callable[[str, object], None]
) -> list[Cut]:
    """The distinct cuts of an act, counted for the end of the run."""
    count, cuts = recording.distinct()
    record_property(
        CUTS, f"{act}: {len(recording.calls)} calls, {count} cuts, {len(cuts)} different roots"
    )
    return cuts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    lines = [
        value
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == CUTS
    ]
    if lines:
        terminalreporter.section("SIGKILL and power cuts")
        for line in sorted(lines):
            terminalreporter.line(line)
