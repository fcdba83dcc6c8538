"""Outliers among normal scores: a defective part, a damaged file, or a rare variant.

The highest of n normal scores sets the threshold where n is small, so a single defective part among
them decides which later parts are accepted. Scores are compared as logarithms, in which their usual
right skew becomes about even.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_PARTS = 8  # with fewer parts the spread of normal scores is not known
# share of the parts: a larger group apart is a second kind of normal part, not outliers
MOST_SHARE = 0.1
CHANCE = 0.05  # of such a high score among n parts whose logarithms spread like the rest's
GAP = 0.6  # to the next score, as a share of the next score's own distance from the median
LEAST = 1e-3  # smaller shares of the median count as this share: a logarithm needs a floor


def find_outliers(scores: Sequence[float] | NDArray[Any]) -> list[int]:
    """Indices of the scores that a gap separates from the rest, highest first; empty without a gap.

    The m highest scores are outliers on two conditions. The lowest of them exceeds what the highest
    of n scores would reach with probability CHANCE, given median and spread of the others. And the
    gap below it is at least GAP times the distance of the next score from the median: the gaps of a
    long tail are large too, but small against its length.

    Args:
        scores: one score per normal part, in any order, finite, not negative.
    """
    values = np.asarray(scores, np.float64)
    n = len(values)
    if n < LEAST_PARTS:
        return []
    order = np.argsort(-values, kind="stable")
    floor = max(float(np.median(values)), np.finfo(np.float32).tiny) * LEAST
    logs = np.log(np.maximum(values[order], floor))
    last = max(
        (m for m in range(1, max(1, int(MOST_SHARE * n)) + 1) if _stands_apart(logs, m)), default=0
    )
    return [int(index) for index in order[:last]]


def _stands_apart(logs: NDArray[np.float64], m: int) -> bool:
    """Whether the first m of n falling logarithms lie above a gap that the others do not
    explain.
    """
    rest = logs[m:]
    low, middle, high = (float(np.quantile(rest, share)) for share in (0.16, 0.5, 0.84))
    # with few parts the spread is underestimated
    spread = max(high - middle, (high - low) / 2) * (1 + 4 / len(rest))
    distance, next_distance = float(logs[m - 1]) - middle, float(rest[0]) - middle
    if distance <= 0 or distance - next_distance < GAP * next_distance:
        return False
    return spread <= 0 or len(logs) * (1 - NormalDist().cdf(distance / spread)) < CHANCE
