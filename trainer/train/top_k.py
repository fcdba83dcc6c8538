"""Which share of the foreground is averaged into the score, chosen by normal parts alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trainer.train.validation import NormalPart, counted_parts

LEAST_PARTS = 3  # normal validation parts: of fewer, no spread can be measured
DEFAULT_SHARE = 0.01


def choose_top_k(normal: Sequence[NormalPart], candidates: Sequence[float]) -> tuple[float, str]:
    """(share, why): the largest candidate whose scores of the normal validation parts spread about
    as little as those of the best.

    Spread is the deviation relative to the mean: a score that varies little among normal parts
    leaves the most room below any defect. A spread measured on n parts is uncertain by 1 / sqrt(2
    (n - 1)) of itself; within that of the smallest, the largest share wins, for its mean depends
    least on a single cell. With fewer than three parts: 1 %.
    """
    if len(normal) < LEAST_PARTS:
        few = f"{counted_parts(len(normal), 'is are')} too few to choose by"
        return DEFAULT_SHARE, f"the default: {few}"
    spread_of = {share: _spread([part.score(share) for part in normal]) for share in candidates}
    allowed = min(spread_of.values()) * (1 + 1 / math.sqrt(2 * (len(normal) - 1)))
    best = max(share for share, spread in spread_of.items() if spread <= allowed)
    listed = ", ".join(f"{share:.1%}: {spread:.3f}" for share, spread in spread_of.items())
    why = f"the largest share with a steady score over {len(normal)} normal validation parts"
    return best, f"{why}; spreads {listed}"


def _spread(scores: Sequence[float]) -> float:
    values = np.array(scores)
    return float(values.std() / max(float(values.mean()), 1e-12))
