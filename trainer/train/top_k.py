"""Which share of the foreground is averaged into the score, chosen by synthetic defects that are
drawn on normal validation parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.graph.deploy import MAX_TOPK
from trainer.metrics import image_auroc
from trainer.train.validation import JudgedPart, counted_parts

SHARES = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
"""Candidates, from a single cell of a small map to more than any defect but a whole warped part."""
LEAST_PARTS = 3  # normal validation parts: of fewer, none can be told from a defect
DEFAULT_SHARE = 0.01


def choose_top_k(normal: Sequence[JudgedPart], drawn: Sequence[JudgedPart]) -> tuple[float, str]:
    """(share, why): the one of SHARES under which the synthetic defects stand best above the normal
    validation parts.

    How well: the I-AUROC of the detector's map, which is the share of pairs of a defect and a
    normal part that are in order. Where several do as well as the best, the largest of them, for
    its mean depends least on a single cell. A share with more cells than TensorRT sorts is left
    out. With fewer than LEAST_PARTS parts: DEFAULT_SHARE.

    Args:
        drawn: defects of the sizes and strengths that matter, on the same parts.
    """
    if len(normal) < LEAST_PARTS:
        few = f"{counted_parts(len(normal), 'is are')} too few to choose by"
        return DEFAULT_SHARE, f"the default: {few}"
    cells = normal[0].map.size
    told = {share: _told(normal, drawn, share) for share in SHARES if share * cells <= MAX_TOPK}
    best = max(told, key=lambda share: (round(told[share], 6), share))
    listed = ", ".join(f"{share:.2%}: {auroc:.1%}" for share, auroc in told.items())
    why = f"{len(drawn)} synthetic defects stand best above {len(normal)} normal validation parts"
    return best, f"{why}; pairs in order {listed}"


def _told(normal: Sequence[JudgedPart], drawn: Sequence[JudgedPart], share: float) -> float:
    scores = [part.detector_score(share) for part in (*normal, *drawn)]
    return image_auroc(np.arange(len(scores)) >= len(normal), np.array(scores))
