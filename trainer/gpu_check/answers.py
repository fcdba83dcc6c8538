"""Whether two machines answer alike: maps within a share of their range, and the same verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.gpu_check.bench import CheckFailed, Done

# Of the range of the CPU's maps: what single precision with TF32's 10 bits of mantissa leaves after
# some fifty layers. A wrong layer, a stale buffer or a transposed image is off by the whole range.
MAP_APART = 0.01

Answer = Mapping[str, NDArray[Any]]


def require_alike(
    expected: Sequence[Answer], found: Sequence[Answer], threshold: float, who: str
) -> Done:
    """Compare the answers to the same frames, one by one. who: gave `found`, in the words of the
    report. threshold: of the run; scores nearer to it than the tolerance may fall on either side.

    Raises: CheckFailed naming the first difference.
    """
    if len(expected) != len(found) or not expected:
        raise CheckFailed(f"{who} answered {len(found)} of {len(expected)} frames")
    maps = np.stack([answer["map"] for answer in expected])
    limit = MAP_APART * float(np.ptp(maps))
    if not limit > 0:
        raise CheckFailed("the CPU's maps are the same everywhere: nothing can be compared")
    worst = 0.0
    for number, (mine, other) in enumerate(zip(expected, found, strict=True)):
        apart = float(np.abs(mine["map"] - other["map"]).max())
        if not apart <= limit:
            share = apart / limit * MAP_APART
            raise CheckFailed(
                f"{who}: the map of frame {number} is off by {share:.2%} of its range"
            )
        worst = max(worst, apart)
        _require_verdict(float(mine["score"][0]), float(other["score"][0]), threshold, limit, who)
    share = worst / limit * MAP_APART
    return Done(
        f"{len(expected)} frames, maps within {share:.1e} of their range, the same verdicts",
        {"map_apart_share": share, "frames": float(len(expected))},
    )


def _require_verdict(mine: float, other: float, threshold: float, limit: float, who: str) -> None:
    if not abs(mine - other) <= limit:
        raise CheckFailed(f"{who}: a score is {other:g} where the CPU says {mine:g}")
    if (mine > threshold) != (other > threshold) and abs(mine - threshold) > limit:
        raise CheckFailed(f"{who}: another verdict, {other:g} where the CPU says {mine:g}")
