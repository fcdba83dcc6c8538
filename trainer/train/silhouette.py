"""Fit the normal silhouette (trainer.graph.silhouette) to a product's normal parts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trainer.graph.silhouette import (
    ANGLES,
    FLOOR,
    NormalSilhouette,
    centered_places,
    sampled,
    turned,
)

ROUNDS = 3  # of laying the mean over all parts and taking the mean again
BATCH = 8
# the silhouette lies on itself again after a turn that changes it less, in deviations
UNCHANGED = 0.35


@torch.no_grad()
def fit_silhouette(normal: NormalSilhouette, silhouettes: Tensor, seen: Tensor) -> None:
    """Take mean and deviation of parts (n, 1, hd, wd) that are turned and moved onto each other,
    starting with the part of median size.
    """
    sizes = silhouettes.sum(dim=(1, 2, 3))
    middle = int(sizes.argsort()[len(sizes) // 2])
    first = silhouettes[middle : middle + 1]
    x, y = ((first[0] * places).sum() / first.sum() for places in (normal.x, normal.y))
    aligned = _own(normal, first, torch.stack([torch.zeros(()), x, y])[None])
    for _ in range(ROUNDS):
        normal.take(aligned.mean(dim=0, keepdim=True), torch.zeros_like(normal.deviation))
        aligned = torch.cat(
            [
                _own(normal, some, normal.pose(some, trusted))
                for some, trusted in zip(_batches(silhouettes), _batches(seen), strict=True)
            ]
        )
    mean = aligned.mean(dim=0, keepdim=True)
    deviation = aligned.std(dim=0, correction=0, keepdim=True)
    normal.take(mean, deviation, _turns(mean, deviation))


def _batches(images: Tensor) -> list[Tensor]:
    return [images[start : start + BATCH] for start in range(0, len(images), BATCH)]


def _own(normal: NormalSilhouette, silhouettes: Tensor, pose: Tensor) -> Tensor:
    """Parts in the cells of the normal silhouette, (n, 1, S, S), given their poses (n, 3)."""
    x, y = centered_places(normal.side)
    cos, sin = pose[:, :1, None].cos(), pose[:, :1, None].sin()
    return sampled(
        silhouettes, pose[:, 1:2, None] + cos * x - sin * y, pose[:, 2:, None] + sin * x + cos * y
    )


def _turns(mean: Tensor, deviation: Tensor) -> int:
    """How often the silhouette comes to lie on itself in a full turn."""
    places = centered_places(mean.shape[-1])
    for turns in range(ANGLES, 1, -1):
        if ANGLES % turns:
            continue
        difference = (turned(mean, 2 * torch.pi / turns, *places) - mean).abs()
        unusual = functional.avg_pool2d(difference / (deviation + FLOOR), 3, stride=1, padding=1)
        if float(unusual.max()) < UNCHANGED:
            return turns
    return 1
