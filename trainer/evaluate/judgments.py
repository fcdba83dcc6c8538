"""Which judgment makes a part NG: the detector's, or one of those that judge beside it and add to
its score (trainer.graph.outline, trainer.graph.heights).

A judgment is a reason if it would reject the part by itself: the detector's own score exceeds the
threshold, or what a judge adds to the score of a usual normal part does. Where none would, all that
have added something are reasons together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainer.evaluate.images import JudgedImage
from trainer.evaluate.report.model import Judgment
from trainer.graph.deploy import DETECTOR


def reasons_of(image: JudgedImage, threshold: float, usual: float) -> tuple[str, ...]:
    """Names of the judgments that make an image NG; none of an image that passes, or where an
    engine answered, which does not tell.

    usual: score of a usual normal part, raw.
    """
    if not image.is_rejected(threshold):
        return ()
    alone = {
        name: share if name == DETECTOR else usual + share for name, share in image.shares.items()
    }
    sufficient = tuple(
        name for name, score in alone.items() if np.float32(score) > np.float32(threshold)
    )
    return sufficient or tuple(name for name, share in image.shares.items() if share > 0)


def judgments_of(images: Sequence[JudgedImage], threshold: float, usual: float) -> list[Judgment]:
    """What each judgment finds; empty where the detector judges alone or an engine answered."""
    names = list(dict.fromkeys(name for image in images for name in image.shares))
    if len(names) < 2:
        return []
    reasons = [(image.is_defective, reasons_of(image, threshold, usual)) for image in images]

    return [
        Judgment(
            name,
            sum(is_defective and name in found for is_defective, found in reasons),
            sum(is_defective and found == (name,) for is_defective, found in reasons),
            sum(not is_defective and name in found for is_defective, found in reasons),
        )
        for name in names
    ]
