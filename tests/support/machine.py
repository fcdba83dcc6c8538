"""A machine whose clocks a test sets: the wall clock, whether it is synchronized, the time since
the boot, the boot.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from edge import clock

DAY_S = 86_400.0
NOW_S = 1_795_000_000.0  # November 2026


@dataclass
class Machine:
    wall_s: float = NOW_S
    synced: bool = True
    up_s: float = 100.0
    boot: str = "first"

    def run(self, seconds: float) -> None:
        """Time passes while it is on."""
        self.wall_s += seconds
        self.up_s += seconds

    def reboot(self, off_s: float, up_s: float = 20.0) -> None:
        """Time passes while it is off; then it is on for up_s before anything asks."""
        self.wall_s += off_s + up_s
        self.up_s, self.boot = up_s, self.boot + "+"


def set_clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """The body of a fixture: this process's clocks are the machine's, except the monotonic one."""
    machine = Machine()
    monkeypatch.setattr(time, "time", lambda: machine.wall_s)
    monkeypatch.setattr(clock, "is_clock_synced", lambda: machine.synced)
    monkeypatch.setattr(clock, "boot_time_s", lambda: machine.up_s)
    monkeypatch.setattr(clock, "read_boot_id", lambda: machine.boot)
    yield machine
