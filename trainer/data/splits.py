"""Which normal parts train, and which only validate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from edge.errors import DataError
from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from edge.types import Frame
from trainer.progress import progress

HELD_OUT = 0.2  # of the training parts, where a set has no validation split
LEAST_TRAIN = 4  # normal images: of fewer, no detector can tell what is usual


def candidates(dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    """(normal training parts, normal validation parts) of the set's own folders, in reading
    order.
    """
    train = [
        sample for sample in dataset.split("train") or dataset.split("") if not sample.is_defective
    ]
    return train, [sample for sample in dataset.split("validation") if not sample.is_defective]


def normal_splits(
    dataset: Dataset, seed: int, digests: Mapping[str, str]
) -> tuple[list[Sample], list[Sample], list[tuple[Sample, Sample]]]:
    """(training samples, validation samples, (copy, original) pairs that are left out), in reading
    order.

    Without a validation split a fifth of the training parts, chosen by seed, validates; at least
    one.

    Args:
        digests: name -> digest of the pixels: each picture is used once.
    Raises: DataError if fewer than LEAST_TRAIN normal training images are there.
    """
    train, validation = candidates(dataset)
    kept, copies = without_copies([*train, *validation], digests)
    chosen = {sample.name for sample in kept}
    train = [sample for sample in train if sample.name in chosen]
    validation = [sample for sample in validation if sample.name in chosen]
    require_enough(dataset, len(train), len(copies))
    if validation:
        return train, validation, copies
    order = np.random.default_rng(seed).permutation(len(train))
    held = set(order[: max(1, round(HELD_OUT * len(train)))].tolist())
    return (
        [sample for number, sample in enumerate(train) if number not in held],
        [sample for number, sample in enumerate(train) if number in held],
        copies,
    )


def require_enough(dataset: Dataset, count: int, copies: int = 0) -> None:
    """Raises: DataError if `count` normal training images, `copies` left out, are too few to train
    on.
    """
    if count >= LEAST_TRAIN:
        return
    where = (
        dataset.root / "train" / "good" if dataset.layout in ("mvtec", "mvtec3d") else dataset.root
    )
    left = f" (after leaving out {copies} exact copies)" if copies else ""
    images = "image" if count == 1 else "images"
    raise DataError(
        f"{dataset.root} has {count} normal training {images}{left}: at least {LEAST_TRAIN} are"
        f" needed in {where}, and some dozens for a threshold that promises something"
    )


def without_copies(
    samples: Sequence[Sample], digests: Mapping[str, str]
) -> tuple[list[Sample], list[tuple[Sample, Sample]]]:
    """(samples whose pixels occur for the first time, pairs of an exact copy and the sample that it
    repeats).
    """
    first: dict[str, Sample] = {}
    copies: list[tuple[Sample, Sample]] = []
    for sample in samples:
        original = first.setdefault(digests[sample.name], sample)
        if original is not sample:
            copies.append((sample, original))
    return list(first.values()), copies


def digest_of_pixels(frame: Frame) -> str:
    """Hex SHA-256 of color and depth, whatever the image is called: equal for exact copies."""
    digest = hashlib.sha256(np.ascontiguousarray(frame.color).tobytes())
    if frame.depth is not None:
        digest.update(np.ascontiguousarray(frame.depth).tobytes())
    return digest.hexdigest()


def digest_of(samples: Sequence[Sample]) -> str:
    """Hex SHA-256 over names and pixels, whatever files they came from."""
    shown = progress(samples, "hashing the images")
    return digest_of_frames((sample.name, sample.load()) for sample in shown)


def digest_of_frames(frames: Iterable[tuple[str, Frame]]) -> str:
    """Hex SHA-256 over (name, frame): color and depth bytes, unit and intrinsics."""
    digest = hashlib.sha256()
    for name, frame in frames:
        digest.update(f"{name} {frame.unit} {frame.intrinsics}".encode())
        digest.update(np.ascontiguousarray(frame.color).tobytes())
        if frame.depth is not None:
            digest.update(np.ascontiguousarray(frame.depth).tobytes())
    return digest.hexdigest()
