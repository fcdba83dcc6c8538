"""The delay before another try."""

from __future__ import annotations

from edge.backoff import BACKOFF_LIMIT_S, backoff_s


def test_delays_are_random_under_a_capped_power() -> None:
    assert backoff_s(0, 1.0) == 0.25
    assert backoff_s(3, 0.5) == 1.0
    assert max(backoff_s(attempt, 1.0) for attempt in range(10_000)) == BACKOFF_LIMIT_S
