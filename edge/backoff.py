"""How long to wait before trying again: a broker that refuses, a camera that is lost."""

from __future__ import annotations

BACKOFF_S, BACKOFF_LIMIT_S = 0.25, 10.0


def backoff_s(attempt: int, chance: float, limit_s: float = BACKOFF_LIMIT_S) -> float:
    """Delay in seconds before reconnection `attempt` (0, 1, ...): a random share of a capped power
    of two.

    chance: the random number, 0..1.
    """
    return chance * min(limit_s, BACKOFF_S * 2.0 ** min(attempt, 30))
