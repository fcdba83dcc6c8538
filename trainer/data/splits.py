"""Which normal parts train, and which only validate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from edge.errors import DataError
from edge.frames.dataset import Dataset, Sample
from edge.types import Frame

HELD_OUT = 0.2  # of the training parts, where a set has no validation split


def normal_splits(dataset: Dataset, seed: int) -> tuple[list[Sample], list[Sample]]:
    """(training, validation) samples, normal parts only, in reading order.

    Without a validation split a fifth of the training parts, drawn by seed, validates; at least one of each.
    Raises: DataError if fewer than two normal parts are there.
    """
    train = [sample for sample in dataset.split("train") or dataset.split("") if not sample.is_defective]
    validation = [sample for sample in dataset.split("validation") if not sample.is_defective]
    if len(train) + len(validation) < 2 or not train:
        raise DataError(
            f"{dataset.root} has {len(train)} normal training images: expected at least two in "
            f"{dataset.root / 'train' / 'good'}"
        )
    if validation:
        return train, validation
    order = np.random.default_rng(seed).permutation(len(train))
    held = set(order[: max(1, round(HELD_OUT * len(train)))].tolist())
    return (
        [sample for number, sample in enumerate(train) if number not in held],
        [sample for number, sample in enumerate(train) if number in held],
    )


def digest_of(samples: Sequence[Sample]) -> str:
    """Hex SHA-256 over names and pixels, whatever files they came from."""
    return digest_of_frames((sample.name, sample.load()) for sample in samples)


def digest_of_frames(frames: Iterable[tuple[str, Frame]]) -> str:
    """Hex SHA-256 over (name, frame): color and depth bytes, unit and intrinsics."""
    digest = hashlib.sha256()
    for name, frame in frames:
        digest.update(f"{name} {frame.unit} {frame.intrinsics}".encode())
        digest.update(np.ascontiguousarray(frame.color).tobytes())
        if frame.depth is not None:
            digest.update(np.ascontiguousarray(frame.depth).tobytes())
    return digest.hexdigest()
