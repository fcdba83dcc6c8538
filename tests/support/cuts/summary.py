"""A plugin of pytest: the number of cuts of each act, at the end of every run that made some."""

from __future__ import annotations

import pytest

CUTS = "cuts"


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
