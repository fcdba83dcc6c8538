"""Fit the normal heights of every place (trainer.graph.heights) to normal parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.normal import prepare
from trainer.graph.deploy import Deployed
from trainer.graph.heights import NormalHeights
from trainer.train.outline import limit_of

LEAST_PARTS = 8  # each half of them is compared with the other
OFTEN = 0.9  # of the parts have a height at a place, or it is not judged
# Added to every deviation: so much of the mean deviation, and so much of `lift`, below which the
# table's own noise lies.
FLOOR, LEAST = 0.5, 0.02
MARGIN = 1.2  # of the limit: the camera of a station has another noise at edges than training's
Feeds = Mapping[str, NDArray[np.generic]]


@torch.no_grad()
def fit_heights(deployed: Deployed, parts: Iterable[Feeds]) -> str:
    """Take the normal heights and their limit from the graph inputs of normal parts; what the user
    should know of it. Without a normal pose, and of few parts, no heights are judged.

    The limit follows from every part's largest difference from the other half of the parts, so that
    none is compared with itself.
    """
    heights = deployed.add_heights()
    if heights is None:
        return "heights are not judged place by place: the parts are looked at as they lie"
    read, lifts = [], []
    for feeds in parts:
        read.append(heights.at_places(prepare(deployed.preprocess, feeds)))
        lifts.append(float(feeds["lift"].reshape(-1)[0]))
    if len(read) < LEAST_PARTS:
        deployed.heights = None
        return f"heights are not judged place by place: that takes {LEAST_PARTS} parts"
    above, judged = (torch.cat(images) for images in zip(*read, strict=True))
    least = LEAST * median(lifts)
    largest, spread = list[float](), list[float]()
    for half in (0, 1):
        _learn(heights, above[half::2], judged[half::2], least)
        others = judged[1 - half :: 2]
        unusual = heights.unusual(above[1 - half :: 2], others)
        largest += unusual.amax(dim=(1, 2, 3)).tolist()
        spread += heights.spread(unusual, others).flatten().tolist()
    _learn(heights, above, judged, least)
    heights.limit.fill_(MARGIN * limit_of(largest))
    heights.usual.fill_(max(spread))
    return "heights are judged place by place in the normal pose"


def _learn(heights: NormalHeights, above: Tensor, judged: Tensor, least: float) -> None:
    """Mean and deviation of heights (n, 1, h, w) over the parts that show them."""
    shown = judged.sum(dim=0, keepdim=True)
    mean = (above * judged).sum(dim=0, keepdim=True) / shown.clamp(min=1)
    squared = ((above - mean).square() * judged).sum(dim=0, keepdim=True) / shown.clamp(min=1)
    told = (shown >= OFTEN * len(above)).to(torch.float32)
    deviation = squared.sqrt()
    usual = float((deviation * told).sum() / told.sum().clamp(min=1))
    heights.mean.copy_(mean)
    heights.deviation.copy_(deviation + FLOOR * usual + least)
    heights.told.copy_(told)
