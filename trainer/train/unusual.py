"""How unusual each patch of an image is among the patches of other images.

The method is described in trainer.train.suspects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from edge.frames.sample import Sample
from trainer.data.choose import spread
from trainer.data.normal import prepare
from trainer.data.scene import Scene
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.progress import progress

MOST_OTHERS, LEAST_OTHERS = 48, 12  # images that every image is compared with
MOST_PAIRS = 5000  # of images compared: more images are compared with fewer others each
CHANNELS = 48  # principal components of the color features that are compared
FOREGROUND = 0.3  # share of a patch that must be foreground
LEAST_LOCAL = 0.25  # local distances below this share of the median count as this share
MOST_SHARE = 1 / 3  # of the images: more that look alike are a kind of normal part

Modality = Literal["color", "height"]
Describe = Callable[[Prepared], Tensor]  # -> (1, C, h, w) features of every patch


@dataclass(frozen=True, eq=False)
class Images:
    """The images as the search sees them, read one at a time."""

    scene: Scene
    preprocess: Preprocess
    samples: Sequence[Sample]

    def read(self, number: int) -> Prepared:
        """One image, prepared. Raises: DataError if it cannot be read."""
        return prepare(self.preprocess, self.scene.feeds_of(self.samples[number]))

    def others(self) -> list[int]:
        """The images that all are compared with, evenly spread."""
        count = len(self.samples)
        most = min(MOST_OTHERS, max(LEAST_OTHERS, MOST_PAIRS // count))
        return spread(range(count), most)


class Comparison:
    """What every image is compared with in one modality."""

    def __init__(self, features: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
        """Choose the axes on which patches are compared, and compare the images with each other.

        Args:
            features: (C, h, w) of each of the M images. masks: (h, w) bool of each.
        """
        rows = torch.cat([_rows(one, mask) for one, mask in zip(features, masks, strict=True)])
        self.mean, self.deviation = rows.mean(dim=0), rows.std(dim=0).clamp(min=1e-9)
        scaled = (rows - self.mean) / self.deviation
        _, axes = torch.linalg.eigh(scaled.T @ scaled)
        self.axes = axes[:, -CHANNELS:]
        self.banks = [self.project(one, mask) for one, mask in zip(features, masks, strict=True)]
        kept = [self._distances(bank, skip=number) for number, bank in enumerate(self.banks)]
        self.own = [distance for distance, _, _ in kept]
        self.least = max(
            LEAST_LOCAL * float(torch.cat(self.own).median()), float(np.finfo(np.float32).tiny)
        )
        self.known = [self._relative(*one) for one in kept]

    def project(self, features: Tensor, mask: Tensor) -> Tensor:
        """(C, h, w) -> (P, CHANNELS), the patches in the mask."""
        return cast(Tensor, ((_rows(features, mask) - self.mean) / self.deviation) @ self.axes)

    def unusual(self, patches: Tensor) -> Tensor:
        """(P,) how unusual the patches of an image are that is not one of the others."""
        return self._relative(*self._distances(patches))

    def _distances(
        self, patches: Tensor, skip: int | None = None
    ) -> tuple[Tensor, list[int], Tensor]:
        """((P,) distances, the M others compared with, (M, P) the nearest patch of each).

        skip: not this other.
        """
        compared = [number for number in range(len(self.banks)) if number != skip]
        squares = (patches * patches).sum(dim=1)
        nearest = []
        for number in compared:
            bank = self.banks[number]
            # (P, rows of the bank)
            partial = torch.addmm((bank * bank).sum(dim=1)[None], patches, bank.T, alpha=-2)
            nearest.append(partial.min(dim=1))
        distances = torch.stack([values for values, _ in nearest]) + squares  # (M, P), squared
        m = max(1, math.ceil(MOST_SHARE * len(compared)))
        distance = distances.kthvalue(m, dim=0).values.clamp(min=0).sqrt()
        return distance, compared, torch.stack([rows for _, rows in nearest])

    def _relative(self, distance: Tensor, compared: list[int], nearest: Tensor) -> Tensor:
        """(P,) the distances relative to those of the patches that are nearest, the median over the
        others.
        """
        local = torch.stack(
            [self.own[number][rows] for number, rows in zip(compared, nearest, strict=True)]
        )
        return distance / local.median(dim=0).values.clamp(min=self.least)


class _Described(NamedTuple):
    """Features of one image, (C, h, w) of each modality, and its mask (h, w) bool."""

    features: dict[Modality, Tensor]
    mask: Tensor


@torch.no_grad()
def unusual_maps(
    images: Images, describers: Mapping[Modality, Describe]
) -> dict[Modality, list[NDArray[np.float32]]]:
    """Of every modality and image: (h, w) how unusual each patch is, 0 where nothing is compared.

    Args:
        describers: what gives the features of each modality.
    """
    numbers = images.others()
    others = [
        _described(images.read(number), describers)
        for number in progress(numbers, "describing the normal images")
    ]
    masks = [other.mask for other in others]
    comparisons = {
        modality: Comparison([other.features[modality] for other in others], masks)
        for modality in describers
    }
    place_of = {number: place for place, number in enumerate(numbers)}
    maps: dict[Modality, list[NDArray[np.float32]]] = {modality: [] for modality in describers}
    for number in progress(range(len(images.samples)), "comparing the normal images"):
        place = place_of.get(number)
        own = _described(images.read(number), describers) if place is None else others[place]
        for modality, comparison in comparisons.items():
            if place is None:
                patches = comparison.project(own.features[modality], own.mask)
                values = comparison.unusual(patches)
            else:
                values = comparison.known[place]
            maps[modality].append(_spread_out(values, own.mask))
    return maps


def _described(prepared: Prepared, describers: Mapping[Modality, Describe]) -> _Described:
    features = {modality: describe(prepared)[0] for modality, describe in describers.items()}
    return _Described(features, _mask(prepared, next(iter(features.values()))))


def _mask(prepared: Prepared, features: Tensor) -> Tensor:
    """(h, w) bool: the patches of the part; all of them where no part stands above the
    background.
    """
    size = (features.shape[1], features.shape[2])
    mask = functional.adaptive_avg_pool2d(prepared.foreground, size)[0, 0] > FOREGROUND
    return mask if bool(mask.any()) else torch.ones_like(mask)


def _rows(features: Tensor, mask: Tensor) -> Tensor:
    """(C, h, w) -> (P, C), the patches in the mask."""
    return features.permute(1, 2, 0)[mask]


def _spread_out(values: Tensor, mask: Tensor) -> NDArray[np.float32]:
    """(P,) back to (h, w)."""
    whole = torch.zeros(mask.shape)
    whole[mask] = values
    return np.asarray(whole.numpy(), np.float32)
