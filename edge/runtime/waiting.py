"""Where a station waits for its line: before a finite play, and after its last frame."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.line.base import Line

PASS_S = 0.1
LINE_S = 5.0  # for the broker, where it is waited for
DRAIN_S = 30.0  # for the broker to take the records, at the end of a finite source


def wait_for_line(line: Line, is_asked_to_stop: Callable[[], bool]) -> None:
    """Until every receiver is connected, or it takes too long."""
    end_s = time.monotonic() + LINE_S
    while time.monotonic() < end_s and not is_asked_to_stop():
        if line.wait_connected(PASS_S):
            return


def deliver_records(line: Line, is_asked_to_stop: Callable[[], bool]) -> None:
    """The source has ended: let the line deliver the records, unless it is away or the station is
    asked to stop.
    """
    line.state_changed()  # the last counters
    takes_records = line.is_connected and line.record_problem is None
    end_s = time.monotonic() + (DRAIN_S if takes_records else LINE_S)
    while line.backlog and time.monotonic() < end_s and not is_asked_to_stop():
        time.sleep(0.02)
