"""What a system trains on: prepared normal images, augmented, and a cache for whatever is computed
once from them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from edge.files import write_atomically
from trainer.data.augment import Augmentation, augmented
from trainer.graph.prepared import Prepared
from trainer.progress import progress
from trainer.tensor_files import load_stored


@dataclass(frozen=True)
class TrainingImages:
    """Normal images as the graph's own preprocessing gives them, loaded one at a time.

    load: number of an image -> Prepared of batch 1. count: how many. digest: of everything `load`
    depends on (pixels, geometry, sizes). cache: folder for computed features, None computes them
    anew. limits: what becomes of a preset's augmentation for these images.
    """

    load: Callable[[int], Prepared]
    count: int
    digest: str
    cache: Path | None = None
    limits: Callable[[Augmentation], Augmentation] = lambda asked: asked

    def each(self) -> Iterator[tuple[int, Prepared]]:
        """(number, image) of every image; how far it is gets shown, for what is computed from each
        may take long.
        """
        for number in progress(range(self.count), "computing from the normal images"):
            yield number, self.load(number)

    def with_copies(self, augmentation: Augmentation, copies: int, seed: int) -> Iterator[Prepared]:
        """Every image once as it is, followed by `copies` augmented ones, as one batch of 1 +
        copies.
        """
        limits = self.limits(augmentation)
        for number, image in self.each():
            varied = [
                augmented(image, limits, seed, number * copies + copy) for copy in range(copies)
            ]
            yield stacked([image, *varied])

    def cached(self, recipe: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of `compute`, from the cache where the same recipe met the same images
        before.
        """
        if self.cache is None:
            return compute()
        key = hashlib.sha256(f"{self.digest} {recipe}".encode()).hexdigest()[:24]
        path = self.cache / f"features-{key}.pt"
        if path.is_file():
            stored: dict[str, Tensor] = load_stored(
                path, "cached features", "remove the file, it is computed again"
            )
            return stored
        tensors = compute()
        self.cache.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        write_atomically(path, buffer.getvalue())
        return tensors


def moved_to(images: Prepared, device: str) -> Prepared:
    """The same batch on another device."""
    moved = [None if tensor is None else tensor.to(device) for tensor in images]
    return Prepared(*cast(list[Tensor], moved))  # None only where a field may be


def stacked(images: list[Prepared]) -> Prepared:
    """One batch of several."""
    joined = [
        None if column[0] is None else torch.cat(column) for column in zip(*images, strict=True)
    ]
    return Prepared(*cast(list[Tensor], joined))  # None only where a field may be
