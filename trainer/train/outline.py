"""Fit the memory of normal outlines (trainer.graph.outline) and the normal silhouette to normal
parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

import torch
from torch import Tensor

from trainer.graph.deploy import Deployed
from trainer.graph.outline import ROWS, Outline
from trainer.graph.preprocess import Prepared
from trainer.layers.coreset import greedy_coreset
from trainer.layers.typed import required
from trainer.train.silhouette import fit_silhouette

POOL = 40_000  # descriptors that the bank is chosen from, at most
SHRINK = 1e-2  # added to every variance, relative to their mean
# the limit lies so many deviations above the mean of the largest distances of normal parts
LIMIT_SIGMAS = 3.0
LEAST_PARTS = 2  # with an outline in view: each half is compared with the other
LEAST_LIMIT = 1.0  # in deviations of normal descriptors: parts that are all alike are no rule
# A piece of outline twice as unusual as the limit adds so many times the highest value of a normal
# part's map to the map, and so many times its score to the score.
MAP_GAIN, SCORE_GAIN = 10.0, 10.0


@torch.no_grad()
def fit_outline(deployed: Deployed, parts: Iterable[Prepared], seed: int) -> None:
    """Fill the bank, take the normal silhouette and set the limits of both, from prepared normal
    parts; without depth, and where the parts fill the view, there is no outline to judge.

    The limits follow from every part's largest distance from the other half of the parts, so that
    none is compared with itself.
    """
    outline = deployed.add_outline()
    if outline is None:
        return
    images, described = [], []
    for part in parts:
        image = required(part.silhouette), required(part.seen)
        if len(rows := _rows(outline, *image)):
            images.append(image)
            described.append(rows)
    if len(images) < LEAST_PARTS:
        deployed.outline = None
        return
    of_outline: list[float] = []
    of_silhouette: list[float] = []
    for half in (0, 1):
        _learn(outline, images[half::2], described[half::2], seed)
        others = images[1 - half :: 2]
        of_outline += [float(outline.distance(*image).max()) for image in others]
        of_silhouette += [float(outline.normal(*image).max()) for image in others]
    _learn(outline, images, described, seed)
    outline.limit.fill_(_limit(of_outline))
    outline.normal.limit.fill_(_limit(of_silhouette))


def _limit(largest: Sequence[float]) -> float:
    """What a normal part stays below, of the largest distances of normal parts."""
    distances = torch.tensor(largest)
    limit = distances.mean() + LIMIT_SIGMAS * distances.std(correction=0)
    return float(limit.clamp(min=LEAST_LIMIT))


@torch.no_grad()
def scale_outline(deployed: Deployed, highest: Sequence[float], scores: Sequence[float]) -> None:
    """Give the outline its weight beside the detector.

    highest: the highest value of each normal part's map. scores: of the same parts, both as the
    detector alone gives them.
    """
    if deployed.outline is not None:
        deployed.outline.map_gain.fill_(MAP_GAIN * median(highest))
        deployed.outline.score_gain.fill_(SCORE_GAIN * median(scores))


def _rows(outline: Outline, silhouette: Tensor, seen: Tensor) -> Tensor:
    """Descriptors of one image near its outline, (P, 15)."""
    return outline.described(silhouette)[outline.judged(silhouette, seen).flatten() > 0]


def _learn(
    outline: Outline,
    images: Sequence[tuple[Tensor, Tensor]],
    described: Sequence[Tensor],
    seed: int,
) -> None:
    """Whiten descriptors and keep a coreset of them; take the silhouette that the images share."""
    silhouettes, seen = (torch.cat(list(parts)) for parts in zip(*images, strict=True))
    fit_silhouette(outline.normal, silhouettes, seen)
    rows = torch.cat(list(described))
    generator = torch.Generator().manual_seed(seed)
    rows = rows[torch.randperm(len(rows), generator=generator)[:POOL]].double()
    centered = rows - rows.mean(dim=0)
    values, axes = torch.linalg.eigh(centered.T @ centered / len(rows))
    scales = (values.clamp(min=0) + SHRINK * values.mean()).clamp(min=1e-12).rsqrt()
    outline.mean.copy_(rows.mean(dim=0))
    outline.matrix.copy_(axes * scales)
    whitened = (centered @ (axes * scales)).float()
    outline.remember(whitened[greedy_coreset(whitened, min(ROWS, len(whitened)), seed)])
