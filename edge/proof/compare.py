"""How far two engines differ on the same frames: maps, ranks, noise of the scores, verdicts.

f, q     scores of float32 and of the engine that is compared with it (the candidate)
t_f, t_q their thresholds, each measured on its own scores of the same normal parts
s        half the distance from the 16th to the 84th percentile of float32's normal scores: the
         natural unit, since a distance from the threshold means nothing without the spread of
         normal parts
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError
from edge.proof.measures import MapComparison, Noise

# of s: a score this close counts as at the threshold, where rounding alone may change the verdict
AT_THRESHOLD = 0.01
LEAST_FIT = 3  # scores needed to fit a line and its residual
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Responses:
    """The outputs of one graph for n frames: maps (n, h, w) float32, scores (n,) float32, raw
    units.
    """

    maps: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def map_span(self) -> float:
        """Highest minus lowest map value."""
        return float(self.maps.max() - self.maps.min())

    @classmethod
    def of(cls, outputs: Iterable[Mapping[str, NDArray[Any]]]) -> Responses:
        """From the raw outputs "map" (1, 1, h, w) and "score" (1,) of every frame."""
        pairs = [
            (raw["map"].reshape(raw["map"].shape[-2:]), raw["score"].reshape(())) for raw in outputs
        ]
        maps = np.stack([pair[0] for pair in pairs]).astype(np.float32)
        return cls(maps, np.array([pair[1] for pair in pairs], np.float32))

    def take(self, rows: slice | list[int]) -> Responses:
        """The chosen frames."""
        return Responses(self.maps[rows], self.scores[rows])


def compare_maps(
    reference: Responses, candidate: Responses, map_span: float | None = None
) -> MapComparison:
    """Compare a candidate with float32 on the same frames.

    Args:
        reference: float32. candidate: as many frames, the same map size.
        map_span: float32's map range as the unit of errors; default that of `reference`.
    Raises: EngineError if the frames or the map sizes differ.
    """
    if (
        reference.maps.shape != candidate.maps.shape
        or reference.scores.shape != candidate.scores.shape
    ):
        shapes = f"maps {candidate.maps.shape}, the reference has {reference.maps.shape}"
        raise EngineError(
            f"the engine gives {shapes}: it was built from another model, install the bundle again"
        )
    if not (np.isfinite(candidate.maps).all() and np.isfinite(candidate.scores).all()):
        return MapComparison(
            frames=len(reference),
            finite=False,
            mean_map_error=1,
            largest_map_error=1,
            rank_correlation=0,
        )
    span = max(reference.map_span if map_span is None else map_span, TINY)
    errors = np.abs(candidate.maps.astype(np.float64) - reference.maps)
    judged = (candidate.maps != 0) | (reference.maps != 0)
    return MapComparison(
        frames=len(reference),
        finite=True,
        mean_map_error=float(errors[judged].mean() / span) if judged.any() else 0.0,
        largest_map_error=float(errors.max() / span),
        rank_correlation=rank_correlation(reference.scores, candidate.scores),
    )


def spread_of(scores: NDArray[Any]) -> float:
    """s: half the distance from the 16th to the 84th percentile, raw units; 0 for a single score.

    scores: (n,).
    """
    low, high = np.quantile(np.asarray(scores, np.float64), (0.16, 0.84))
    return float(high - low) / 2


def fit_noise(
    reference: NDArray[Any], candidate: NDArray[Any], threshold: float, spread: float | None = None
) -> Noise:
    """Fit the candidate's normal scores as a line of the reference's, by least squares.

    Args:
        reference, candidate: (n,) scores of the same normal parts.
        threshold: of the reference, raw units. spread: s of the reference, if more parts than these
            define it.
    With fewer than LEAST_FIT scores, or if the reference does not vary, the slope is 1, the offset
    the mean difference, and rms that of the differences.
    """
    f, q = np.asarray(reference, np.float64), np.asarray(candidate, np.float64)
    s = max(spread_of(f) if spread is None else spread, TINY)
    centered = f - f.mean()
    power = float(centered @ centered)
    slope = float(centered @ (q - q.mean())) / power if len(f) >= LEAST_FIT and power > 0 else 1.0
    offset = float(q.mean() - slope * f.mean())
    residuals = q - (slope * f + offset)
    rms = float(np.sqrt(residuals @ residuals / max(1, len(f) - 2))) / max(abs(slope) * s, TINY)
    shift = (slope * threshold + offset - threshold) / s
    return Noise(
        frames=len(f),
        slope=slope,
        offset=offset,
        rms=min(rms, 1e9),
        shift=float(np.clip(shift, -1e9, 1e9)),
        spread=spread_of(q),
    )


def unlike(
    reference: NDArray[Any], candidate: NDArray[Any], thresholds: tuple[float, float], spread: float
) -> NDArray[np.bool_]:
    """(n,) bool: frames whose verdict differs, each judged by its own threshold.

    Args:
        reference, candidate: (n,) scores. thresholds: float32's and the candidate's. spread: s, raw
            units.
    A frame whose float32 score lies within AT_THRESHOLD s of the threshold does not count: rounding
    alone could change the verdict of the very part that defines the threshold. A score that is not
    finite is judged UNKNOWN, so that it always differs.
    """
    f, q = np.asarray(reference, np.float32), np.asarray(candidate, np.float32)
    differs = (f > np.float32(thresholds[0])) != (q > np.float32(thresholds[1]))
    at_threshold = np.abs(f.astype(np.float64) - thresholds[0]) <= AT_THRESHOLD * spread
    return np.asarray((differs & ~at_threshold) | ~np.isfinite(q))


def left_out_unlike(
    reference: NDArray[Any], candidate: NDArray[Any], rank: int, spread: float
) -> NDArray[np.bool_]:
    """(n,) bool: normal parts whose leave-one-out verdict differs, each judged by the threshold
    that the other parts would set.

    Leave-one-out always rejects exactly the `rank` highest scores. It therefore does not measure
    how many parts are rejected, only whether they are the same.
    """
    f, q = (np.asarray(scores, np.float64) for scores in (reference, candidate))
    falling = np.sort(f)[::-1]
    # the last rejected, the one below
    last, next_ = (falling[min(rank, len(f)) - 1], falling[min(rank, len(f) - 1)])
    rejected = [scores > np.sort(scores)[::-1][min(rank, len(scores) - 1)] for scores in (f, q)]
    # the threshold without this part
    of_the_others = np.where(rejected[0], next_, last)
    at_threshold = np.abs(f - of_the_others) <= AT_THRESHOLD * spread
    return np.asarray((rejected[0] != rejected[1]) & ~at_threshold | ~np.isfinite(q))


def furthest(
    reference: NDArray[Any], changed: NDArray[np.bool_], threshold: float, spread: float
) -> float:
    """Distance of the furthest changed frame's float32 score from float32's threshold, in units of
    s; 0 for none.
    """
    distances = np.abs(np.asarray(reference, np.float64)[changed] - threshold) / max(spread, TINY)
    return min(float(distances.max(initial=0.0)), 1e9)


def mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Rank of every value, 1 for the lowest; equal values share the mean of their ranks.

    values: (n,).
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], np.float64)


def rank_correlation(reference: NDArray[Any], candidate: NDArray[Any]) -> float:
    """Spearman's correlation of two (n,) vectors, -1..1, exact with ties: Pearson's correlation of
    their mean ranks.

    It is undefined if one of them is constant: then 1 if they are equal, else 0, so that a constant
    output cannot pass.
    """
    first, second = mean_ranks(reference), mean_ranks(candidate)
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first @ first) * (second @ second)))
    if norm == 0:
        return 1.0 if np.array_equal(reference, candidate) else 0.0
    return float(np.clip(first @ second / norm, -1, 1))


def image_auroc(labels: NDArray[np.bool_], scores: NDArray[Any]) -> float | None:
    """Probability that a defect scores above a normal frame, ties count one half (Mann-Whitney);
    None without both kinds.
    """
    defects = int(labels.sum())
    normals = len(labels) - defects
    if not defects or not normals:
        return None
    rank_sum = float(mean_ranks(scores)[labels].sum())
    return (rank_sum - defects * (defects + 1) / 2) / (defects * normals)
