"""Defective images whose pixels are exactly those of a part that was trained on as a good one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edge.errors import DataError
from edge.frames.dataset import Dataset
from edge.frames.sample import Sample
from trainer.data.splits import digest_of_pixels


def copies_note(copies: Sequence[Sample]) -> list[str]:
    """What to tell of images that are left out because they trained or validated the run."""
    if not copies:
        return []
    several = "s are" if len(copies) > 1 else " is"
    notes = [
        f"{len(copies)} image{several} left out, the first is {copies[0].name}: the same pixels"
        " trained or validated this run"
    ]
    contrary = [copy.name for copy in copies if copy.is_defective]
    if contrary:
        notes.append(
            f"{contrary[0]} is called defective here and was trained on as a good part: correct one"
            " of them"
        )
    return notes


def without_known(dataset: Dataset, digests: Sequence[str], tell: Callable[[str], None]) -> Dataset:
    """The set without defective images whose pixels trained or validated: what was learned as good
    proves nothing.

    digests: of the pixels of the training and validation parts. tell: takes what was left out. An
    image that cannot be read stays: judging it reports that.
    """
    known = set(digests)
    copies = [
        sample for sample in dataset.samples if sample.is_defective and _is_among(sample, known)
    ]
    for note in copies_note(copies):
        tell(note)
    names = {copy.name for copy in copies}
    return replace(
        dataset, samples=tuple(sample for sample in dataset.samples if sample.name not in names)
    )


def _is_among(sample: Sample, known: set[str]) -> bool:
    try:
        return digest_of_pixels(sample.load()) in known
    except DataError:
        return False
