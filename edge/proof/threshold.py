"""A threshold from n normal parts and its guarantee about false rejects, by order statistics
without an assumption about the distribution.

The threshold is the r-th largest of the n scores of the same engine that judges with it. The parts
must be exchangeable with later ones, and each counts once, however many frames show it. A later
normal part then scores above the threshold with probability r / (n + 1) on average over such draws
(split conformal prediction; Bates et al., arXiv 2104.08279). The rate of one given threshold is
distributed as Beta(r, n + 1 - r), whose 95 % quantile is the bound (for r = 1 Wilks' tolerance
limit, 1941: 1 - 0.05^(1/n)).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from edge.errors import CalibrationError, ConfigError
from edge.schema import Strict

if TYPE_CHECKING:  # the page's process reads thresholds, and needs no arrays
    from numpy.typing import NDArray

CONFIDENCE = 0.95
DEFAULT_FALSE_REJECTS = 0.05
MOST_FALSE_REJECTS = 0.5  # nobody means a station that rejects every other normal part
TABLE_RATES = 0.2  # operating points are listed up to this expected rate of false rejects
TABLE_RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


class Threshold(Strict):
    """A threshold and its guarantee. A score greater than `value` is NG."""

    value: float  # a float32, exactly
    rank: int = Field(ge=1)  # r: the r-th largest of the scores
    parts: int = Field(ge=1)  # n normal parts, without those left out
    left_out: int = Field(default=0, ge=0)  # m parts that the user excluded as not normal
    false_rejects: float = Field(gt=0, le=MOST_FALSE_REJECTS)  # the rate that the user asked for
    expected: float = Field(ge=0, le=1)  # rate of rejected normal parts on average: r / (n + 1)
    bound: float = Field(ge=0, le=1)  # ... and at most, with this confidence
    confidence: float = Field(gt=0, lt=1)
    guarantee: str  # the same in a sentence


def parse_rate(text: str, option: str = "--false-rejects") -> float:
    """A rate of false rejects as a user writes it: `5%`, `0.5 %` or `0.05`.

    Returns: 0..1. Raises: ConfigError for anything else, such as 5, which could mean 5 % or 500 %.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*", text)
    rate = float(match[1]) / (100 if match[2] else 1) if match else math.nan
    if not 0 < rate <= MOST_FALSE_REJECTS:
        raise ConfigError(
            f"{option} {text}: write a rate above 0 and at most {MOST_FALSE_REJECTS:.0%}, such as"
            " 5% or 0.05"
        )
    return rate


def rank_for(parts: int, false_rejects: float) -> int:
    """r = max(1, floor(rate (n + 1))): the largest rank whose expected rate r / (n + 1) does not
    exceed the rate, at least 1.

    Raises: CalibrationError without a part, ConfigError for a rate outside (0, MOST_FALSE_REJECTS].
    """
    if parts < 1:
        raise CalibrationError("a threshold needs the score of at least one normal part")
    if not 0 < false_rejects <= MOST_FALSE_REJECTS:
        raise ConfigError(
            f"a rate of false rejects lies above 0 and at most {MOST_FALSE_REJECTS:.0%}, "
            f"not at {false_rejects:g}"
        )
    # 0.29 x 100 is 28.999999999999996
    return max(1, math.floor(false_rejects * (parts + 1) + 1e-9))


def expected_rate(parts: int, rank: int = 1) -> float:
    """The rate of rejected normal parts on average over draws of the n parts: r / (n + 1)."""
    _check_rank(parts, rank)
    return rank / (parts + 1)


def rate_bound(parts: int, rank: int = 1, confidence: float = CONFIDENCE) -> float:
    """The rate that the r-th largest of n scores does not exceed with this confidence: the quantile
    of Beta(r, n + 1 - r).

    P(rate <= p) = P(Binomial(n, p) >= r), so that bisection of a finite sum finds it without a
    special function.
    Raises: CalibrationError if the rank is not in 1..n, or the confidence not in (0, 1).
    """
    _check_rank(parts, rank)
    if not 0.0 < confidence < 1.0:
        raise CalibrationError(f"a confidence lies between 0 and 1, not at {confidence:g}")
    ways = _log_ways(parts, rank)  # of i < r
    low, high = 0.0, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        taken, left = math.log(rate), math.log1p(-rate)
        too_few = math.fsum(
            math.exp(way + i * taken + (parts - i) * left) for i, way in enumerate(ways)
        )
        low, high = (rate, high) if 1.0 - too_few < confidence else (low, rate)
    return high


def parts_needed(rate: float, rank: int = 1, confidence: float = CONFIDENCE) -> int:
    """The fewest normal parts whose r-th largest score guarantees `rate` with `confidence`: 59 for
    5 % and r = 1.

    Raises: CalibrationError if the rate is not in (0, 1): no finite number guarantees 0.
    """
    if not 0.0 < rate < 1.0:
        raise CalibrationError(
            f"no number of parts promises a false-reject rate of {rate:g}: it lies between 0 and 1"
        )
    low, high = rank - 1, max(rank, 1)
    while rate_bound(high, rank, confidence) > rate:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rate_bound(middle, rank, confidence) > rate else (low, middle)
    return high


def threshold_at(
    scores: Sequence[float] | NDArray[Any],
    rank: int,
    false_rejects: float,
    parts: int | None = None,
    left_out: int = 0,
) -> Threshold:
    """The threshold at the r-th largest score, as float32, with its guarantee.

    Args:
        scores: one raw score per normal part, none of them trained on; at least the r highest of
            them.
        false_rejects: the rate that was asked for.
        parts: n, where `scores` are only the highest of them; None: all are given.
        left_out: m parts that the user left out.
    Raises: CalibrationError for no or non-finite scores, or a rank beyond them.
    """
    import numpy as np

    values = np.sort(np.asarray(scores, np.float32))[::-1]
    if not np.isfinite(values).all():
        raise CalibrationError(
            "a normal part's score is not finite: no threshold can be set from it"
        )
    n = len(values) if parts is None else parts
    _check_rank(min(n, len(values)), rank)
    expected, bound = expected_rate(n, rank), rate_bound(n, rank)
    return Threshold(
        value=float(values[rank - 1]),
        rank=rank,
        parts=n,
        left_out=left_out,
        false_rejects=false_rejects,
        expected=expected,
        bound=bound,
        confidence=CONFIDENCE,
        guarantee=guarantee_sentence(n, rank, false_rejects, left_out),
    )


def threshold_from_normals(
    scores: Sequence[float] | NDArray[Any],
    false_rejects: float = DEFAULT_FALSE_REJECTS,
    left_out: int = 0,
) -> Threshold:
    """The threshold for a rate of false rejects, as far as this number of parts allows.

    Args and errors: as of threshold_at and rank_for.
    """
    return threshold_at(
        scores, rank_for(len(scores), false_rejects), false_rejects, left_out=left_out
    )


def operating_ranks(parts: int, chosen: int) -> list[int]:
    """The ranks in a table of operating points: the first four, more up to TABLE_RATES, and the
    chosen one.
    """
    possible = [rank for rank in TABLE_RANKS if rank <= parts]
    return sorted(
        {rank for rank in possible if rank <= 4 or expected_rate(parts, rank) <= TABLE_RATES}
        | {chosen}
    )


def guarantee_sentence(parts: int, rank: int, false_rejects: float, left_out: int = 0) -> str:
    """The guarantee of the r-th largest of n normal scores in a sentence, for terminal, manifest,
    report and record.
    """
    expected, bound = expected_rate(parts, rank), rate_bound(parts, rank)
    counted = "1 normal part" if parts == 1 else f"{parts} normal parts"
    place = "highest" if rank == 1 else f"{ordinal(rank)} highest"
    sentence = (
        f"With {CONFIDENCE:.0%} confidence at most {bound:.1%} of normal parts are rejected,"
        f" {expected:.1%} on average ({place} of {counted}"
    )
    if bound > false_rejects and parts < parts_needed(false_rejects):
        sentence += f"; {parts_needed(false_rejects)} would give {percent_of(false_rejects)}"
    sentence += ")"
    if left_out:  # all of them above the threshold
        rate = (rank + left_out) / (parts + left_out + 1)
        sentence += f"; {rate:.1%} on average if the {left_out} left out were normal"
    return sentence


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 22nd."""
    tail = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{tail}"


def percent_of(rate: float) -> str:
    """A rate as a user writes it: 5%, 0.5%."""
    return f"{100 * rate:.3g}%"


def _check_rank(parts: int, rank: int) -> None:
    if parts < 1:
        raise CalibrationError("a threshold needs the score of at least one normal part")
    if not 1 <= rank <= parts:
        raise CalibrationError(
            f"the {ordinal(rank)} largest of {parts} normal scores does not exist"
        )


def _log_ways(parts: int, rank: int) -> list[float]:
    """log of n over i for i = 0 .. r - 1."""
    return [
        math.lgamma(parts + 1) - math.lgamma(i + 1) - math.lgamma(parts - i + 1)
        for i in range(rank)
    ]
