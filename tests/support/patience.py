"""How long tests wait.

A wait only ends a hang: nothing passes or fails because a machine is slow or busy.
"""

from __future__ import annotations

import time

# A loop, and how long it takes on a quiet two-core machine of 2024.
WORK_ROUNDS, WORK_S = 400_000, 0.02
HANG_S = 120.0  # an event that has not happened by then never will
PATIENCE = 12.0  # a busy machine may take this many times longer than a quiet one


def patience_s(quiet_s: float) -> float:
    """The longest wait for an event that takes up to `quiet_s` on a quiet machine."""
    return quiet_s * PATIENCE


def slowness() -> float:
    """How many times longer this machine takes now than a quiet one; at least 1.

    Takes 0.1 s on a quiet one.
    """
    started_s = time.monotonic()
    for _ in range(5):
        total = 0
        for number in range(WORK_ROUNDS):
            total += number
    return max(1.0, (time.monotonic() - started_s) / (5 * WORK_S))
