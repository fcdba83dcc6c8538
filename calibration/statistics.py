"""What counts of parts say about rates: exact, for parts that are exchangeable with later ones.

The rate at which the r-th largest of n scores rejects later parts is distributed as
Beta(r, n + 1 - r) (edge/proof/threshold.py), so the number that it rejects among the next m is
beta-binomial. Counts of independent parts have the bounds of Clopper and Pearson (Biometrika 26,
1934), which are quantiles of Beta too.

No library but `math`: the regularized incomplete beta function is Legendre's continued fraction,
evaluated as Lentz does it (NIST Digital Library of Mathematical Functions, 8.17.22 and 3.10(iii)).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from edge.proof.threshold import CONFIDENCE, parts_needed, rate_bound

MOST_PROBABLE = 0.9  # of the number of false rejects that is stated beside the expected one
STEPS = 100_000  # of the continued fraction, which takes about sqrt(a + b) of them
BISECTIONS = 200
TINY = 1e-300


class FalseRejects(NamedTuple):
    """Among the next parts. expected: on average. upper: not more with a probability of 90 %."""

    expected: float
    upper: int


def proven_rate(parts: int, rank: int = 1, confidence: float = CONFIDENCE) -> float:
    """The rate of false rejects that the r-th largest of n scores proves: it is not exceeded with
    this confidence.

    Raises: CalibrationError if the rank is not in 1..n.
    """
    return rate_bound(parts, rank, confidence)


def parts_to_prove(rate: float, rank: int = 1, confidence: float = CONFIDENCE) -> int:
    """The fewest parts whose r-th largest score proves this rate: 59 for 5 % and r = 1.

    Raises: CalibrationError if the rate is not in (0, 1).
    """
    return parts_needed(rate, rank, confidence)


def false_rejects_among(next_parts: int, parts: int, rank: int = 1) -> FalseRejects:
    """How many of the next parts lie above the r-th largest of n scores."""
    a, b = rank, parts + 1 - rank
    upper = beta_binomial_quantile(MOST_PROBABLE, next_parts, a, b)
    return FalseRejects(next_parts * a / (a + b), upper)


def rate_after(rejected: int, parts: int, confidence: float = CONFIDENCE) -> float:
    """The upper bound of a rate of which `rejected` of `parts` were seen: 4.95 % for 0 of 59.

    Only for parts that were chosen without looking at their verdicts.
    """
    if rejected >= parts:
        return 1.0
    return beta_quantile(confidence, rejected + 1, parts - rejected)


def detection_rate(caught: int, shown: int, confidence: float = CONFIDENCE) -> float:
    """The lower bound of the rate of detection of which `caught` of `shown` were seen:
    0.05^(1/k) for k of k.
    """
    if caught <= 0:
        return 0.0
    return beta_quantile(1.0 - confidence, caught, shown - caught + 1)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function: P(X <= x) for X of Beta(a, b), a and b above 0."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(x, a, b) / a
    return 1.0 - front * _fraction(1.0 - x, b, a) / b


def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x at which beta_cdf(x, a, b) reaches `probability`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        x = (low + high) / 2
        if x in (low, high):
            break
        low, high = (x, high) if beta_cdf(x, a, b) < probability else (low, x)
    return high


def f_quantile(probability: float, of: int, to: int) -> float:
    """The quantile of the ratio of two variances with `of` and `to` degrees of freedom (F)."""
    y = beta_quantile(probability, of / 2, to / 2)
    return math.inf if y >= 1.0 else to * y / (of * (1.0 - y))


def beta_binomial_cdf(count: int, draws: int, a: float, b: float) -> float:
    """P(at most `count` of `draws`), each with a rate that is drawn once from Beta(a, b)."""
    terms = (_beta_binomial(i, draws, a, b) for i in range(min(count, draws) + 1))
    return min(1.0, math.fsum(terms))


def beta_binomial_quantile(probability: float, draws: int, a: float, b: float) -> int:
    """The smallest count that is not exceeded with at least this probability."""
    total = 0.0
    for count in range(draws):
        total += _beta_binomial(count, draws, a, b)
        if total >= probability:
            return count
    return draws


def _beta_binomial(count: int, draws: int, a: float, b: float) -> float:
    ways = -math.log(draws + 1) - _log_beta(draws - count + 1, count + 1)
    return math.exp(ways + _log_beta(count + a, draws - count + b) - _log_beta(a, b))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function, for x below (a + 1) / (a + b + 2).

    Raises: ArithmeticError if it does not converge, which it does for such x.
    """
    numerator, denominator = 1.0, _apart_from_0(1.0 - (a + b) * x / (a + 1.0))
    denominator = 1.0 / denominator
    value = denominator
    for m in range(1, STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for step in (even, odd):
            denominator = 1.0 / _apart_from_0(1.0 + step * denominator)
            numerator = _apart_from_0(1.0 + step / numerator)
            change = numerator * denominator
            value *= change
        if abs(change - 1.0) < 1e-15:
            return value
    raise ArithmeticError(f"the incomplete beta function of {x}, {a}, {b} does not converge")


def _apart_from_0(value: float) -> float:
    return value if abs(value) > TINY else TINY
