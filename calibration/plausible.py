"""Whether the parts that were shown are normal parts of this product: by their scores beside those
of the trainer's normal parts. Pure.

Only what is too high or too wide is refused. Parts of one lot, on a station that knows their own
features, may well score lower and more alike than the trainer's. Their threshold is drawn towards
the trainer's scores (calibration/site_threshold.py), which is said (`are_lower`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.site_threshold import Shrunk, TrainerScores, shrunk_to
from calibration.statistics import beta_binomial_cdf, f_quantile

CHANCE = 0.001  # of normal parts of this product to be refused by one of the two tests
# times the highest of the trainer's scores, in deviations: so far off hardly any normal part lies,
# also where scores are as skewed as a lognormal distribution of 0.6
FAR = 2.5
LEAST_FAR = 4.0  # deviations: with few scores the highest says little
DEFECTIVE_SHARE = 0.2  # of the parts: a larger group apart is no exception among normal parts
MAD_TO_DEVIATION = 1.4826  # of a normal distribution
FLOOR = 1e-3  # share of the median score: a logarithm needs a floor


@dataclass(frozen=True)
class Implausible:
    """Why the scores are not those of normal parts.

    too_high: else they vary too much. ratio: of the medians, or of the deviations of their
    logarithms.
    """

    too_high: bool
    ratio: float


def find_implausible(
    scores: Sequence[float] | NDArray[Any], trainer: TrainerScores
) -> Implausible | None:
    """None for scores that normal parts may have.

    Two tests. The number of the trainer's n scores above the median of the k follows, for parts of
    one kind, the beta-binomial distribution of that order statistic, whatever the scores'
    distribution; where n or k is too small for that to say anything, the median is too high if it
    lies as far off as a defective part. The variances of the logarithms, in which the right skew of
    scores becomes about even, are compared by F.
    """
    values = np.sort(np.asarray(scores, np.float64))[::-1]
    k, n = len(values), len(trainer.scores)
    rank = (k + 1) // 2
    median = float(values[rank - 1])
    above = int((trainer.scores >= median).sum())
    chance = beta_binomial_cdf(above, n, rank, k + 1 - rank)
    if chance < CHANCE or median - trainer.mean > _far(trainer) * trainer.deviation > 0:
        return Implausible(True, median / max(float(np.median(trainer.scores)), 1e-12))
    if min(k, n) < 2:
        return None
    own, of_trainer = (_log_variance(one) for one in (values, trainer.scores))
    if 0 < of_trainer * f_quantile(1 - CHANCE, k - 1, n - 1) < own:
        return Implausible(False, float(np.sqrt(own / of_trainer)))
    return None


def are_lower(scores: Sequence[float] | NDArray[Any], trainer: TrainerScores) -> bool:
    """Whether the scores are lower, or more alike, than those of normal parts in training ever are:
    a threshold that is drawn towards the trainer's scores may then lie too high.
    """
    values = np.sort(np.asarray(scores, np.float64))
    k, n = len(values), len(trainer.scores)
    rank = (k + 1) // 2
    below = int((trainer.scores <= values[rank - 1]).sum())
    if beta_binomial_cdf(below, n, rank, k + 1 - rank) < CHANCE:
        return True
    if min(k, n) < 2:
        return False
    own, of_trainer = float(values.var(ddof=1)), trainer.deviation**2
    return own < of_trainer / f_quantile(1 - CHANCE, n - 1, k - 1)


def find_defective(scores: Sequence[float] | NDArray[Any], trainer: TrainerScores) -> list[int]:
    """Indices of parts that score far above all others, the furthest first: they look defective.

    Parts are compared with the median and the median deviation of all, drawn towards the trainer's
    location and scale, so that they cannot hide each other; far is FAR times as many deviations as
    the highest of the trainer's own. A group of more than DEFECTIVE_SHARE of the parts is none:
    then the parts are of two kinds, which is for `find_implausible`.
    """
    values = np.asarray(scores, np.float64)
    if len(values) < 2:
        return []
    site = _robust(values, trainer)
    distances = (values - site.location) / (site.scale or 1e-12)
    limit = _far(trainer)
    far = [int(number) for number in np.argsort(-distances) if distances[number] > limit]
    return far if len(far) <= max(1, int(DEFECTIVE_SHARE * len(values))) else []


def _far(trainer: TrainerScores) -> float:
    """Deviations above the location of normal parts beyond which hardly any of them lies."""
    return max(LEAST_FAR, FAR * float(trainer.standardized()[0]))


def _robust(scores: NDArray[np.float64], trainer: TrainerScores) -> Shrunk:
    median = float(np.median(scores))
    deviation = MAD_TO_DEVIATION * float(np.median(np.abs(scores - median)))
    return shrunk_to(len(scores), median, deviation**2, trainer)


def _log_variance(scores: NDArray[np.float64]) -> float:
    floor = max(float(np.median(scores)), np.finfo(np.float32).tiny) * FLOOR
    return float(np.log(np.maximum(scores, floor)).var(ddof=1))
