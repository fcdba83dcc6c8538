"""The threshold of a station from the scores of a few normal parts. Pure.

Two threshold candidates, of which the higher one judges.

- The r-th largest of the k scores, r = max(1, floor(rate (k + 1))). Whatever the distribution, it
  rejects a later part with probability r / (k + 1) on average: 1 in 11 for 10 parts, however small
  the rate that was asked for.
- The shrunk quantile. The tail's shape comes from the trainer's many scores, location and scale
  from the site's few, drawn towards the trainer's as far as few parts say little:

      m = w mean + (1 - w) mu0                          w = k / (k + 2)
      v = (8 s0^2 + (k - 1) s^2) / (8 + k - 1)
      quantile = m + sqrt(v) z sqrt(1 + 1 / (k + 2))    z = (q0 - mu0) / s0

  mu0, s0: mean and deviation of the trainer's n normal scores of the precision that judges. q0:
  their ceil((n + 1)(1 - rate))-th smallest, which is their r-th largest for n. It is the posterior
  predictive quantile of a normal-inverse-gamma model, with the trainer's own quantile in place of
  Student's; it reaches rates that no k scores could, and guarantees nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import CalibrationError
from edge.proof.threshold import rank_for

LOCATION_PARTS = 2.0  # k0: the trainer's location counts as much as this many parts
SPREAD_PARTS = 8.0  # nu0: and its scale as much as this many


@dataclass(frozen=True, eq=False)
class TrainerScores:
    """The normal scores of one precision in the manifest.

    scores: (n,) float64, falling. mean, deviation: mu0 and s0.
    """

    scores: NDArray[np.float64]
    mean: float
    deviation: float

    @classmethod
    def of(cls, scores: Sequence[float] | NDArray[Any]) -> TrainerScores:
        """scores: (n,), n at least 1, in any order."""
        values = np.sort(np.asarray(scores, np.float64))[::-1]
        deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        return cls(values, float(values.mean()), deviation)

    def standardized(self) -> NDArray[np.float64]:
        """(n,) distances from the mean in deviations, falling; 0 where all scores are equal."""
        return (self.scores - self.mean) / (self.deviation or 1.0)

    def tail(self, false_rejects: float) -> float:
        """z: how many deviations above the mean its quantile for this rate lies."""
        return float(self.standardized()[rank_for(len(self.scores), false_rejects) - 1])


@dataclass(frozen=True)
class Shrunk:
    """Location and scale of a further part's score, from k parts and the trainer."""

    location: float
    scale: float


@dataclass(frozen=True)
class SiteThreshold:
    """A score greater than `value`, a float32, is NG.

    parts: k, that set it. rank: r; is_rank: it is the r-th largest of their scores, else the shrunk
    quantile, which lies higher. false_rejects: the rate that was asked for. expected: the rate that
    the trainer's scores, moved and scaled to these parts, let expect; an estimate.
    """

    value: float
    parts: int
    rank: int
    is_rank: bool
    false_rejects: float
    expected: float


def shrunk(scores: NDArray[Any], trainer: TrainerScores) -> Shrunk:
    """m and sqrt(v (1 + 1 / (k + 2))) of k scores, at least one."""
    k = len(scores)
    variance = float(np.var(scores, ddof=1)) if k > 1 else 0.0
    return shrunk_to(k, float(np.mean(scores)), variance, trainer)


def shrunk_to(parts: int, mean: float, variance: float, trainer: TrainerScores) -> Shrunk:
    """As `shrunk`, of k parts with this mean and variance, however they were estimated."""
    weight = parts / (parts + LOCATION_PARTS)
    v = SPREAD_PARTS * trainer.deviation**2 + (parts - 1) * variance
    v /= SPREAD_PARTS + parts - 1
    location = weight * mean + (1 - weight) * trainer.mean
    return Shrunk(location, math.sqrt(v * (1 + 1 / (parts + LOCATION_PARTS))))


def site_threshold(
    scores: Sequence[float] | NDArray[Any], trainer: TrainerScores, false_rejects: float
) -> SiteThreshold:
    """The threshold for a rate of false rejects.

    Args:
        scores: (k,) one for each part shown on site, none of them scored under site inputs that it
            has fitted itself.
    Raises: CalibrationError without a part, or if a score is not finite.
    """
    values = np.sort(np.asarray(scores, np.float32))[::-1]
    if not np.isfinite(values).all():
        raise CalibrationError("the score of a part is not finite: run `edge verify`, and repeat")
    parts, rank = len(values), rank_for(len(values), false_rejects)
    of_rank = values[rank - 1]
    site = shrunk(values.astype(np.float64), trainer)
    quantile = np.float32(site.location + site.scale * trainer.tail(false_rejects))
    value = float(max(of_rank, quantile))
    return SiteThreshold(
        value,
        parts,
        rank,
        is_rank=bool(of_rank >= quantile),
        false_rejects=false_rejects,
        expected=expected_rate_at(value, site, trainer),
    )


def expected_rate_at(value: float, site: Shrunk, trainer: TrainerScores) -> float:
    """The share of normal parts above a threshold if they lie as the trainer's scores do, moved and
    scaled to the site: (number above + 1) / (n + 1), never 0.
    """
    moved = site.location + site.scale * trainer.standardized()
    above = int((moved.astype(np.float32) > np.float32(value)).sum())
    return (above + 1) / (len(trainer.scores) + 1)
