"""Fit the memory of normal outlines (trainer.graph.outline) and the normal silhouette to normal
parts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from trainer.data.normal import prepare
from trainer.graph.deploy import Deployed
from trainer.graph.outline import ROWS, Outline
from trainer.graph.preprocess import Preprocess
from trainer.layers.coreset import greedy_coreset
from trainer.train.silhouette import fit_silhouette

POOL = 40_000  # descriptors that the bank is chosen from, at most
SHRINK = 1e-2  # added to every variance, relative to their mean
LIMIT_SHARE = 0.99865  # of normal parts lie below the limit: three deviations
LEAST_ROWS = 50  # of outline in view, or the part says nothing: it fills the view
LEAST_PARTS = 2  # with an outline in view: each half is compared with the other
LEAST_LIMIT = 1.0  # in deviations of normal descriptors: parts that are all alike are no rule
# A piece of outline twice as unusual as the limit adds so many times the highest value of a normal
# part's map to the map, and so many times its score to the score.
MAP_GAIN, SCORE_GAIN = 10.0, 10.0
Feeds = Mapping[str, NDArray[np.generic]]


class Seen(NamedTuple):
    """One view of a normal part. silhouette, seen: (1, 1, h, w) in square cells. rows: (P, 15) the
    descriptors of its outline.
    """

    silhouette: Tensor
    seen: Tensor
    rows: Tensor


@torch.no_grad()
def fit_outline(deployed: Deployed, parts: Iterable[Feeds], seed: int) -> None:
    """Fill the bank, take the normal silhouette and set the limits of both, from the graph inputs
    of normal parts; without depth, and where the parts fill the view, there is no outline to judge.

    Every part is seen twice, the second time moved by a few pixels: where all parts lie in one
    place, the cells cut every outline in the same way, and would not after a move of the camera.
    The limits follow from every part's largest distance from the other half of the parts, so that
    none is compared with itself.
    """
    outline = deployed.add_outline()
    if outline is None:
        return
    random, pose = np.random.default_rng(seed), deployed.preprocess.pose
    first, parts = _peeked(parts)
    if pose is not None:
        outline.squared.load_state_dict(pose.squares.state_dict())
    elif first is not None:
        outline.squared.take_scale([prepare(deployed.preprocess, first)])
    seen = (_seen_twice(outline, deployed.preprocess, feeds, random) for feeds in parts)
    shown = [views for views in seen if all(len(view.rows) >= LEAST_ROWS for view in views)]
    if len(shown) < LEAST_PARTS:
        deployed.outline = None
        return
    of_outline: list[float] = []
    of_silhouette: list[float] = []
    for half in (0, 1):
        _learn(outline, shown[half::2], seed)
        for views in shown[1 - half :: 2]:
            images = [(view.silhouette, view.seen) for view in views]
            of_outline.append(max(float(outline.distance(*image).max()) for image in images))
            of_silhouette.append(max(float(outline.normal(*image)[0].max()) for image in images))
    _learn(outline, shown, seed)
    if pose is not None:  # in which every part is laid already
        outline.normal.load_state_dict(pose.normal.state_dict())
    outline.limit.fill_(limit_of(of_outline))
    outline.normal.limit.fill_(limit_of(of_silhouette))


def _peeked(parts: Iterable[Feeds]) -> tuple[Feeds | None, Iterable[Feeds]]:
    """The first part, None where there is none, and all of them."""
    rest = iter(parts)
    first = next(rest, None)
    return first, rest if first is None else itertools.chain([first], rest)


def limit_of(largest: Sequence[float]) -> float:
    """What a further normal part stays below, of the largest distances of normal parts: the bound
    of one more draw from a normal distribution (Hahn and Meeker, Statistical Intervals, 1991, ch.
    4), which few parts widen.
    """
    count, middle, spread = len(largest), fmean(largest), stdev(largest)
    factor = float(stats.t.ppf(LIMIT_SHARE, count - 1)) * math.sqrt(1 + 1 / count)
    return max(middle + factor * spread, LEAST_LIMIT)


@torch.no_grad()
def scale_judges(deployed: Deployed, highest: Sequence[float], scores: Sequence[float]) -> None:
    """Give outline and heights their weight beside the detector.

    highest: the highest value of each normal part's map. scores: of the same parts, both as the
    detector alone gives them.
    """
    for judge in deployed.judges:
        judge.map_gain.fill_(MAP_GAIN * median(highest))
        judge.score_gain.fill_(SCORE_GAIN * median(scores))


def _seen_twice(
    outline: Outline, preprocess: Preprocess, feeds: Feeds, random: np.random.Generator
) -> list[Seen]:
    """A normal part as it is, and moved."""
    views = []
    for view in (feeds, _moved(feeds, preprocess, random)):
        silhouette, seen = outline.squared(prepare(preprocess, view, posed=False))
        judged = outline.judged(silhouette, seen).flatten() > 0
        views.append(Seen(silhouette, seen, outline.described(silhouette)[judged]))
    return views


def _moved(feeds: Feeds, preprocess: Preprocess, random: np.random.Generator) -> Feeds:
    """The view of a camera that was moved by up to a cell either way, in whole pixels: what came in
    from beyond the image is not of the region.
    """
    cells = preprocess.depth_working or preprocess.working
    down, right = (
        int(random.integers(1 - cell, cell))
        for cell in (
            math.ceil(size / count) + 1 for size, count in zip(preprocess.size, cells, strict=True)
        )
    )
    images = {name: np.roll(feeds[name], (down, right), (1, 2)) for name in ("color", "depth")}
    region = np.zeros_like(feeds["region"])
    kept = np.roll(feeds["region"], (down, right), (1, 2))
    rows, columns = (
        slice(max(by, 0), size + min(by, 0))
        for by, size in zip((down, right), preprocess.size, strict=True)
    )
    region[:, rows, columns] = kept[:, rows, columns]
    alpha, beta, gamma, delta = feeds["plane"].reshape(-1).tolist()
    plane = np.array([alpha, beta, gamma - alpha * right - beta * down, delta], np.float32)
    return {**feeds, **images, "region": region, "plane": plane}


def _learn(outline: Outline, shown: Sequence[Sequence[Seen]], seed: int) -> None:
    """Whiten descriptors and keep a coreset of them; take the silhouette that the parts share."""
    views = [view for part in shown for view in part]
    silhouettes = torch.cat([view.silhouette for view in views])
    fit_silhouette(outline.normal, silhouettes, torch.cat([view.seen for view in views]))
    rows = torch.cat([view.rows for view in views])
    generator = torch.Generator().manual_seed(seed)
    rows = rows[torch.randperm(len(rows), generator=generator)[:POOL]].double()
    centered = rows - rows.mean(dim=0)
    values, axes = torch.linalg.eigh(centered.T @ centered / len(rows))
    scales = (values.clamp(min=0) + SHRINK * values.mean()).clamp(min=1e-12).rsqrt()
    outline.mean.copy_(rows.mean(dim=0))
    outline.matrix.copy_(axes * scales)
    whitened = (centered @ (axes * scales)).float()
    outline.remember(whitened[greedy_coreset(whitened, min(ROWS, len(whitened)), seed)])
