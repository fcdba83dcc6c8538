"""The normal parts of a product, as the graph's own preprocessing gives them: what every training starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge.frames.dataset import Dataset, Sample, open_dataset
from trainer.data.scene import Scene, measure_scene
from trainer.data.splits import digest_of, normal_splits
from trainer.graph.preprocess import Prepared, Preprocess
from trainer.systems.base import WorkingSizes


@dataclass(frozen=True)
class NormalParts:
    """Normal training and validation parts of a product, with the geometry around them.

    sizes: what the crop is reduced to; its depth is None where depth is not used.
    """

    dataset: Dataset
    train: list[Sample]
    validation: list[Sample]
    sizes: WorkingSizes
    scene: Scene

    def sha256(self) -> str:
        """Of names and pixels of all of them, which are read for it."""
        return digest_of([*self.train, *self.validation])

    def preprocess(self) -> Preprocess:
        """The graph's own, for this crop and these sizes."""
        return Preprocess(self.scene.crop[3], self.scene.crop[2], self.sizes.color, self.sizes.depth)


def normal_parts(
    product: Path, seed: int, with_depth: bool, sizes_of: Callable[[int, int, bool], WorkingSizes]
) -> NormalParts:
    """Read the product's lists and measure its scene.

    seed: of the split, where the product has no validation parts of its own. with_depth: use depth if there is any.
    sizes_of: (height, width of the crop in pixels, whether depth is used) -> working sizes.
    Raises: DataError for an unusable product.
    """
    dataset = open_dataset(product)
    train, validation = normal_splits(dataset, seed)
    with_depth = dataset.has_depth and with_depth
    crop = dataset.camera.crop or (0, 0, dataset.camera.width, dataset.camera.height)
    sizes = sizes_of(crop[3], crop[2], with_depth)
    return NormalParts(dataset, train, validation, sizes, measure_scene(dataset, train, with_depth, sizes.depth))


@torch.no_grad()
def prepare(preprocess: Preprocess, feeds: Mapping[str, NDArray[np.generic]]) -> Prepared:
    """The graph's own preprocessing on graph inputs, batch 1."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
    rows = {name: tensors[name].reshape(-1, 4) for name in ("intrinsics", "plane") if name in tensors}
    prepared: Prepared = preprocess(
        tensors["color"],
        tensors.get("depth"),
        tensors["region"],
        tensors.get("unit"),
        rows.get("intrinsics"),
        rows.get("plane"),
        tensors.get("lift"),
    )
    return prepared
