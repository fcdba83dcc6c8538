"""The normal parts of a product, as the graph's own preprocessing gives them: what every training
starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge.errors import DataError
from edge.frames.dataset import Dataset, open_dataset
from edge.frames.images import largest_value
from edge.frames.reading import AS_IS, Reading
from edge.frames.sample import ImageFiles, Sample
from trainer.data.scene import Scene, measure_scene, require_readings
from trainer.data.splits import (
    candidates,
    digest_of,
    digest_of_pixels,
    normal_splits,
    require_enough,
)
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.progress import progress

OTHER_SCALE = 8  # times as bright: good parts differ less, values that are aligned otherwise more
COLOR_BITS = (10, 12, 14, 16)  # of industrial cameras, whose values are often kept in 16


@dataclass(frozen=True)
class NormalParts:
    """Normal training and validation parts of a product, with the geometry around them.

    sizes: what the crop is reduced to; its depth is None where depth is not used. reading: how the
    files were read.
    digests: of the pixels of each part, training parts first. notes: sentences for the user about
    the data.
    """

    dataset: Dataset
    train: list[Sample]
    validation: list[Sample]
    sizes: WorkingSizes
    scene: Scene
    reading: Reading = AS_IS
    digests: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def sha256(self) -> str:
        """Of names and pixels of all of them, which are read for it."""
        return digest_of([*self.train, *self.validation])

    def preprocess(self) -> Preprocess:
        """The graph's own, for this crop and these sizes."""
        return Preprocess(
            self.scene.crop[3],
            self.scene.crop[2],
            self.sizes.color,
            self.sizes.depth,
            self.scene.speck,
        )


def normal_parts(
    product: Path,
    seed: int,
    with_depth: bool,
    sizes_of: Callable[[int, int, bool], WorkingSizes],
    size: tuple[int, int] | None = None,
) -> NormalParts:
    """Read the product's lists and measure its scene.

    seed: of the split, where the product has no validation parts of its own. with_depth: use depth
    if there is any.
    sizes_of: (height, width of the crop in pixels, whether depth is used) -> working sizes. size:
    (width, height) that every image is letterboxed to; None: they have one size.
    Raises: DataError for an unusable product.
    """
    dataset, reading = _opened(product, size)
    notes = list(dataset.notes)
    if reading.color_bits is not None:
        notes.append(f"16-bit color, {reading.color_bits} bits of it used")
    with_depth = dataset.has_depth and with_depth
    train, validation = candidates(dataset)
    read = progress([*train, *validation], "reading the normal images")
    digests = {sample.name: _digest(sample, with_depth) for sample in read}
    train, validation, copies = normal_splits(dataset, seed, digests)
    notes += _copies_note(copies)
    crop = dataset.camera.crop or (0, 0, dataset.camera.width, dataset.camera.height)
    sizes = sizes_of(crop[3], crop[2], with_depth)
    scene = measure_scene(dataset, train, with_depth, sizes.depth)
    used = tuple(digests[sample.name] for sample in (*train, *validation))
    return NormalParts(dataset, train, validation, sizes, scene, reading, used, tuple(notes))


def _opened(product: Path, size: tuple[int, int] | None) -> tuple[Dataset, Reading]:
    """The set, and how its files are read: 16-bit color takes a second look."""
    reading = Reading(size)
    dataset = open_dataset(product, reading)
    train, validation = candidates(dataset)
    require_enough(dataset, len(train))
    bits = dataset.camera.color_bits or _color_bits([*train, *validation])
    if bits is None:
        return dataset, reading
    reading = Reading(size, bits)
    return open_dataset(product, reading), reading


def _copies_note(copies: Sequence[tuple[Sample, Sample]]) -> list[str]:
    """What to tell of exact copies, (copy, original) pairs."""
    if not copies:
        return []
    copy, original = copies[0]
    more = f" ({len(copies)} such copies)" if len(copies) > 1 else ""
    return [f"{copy.path} is an exact copy of {original.path}{more}: each picture is used once"]


def _color_bits(samples: Sequence[Sample]) -> int | None:
    """How many bits the values of all 16-bit color images together need; None if every image has 8
    bits.

    Raises: DataError naming two files that cannot be of one camera: 8 bits and 16, or values of
    other magnitudes.
    """
    files = [sample.path for sample in samples if isinstance(sample.source, ImageFiles)]
    largest = {path: largest_value(path) for path in files}
    wide = {path: value for path, value in largest.items() if value}
    if not wide:
        return None
    narrow = next((path for path in files if path not in wide), None)
    brightest, darkest = max(wide, key=wide.__getitem__), min(wide, key=wide.__getitem__)
    if narrow is not None:
        raise DataError(
            f"{brightest} has 16 bits, {narrow} has 8: is one of them depth, or of another camera?"
        )
    if wide[brightest] <= 255:
        raise DataError(
            f"{brightest} keeps 8-bit values (at most {wide[brightest]}) in 16 bits: save 8-bit"
            " images"
        )
    if wide[brightest] > OTHER_SCALE * wide[darkest]:
        raise DataError(
            f"{brightest} has values up to {wide[brightest]}, {darkest} up to {wide[darkest]}: they"
            " are not scaled alike; save all as the camera gives them"
        )
    return next(bits for bits in COLOR_BITS if wide[brightest] < 1 << bits)


def _digest(sample: Sample, with_depth: bool) -> str:
    """Of the pixels.

    Raises: DataError for a part without depth: a training must not take it for one that is flat.
    """
    frame = sample.load()
    if with_depth and frame.depth is not None:
        require_readings(frame.depth, sample.path, frame.unit)
    return digest_of_pixels(frame)


@torch.no_grad()
def prepare(
    preprocess: Preprocess, feeds: Mapping[str, NDArray[np.generic]], *, posed: bool = True
) -> Prepared:
    """The graph's own preprocessing on graph inputs, batch 1.

    posed: as the detector sees it; otherwise as the camera does.
    """
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in feeds.items()}
    return preprocess.prepared(tensors) if posed else preprocess.as_shown(tensors)
