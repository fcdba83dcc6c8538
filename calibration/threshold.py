"""Another operating point of a bundle, for the engine that judges at this station."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import CalibrationError
from edge.proof.golden import NormalFrames, NormalIndex
from edge.proof.prove import Runner, measure_normal
from edge.proof.threshold import (
    Threshold,
    expected_rate,
    ordinal,
    percent_of,
    rank_for,
    threshold_at,
)


def calibrate_threshold(
    engine: Runner,
    normal: NormalFrames,
    false_rejects: float,
    left_out: int = 0,
    tensors: Mapping[str, NDArray[Any]] | None = None,
) -> Threshold:
    """The threshold of `engine` that keeps a rate of false rejects, on its own scores of the
    carried normal parts.

    Args:
        left_out: normal parts that the user left out at export. tensors: this station's site
            tensors by graph input.
    Raises: as threshold_for_rate; EngineError if the engine fails.
    """
    require_rank(normal.index, false_rejects)
    return threshold_for_rate(
        measure_normal(engine, normal, tensors).scores, normal.index, false_rejects, left_out
    )


def threshold_for_rate(
    scores: NDArray[np.float32], index: NormalIndex, false_rejects: float, left_out: int = 0
) -> Threshold:
    """The r-th largest of the carried scores, r for this rate of all n parts. scores: (k,) in the
    index's order.

    Raises: CalibrationError for a rate whose rank was not carried, or a score that is not finite.
    """
    rank = require_rank(index, false_rejects)
    return threshold_at(scores, rank, false_rejects, index.parts, left_out)


def require_rank(index: NormalIndex, false_rejects: float) -> int:
    """The rank for this rate.

    Raises: CalibrationError if the bundle does not carry enough normal parts for it.
    """
    rank = rank_for(index.parts, false_rejects)
    if rank > index.largest_rank:
        most = percent_of(expected_rate(index.parts, index.largest_rank))
        raise CalibrationError(
            f"{percent_of(false_rejects)} of {index.parts} normal parts takes the {ordinal(rank)}"
            f" highest score, the bundle carries enough for the {ordinal(index.largest_rank)}: ask"
            f" for at most {most}, or export it with --false-rejects {percent_of(false_rejects)}"
        )
    return rank
