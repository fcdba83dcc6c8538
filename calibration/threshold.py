"""What n normal parts can promise about false rejects: order statistics, no distribution assumed. Pure arithmetic.

The parts must be like those to come (exchangeable): counted as parts, never as frames of the same part. With the
threshold at the largest of n scores, a later normal part is rejected with probability at most 1 / (n + 1) on average
over such draws (split conformal; Bates et al., arXiv 2104.08279), and the rate of the threshold at hand is distributed
as Beta(1, n), so that it is at most 1 - (1 - confidence)^(1/n) with that confidence (Wilks' tolerance limit, 1941).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge.errors import CalibrationError


@dataclass(frozen=True)
class ThresholdGuarantee:
    """A threshold and what it promises. value: float32 exactly; a score greater than it is NG."""

    value: float
    parts: int
    false_reject_rate: float
    confidence: float
    guarantee: str


def false_reject_rate(parts: int, confidence: float = 0.95) -> float:
    """The rate of rejected normal parts that the largest of `parts` normal scores keeps, with this confidence.

    Solves 1 - (1 - rate)^parts = confidence. Raises: CalibrationError if parts < 1 or the confidence is not in (0, 1).
    """
    if parts < 1:
        raise CalibrationError("a threshold needs the score of at least one normal part")
    if not 0.0 < confidence < 1.0:
        raise CalibrationError(f"a confidence lies between 0 and 1, not at {confidence:g}")
    return -math.expm1(math.log1p(-confidence) / parts)


def mean_false_reject_rate(parts: int) -> float:
    """The same rate on average, without a confidence: 1 / (parts + 1)."""
    if parts < 1:
        raise CalibrationError("a threshold needs the score of at least one normal part")
    return 1.0 / (parts + 1)


def parts_needed(rate: float, confidence: float = 0.95) -> int:
    """The fewest normal parts whose largest score promises `rate` with `confidence`: 59 for 5 %, 299 for 1 %.

    Raises: CalibrationError if the rate is not in (0, 1): nothing finite promises 0.
    """
    if not 0.0 < rate < 1.0:
        raise CalibrationError(f"no number of parts promises a false-reject rate of {rate:g}: it lies between 0 and 1")
    if not 0.0 < confidence < 1.0:
        raise CalibrationError(f"a confidence lies between 0 and 1, not at {confidence:g}")
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-9)


def require_promise(parts: int, rate: float, confidence: float = 0.95) -> None:
    """Refuse a promise that this many parts cannot give.

    Raises: CalibrationError saying what they can give, and how many parts the promise takes.
    """
    needed = parts_needed(rate, confidence)
    if parts < needed:
        raise CalibrationError(
            f"{parts} normal parts cannot promise a false-reject rate of {rate:.3%} with {confidence:.0%} confidence: "
            f"they promise {false_reject_rate(parts, confidence):.1%}. Show {needed} parts, or accept that rate"
        )


def threshold_from_normals(
    scores: Sequence[float], confidence: float = 0.95, promised_rate: float | None = None
) -> ThresholdGuarantee:
    """The threshold at the largest normal score, as float32, and its guarantee in one sentence.

    Args:
        scores: one raw score per normal part, not used in training.
        confidence: of the guarantee.
        promised_rate: a false-reject rate that somebody asks for, if any.
    Raises: CalibrationError for no or non-finite scores, or a promise that they cannot give.
    """
    values = np.asarray(scores, np.float32)
    if not np.isfinite(values).all():
        raise CalibrationError("a normal part's score is not finite: no threshold can be set from it")
    rate = false_reject_rate(len(values), confidence)
    if promised_rate is not None:
        require_promise(len(values), promised_rate, confidence)
    sentence = guarantee_sentence(len(values), confidence)
    return ThresholdGuarantee(float(values.max()), len(values), rate, confidence, sentence)


def guarantee_sentence(parts: int, confidence: float = 0.95) -> str:
    """What the largest of `parts` normal scores promises, for manifest, report and page."""
    counted = "1 part" if parts == 1 else f"{parts} parts"
    rate = false_reject_rate(parts, confidence)
    return (
        f"no more than {100 * rate:.1f} % of normal parts rejected, "
        f"with {100 * confidence:.0f} % confidence, from {counted}"
    )
