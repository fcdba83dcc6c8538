"""Does the part stand as high everywhere as the product's parts do there? A fuse that is absent,
one too many or of another kind looks as some fuse does somewhere, and only its place betrays it.

In the normal pose every place of the part has its own heights: their mean over normal parts, and
how much they differ from it. Where parts may hold one thing or another they differ much, and
nothing is told; where all hold the same, something else is seen (PaDiM's idea, Defard et al., ICPR
Workshops 2021, on heights). Only what exceeds the deviations of normal parts counts, so a normal
part's map and score stay those of the detector. Light and color have no say in it.

A plane a little off moves all heights of a part alike, and a camera with more noise makes all more
unusual; a fuse does so to its own place only. So what all places have in common is taken off, and
the limit grows by as much as the whole part is more unusual than normal parts are.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph.prepared import Prepared

STRIDE = 4  # cells of the height image from one place to the next
AROUND = 8  # cells along each side that a place's height is the mean of
ALL_READ = 0.9  # of these cells are of the part and were read, or the place is not judged
MOST = 2.0  # limits of excess: beyond that a height is no more unusual
FAR = 3.0  # deviations with which one place counts for the whole part, at most


class NormalHeights(nn.Module):
    """By how much heights differ from normal ones, place by place, in the normal pose.

    mean, deviation: (1, 1, h/4, w/4) of normal parts, meters. told: of the same size, 1 where
    normal parts have material and a height. limit: the largest difference, in deviations, that a
    normal part shows; infinite until it is fitted (trainer.train.heights). usual: the largest mean
    difference over a whole normal part, in deviations. map_gain, score_gain: what one unit of
    excess adds to the anomaly map and to the score, raw units; 0 until then.

    Args:
        cells: (hd, wd) of the height image.
    """

    most = MOST  # excess of a place
    mean: Tensor
    deviation: Tensor
    told: Tensor
    limit: Tensor
    usual: Tensor
    map_gain: Tensor
    score_gain: Tensor

    def __init__(self, cells: tuple[int, int]) -> None:
        super().__init__()
        self.cells = cells
        places = (1, 1, *(side // STRIDE for side in cells))
        self.register_buffer("mean", torch.zeros(places))
        self.register_buffer("deviation", torch.ones(places))
        self.register_buffer("told", torch.zeros(places))
        self.register_buffer("limit", torch.full((), torch.inf))
        self.register_buffer("usual", torch.ones(()))
        self.register_buffer("map_gain", torch.zeros(()))
        self.register_buffer("score_gain", torch.zeros(()))

    def forward(self, prepared: Prepared) -> Tensor:
        """By how many limits the heights of images in the normal pose exceed the limit, (N, 1, hd,
        wd), >= 0; 0 on a normal part and where no part is.
        """
        heights, judged = self.at_places(prepared)
        unusual = self.unusual(heights, judged)
        wider = (self.spread(unusual, judged) / self.usual).clamp(min=1.0)  # (N, 1, 1, 1)
        excess = (unusual / (self.limit * wider) - 1).clamp(0.0, MOST)
        return functional.interpolate(excess, size=self.cells, mode="nearest")

    def at_places(self, prepared: Prepared) -> tuple[Tensor, Tensor]:
        """Mean height in meters around every place, and 1 where it can be judged, else 0, (N, 1,
        h/4, w/4) each.
        """
        read = prepared.foreground * cast(Tensor, prepared.read)
        around = torch.cat([cast(Tensor, prepared.height) * read, read], dim=1)
        padding = (AROUND - STRIDE) // 2
        total, share = functional.avg_pool2d(around, AROUND, STRIDE, padding).chunk(2, dim=1)
        judged = (share > ALL_READ).to(torch.float32)
        return judged * total / share.clamp(min=ALL_READ), judged

    def unusual(self, heights: Tensor, judged: Tensor) -> Tensor:
        """Difference of heights from the normal ones in deviations, (N, 1, h/4, w/4), 0 where
        nothing can be told; less what all places of the part have in common.
        """
        told = judged * self.told
        apart = (heights - self.mean) / self.deviation * told
        common = self.over_part(apart.clamp(-FAR, FAR) * self.deviation, told)
        return (apart - common / self.deviation).abs() * told

    def spread(self, unusual: Tensor, judged: Tensor) -> Tensor:
        """Mean over the places of a part that are told, FAR at most of each, (N, 1, 1, 1)."""
        return self.over_part(unusual.clamp(max=FAR), judged * self.told)

    def over_part(self, values: Tensor, told: Tensor) -> Tensor:
        """Mean over the told places of each part, (N, 1, 1, 1); values are 0 elsewhere."""
        return values.sum(dim=(2, 3), keepdim=True) / told.sum(dim=(2, 3), keepdim=True).clamp(
            min=1.0
        )
