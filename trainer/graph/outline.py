"""Is the part's outline one of the product's own? What is absent beside it, or sticks out of it,
lies where no feature is compared: in the background.

Every place near the outline is described by derivatives of the silhouette at three scales, put
together so that neither turn nor mirror image changes them (the local jet; Florack et al., Image
and Vision Computing 10, 1992). A bank holds the descriptors of normal outlines; the distance to the
nearest is how unusual a piece of outline is, in whatever pose the part lies. Beside that the whole
silhouette is compared with the normal one (trainer.graph.silhouette): what breaks along a line that
could be the part's own edge, and where all of the absent material would lie. Only what exceeds the
distances of normal parts counts, so a normal part's map and score stay those of the detector. Where
the station knows what silhouette to expect, material that is absent there counts as well.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import grown
from trainer.graph.silhouette import EVEN, NormalSilhouette, SquareCells

# sigma of the Gaussians in cells of a 128-cell image; in a smaller one the same number of cells,
# for every other cell must tell what lies between
SCALES = (1.5, 3.0, 6.0)
SIDE = 128
CUT_SIGMAS = 3.0
INVARIANTS = 5  # per scale
CHANNELS = INVARIANTS * len(SCALES)
ROWS = 256  # of the bank
STRIDE = EVEN  # every other cell is described: the smallest Gaussian blurs what lies between
REACH = 6  # cells to either side of the outline that are described
# An unusual piece of outline marks the background beside it where the normal silhouette lies, so
# many strides far with such a share of its own value: there the absent material would lie.
BESIDE = ((2, 0.5), (4, 0.25), (8, 0.12))
OFTEN = 0.1  # of the normal silhouette: fewer parts have material there
MOST = 2.0  # limits of excess: beyond that a piece of outline is no more unusual
EXPECTED_EXCESS = 2.0  # what a cell without its expected material counts, in limits of the outline
# orders of the derivatives down the rows and along the columns: L, Ly, Lx, Lyy, Lxx, Lxy
DOWN, ALONG = (0, 1, 0, 2, 0, 1), (0, 0, 1, 0, 2, 1)
FLAT = 1e-3  # squared slope that is added to a divisor: where the silhouette is flat, none bends
TINY = 1e-6


class Outline(nn.Module):
    """How unusual the outline of a silhouette is, (N, 1, hd, wd), and the memory of normal ones.

    map_gain, score_gain: what one unit of it adds to the anomaly map and to the score, raw units; 0
    until they are fitted (trainer.train.outline).

    Args:
        cells: (hd, wd) of the height image. size: (H, W) of the crop in pixels. Silhouettes are
            judged in square cells, at the scale of the normal ones.
    """

    most = MOST + EXPECTED_EXCESS  # excess of a place
    mean: Tensor
    matrix: Tensor
    weight: Tensor
    bias: Tensor
    limit: Tensor
    map_gain: Tensor
    score_gain: Tensor

    def __init__(self, cells: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.squared = SquareCells(cells, size)
        even = self.squared.even
        sigmas = [scale * max(max(even) / SIDE, 1.0) for scale in SCALES]
        self.jets = nn.ModuleList(_Jet(sigma) for sigma in sigmas)
        self.normal = NormalSilhouette(even)
        self.register_buffer("mean", torch.zeros(CHANNELS))
        self.register_buffer("matrix", torch.eye(CHANNELS))
        self.register_buffer("weight", torch.zeros(ROWS, CHANNELS))
        self.register_buffer("bias", torch.zeros(ROWS))
        self.register_buffer("limit", torch.ones(()))
        self.register_buffer("map_gain", torch.zeros(()))
        self.register_buffer("score_gain", torch.zeros(()))

    def forward(self, prepared: Prepared) -> Tensor:
        """By how many limits every place along and beside the outline exceeds the limit, (N, 1,
        hd, wd), >= 0; 0 on a normal part and where no part is.
        """
        silhouette, seen = self.squared(prepared)
        pose = None if prepared.pose is None else prepared.pose[:, :3]
        differing, normal = self.normal(silhouette, seen, pose)
        whole = (differing / self.normal.limit - 1).clamp(0.0, MOST)
        own = (self.distance(silhouette, seen) / self.limit - 1).clamp(0.0, MOST)
        background = _every_other(seen * (silhouette <= 0).to(torch.float32))
        there = grown(_every_other((normal > OFTEN).to(torch.float32)), 1)
        along, beside = own, background * there  # (N, 1, h/2, w/2) each
        for cells, share in BESIDE:
            own = torch.maximum(own, share * grown(along, cells) * beside)
        outline = functional.interpolate(own, scale_factor=float(STRIDE), mode="nearest")
        zoom = self.squared.zoom(prepared)
        excess = self.squared.back(torch.maximum(outline, whole), zoom)  # (N, 1, hd, wd)
        lacking = functional.avg_pool2d(cast(Tensor, prepared.absent), 3, stride=1, padding=1)
        is_part = (prepared.area > 0).to(torch.float32).reshape(-1, 1, 1, 1)
        return is_part * (excess + EXPECTED_EXCESS * lacking)

    def distance(self, silhouette: Tensor, seen: Tensor) -> Tensor:
        """Distance of every other cell near the outline from the nearest normal one, averaged over
        3x3 of them, (N, 1, h/2, w/2); 0 elsewhere and where it was not seen.
        """
        whitened = (self.described(silhouette) - self.mean) @ self.matrix  # (P, 15)
        to_rows = functional.linear(whitened, self.weight, self.bias)  # (P, M), less ||x||^2
        squared = to_rows.amin(dim=1) + (whitened * whitened).sum(dim=1)  # (P,)
        judged = self.judged(silhouette, seen)
        distance = torch.relu(squared).sqrt().reshape(judged.shape)
        return functional.avg_pool2d(distance * judged, 3, stride=1, padding=1)

    def judged(self, silhouette: Tensor, seen: Tensor) -> Tensor:
        """(N, 1, h/2, w/2), 1 within REACH cells of where foreground and background meet and the
        outline can be trusted, else 0.
        """
        part = (silhouette > 0).to(torch.float32)
        return _every_other(grown(part, REACH) * grown(1 - part, REACH) * seen)

    def described(self, silhouette: Tensor) -> Tensor:
        """(N, 1, h, w), 0 to 1 -> the descriptors of every other cell, (N h/2 w/2, 15)."""
        jets = [jet(silhouette) for jet in self.jets]  # (N, 6, h/2, w/2) each
        level, ly, lx, lyy, lxx, lxy = (
            torch.cat([jet[:, number : number + 1] for jet in jets], dim=1)  # (N, 3, h/2, w/2)
            for number in range(len(DOWN))
        )
        slope = lx * lx + ly * ly
        bends = lxx * lxx + 2 * lxy * lxy + lyy * lyy
        uphill = lx * lx * lxx + 2 * lx * ly * lxy + ly * ly * lyy
        invariants = [
            level,
            (slope + TINY).sqrt(),
            lxx + lyy,
            (bends + TINY).sqrt(),
            uphill / (slope + FLAT),
        ]
        return torch.cat(invariants, dim=1).permute(0, 2, 3, 1).reshape(-1, CHANNELS)

    @torch.no_grad()
    def remember(self, rows: Tensor) -> None:
        """Keep whitened descriptors (m, 15), m at most ROWS, as the normal ones; fewer are
        repeated.
        """
        filled = rows[torch.arange(ROWS) % len(rows)]
        self.weight.copy_(-2 * filled)
        self.bias.copy_((filled * filled).sum(dim=1))


def _every_other(image: Tensor) -> Tensor:
    """(N, 1, h, w) -> (N, 1, h/2, w/2), the cells that are described."""
    return image[:, :, ::STRIDE, ::STRIDE]


class _Jet(nn.Module):
    """Derivatives of an image (N, 1, h, w) by Gaussians of one sigma, at every other cell, (N, 6,
    h/2, w/2), scaled by sigma^order: L, Ly, Lx, Lyy, Lxx, Lxy. Beyond the image all is background.
    """

    down: Tensor
    along: Tensor

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.reach = math.ceil(CUT_SIGMAS * sigma)
        t = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64) / sigma
        bell = torch.exp(-0.5 * t * t) / (math.sqrt(2 * math.pi) * sigma)
        # a convolution in networks is a correlation: the first derivative has the other sign, which
        # no invariant sees
        by_order = torch.stack([bell, t * bell, (t * t - 1) * bell]).float()  # (3, k)
        self.register_buffer("down", by_order[list(DOWN), None, :, None], persistent=False)
        self.register_buffer("along", by_order[list(ALONG), None, None, :], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        rows = functional.conv2d(
            image, self.down, stride=(STRIDE, 1), padding=(self.reach, 0)
        )  # (N, 6, h/2, w)
        return functional.conv2d(
            rows, self.along, stride=(1, STRIDE), padding=(0, self.reach), groups=len(ALONG)
        )
