"""Which images of a folder a run judges, and whether the folder has the data that the run was
trained on.

Own data     its test images; where none of them is good, the validation parts count as the good
             ones
Other data   all images
Both         without exact copies of the images that the run was trained or validated with
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import DataError
from edge.frames.dataset import Dataset, open_images
from edge.frames.sample import Sample
from trainer.data.copies import copies_note
from trainer.data.defects import (
    by_class,
    defects_note,
    require_defects_folder,
    require_fit,
    with_defects,
)
from trainer.data.splits import digest_of_frames, digest_of_pixels
from trainer.train.run_info import RunInfo
from trainer.train.validation import counted_parts

HOW_TO_NAME_DATA = "as in `trainer evaluate RUN DATA`"
STAND_IN = (
    "there are no good test images, so the {} as the good ones: they set the threshold, so the"
    " share of them that is rejected is no estimate for later parts"
)


@dataclass(frozen=True, eq=False)
class Judged:
    """The images that a run judges.

    folder: that was named, absolute. dataset: in it, with the defective images that were given
    beside it. own: whether the run was trained on it. samples: to judge, not empty. stand_in:
    whether the good ones are validation parts.
    defects: folder of those defective images, None without. notes: sentences for the reader of the
    result.
    """

    folder: Path
    dataset: Dataset
    own: bool
    samples: tuple[Sample, ...]
    stand_in: bool = False
    defects: Path | None = None
    notes: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What is judged, before it takes its time."""
        good = len(self.good)
        parts = [f"{good} good part{'s' * (good != 1)}"] if good else []
        parts += [by_class(self.samples)] if self.defective else []
        return f"judging {' and '.join(parts)} of {self.folder}"

    @property
    def good(self) -> list[Sample]:
        """The good parts among them."""
        return [sample for sample in self.samples if not sample.is_defective]

    @property
    def defective(self) -> list[Sample]:
        """The defective parts among them."""
        return [sample for sample in self.samples if sample.is_defective]


def open_judged(info: RunInfo, data: Path | None = None, defects: Path | None = None) -> Judged:
    """What the run judges of a folder.

    Args:
        data: None takes what the run was trained on. defects: a folder of defective images beside
            it; None takes, for the run's own data, the folder that the training named.
    Raises: DataError if there is nothing to judge, an image cannot be read or does not fit the run,
        or the data of the run is gone or has changed since the training; ConfigError if `defects`
        is no folder.
    """
    require_defects_folder(defects)
    folder = data_folder(info, data, HOW_TO_NAME_DATA)
    dataset = open_images(folder, info.reading())
    require_fit(dataset, info.camera, info.with_depth)
    own = _is_own(info, folder, dataset)
    return _judged(info, folder, dataset, own, defects)


def open_own(info: RunInfo, data: Path | None = None, defects: Path | None = None) -> Judged:
    """As `open_judged`, of the data that the run was trained on, wherever it is now.

    Raises: as `open_judged`, and DataError if it is other data.
    """
    require_defects_folder(defects)
    folder = data_folder(info, data, "with --data")
    dataset = open_images(folder, info.reading())
    change = first_change(info, dataset)
    if change and folder == Path(info.data).resolve():
        raise DataError(_changed(folder, change))
    if change:
        raise DataError(
            f"{folder} is not the data of this run ({change}): name with --data what it was"
            " trained on"
        )
    return _judged(info, folder, dataset, True, defects)


def data_folder(info: RunInfo, data: Path | None, how: str) -> Path:
    """The folder of the images, absolute. how: to name another one.

    Raises: DataError if it is gone; reads no image.
    """
    folder = (data or Path(info.data)).resolve()
    if data is None and not folder.exists():
        raise DataError(
            f"{folder}, which the run was trained on, is gone: name the folder where it is now"
            f" {how}"
        )
    if not folder.exists():
        raise DataError(f"{data} does not exist: check the path")
    return folder


def first_change(info: RunInfo, dataset: Dataset) -> str | None:
    """The first difference between the set and the images that the run was trained and validated
    with; None without one.
    """
    by_name = {sample.name: sample for sample in dataset.samples}
    names = [*info.train, *info.validation]
    missing = next((name for name in names if name not in by_name), None)
    if missing is not None:
        return f"{missing} is missing"
    if digest_of_frames((name, by_name[name].load()) for name in names) == info.data_sha256:
        return None
    pixels = zip(names, info.digests, strict=False)  # none in a run of an older version
    other = next(
        (name for name, digest in pixels if digest_of_pixels(by_name[name].load()) != digest), None
    )
    return (
        f"{other} is another image"
        if other
        else "the depth unit, the intrinsics or an image differ"
    )


def _is_own(info: RunInfo, folder: Path, dataset: Dataset) -> bool:
    """By its path, or, of a folder that has moved, by product and pixels.

    Raises: DataError if it has changed.
    """
    if folder != Path(info.data).resolve():
        return dataset.product == info.product and first_change(info, dataset) is None
    change = first_change(info, dataset)
    if change:
        raise DataError(_changed(folder, change))
    return True


def _changed(folder: Path, change: str) -> str:
    return (
        f"{folder} has changed since the training ({change}): put the images back, or train again"
    )


def _judged(info: RunInfo, folder: Path, dataset: Dataset, own: bool, given: Path | None) -> Judged:
    defects, notes = _defects_folder(info, own, given)
    if defects is not None:
        dataset = with_defects(dataset, defects, info.reading(), info.with_depth)
        notes.append(defects_note(dataset, defects))
    candidates = _candidates(info, dataset, own)
    known = [sample for sample in candidates if not _is_of_unknown_truth(sample)]
    samples, copies = _without_copies(info, known)
    stand_in = own and all(sample.is_defective for sample in samples)
    if stand_in:
        validation = set(info.validation)
        samples = [*(sample for sample in dataset.samples if sample.name in validation), *samples]
    if not samples:
        raise DataError(
            f"{folder} holds nothing to judge: its images trained or validated this run, or have no"
            " label"
        )
    notes = [*dataset.notes, *notes, *copies_note(copies), *_unknown_note(candidates)]
    notes += [] if own else _unlabeled_note(samples)
    if stand_in:
        notes.append(STAND_IN.format(counted_parts(len(info.validation), "counts count")))
    return Judged(folder, dataset, own, tuple(samples), stand_in, defects, tuple(notes))


def _defects_folder(info: RunInfo, own: bool, given: Path | None) -> tuple[Path | None, list[str]]:
    """(the folder, absolute, None without one; a sentence if the one that the training named is
    gone).
    """
    if given is not None:
        return given.resolve(), []
    if not own or info.defects is None:
        return None, []
    remembered = Path(info.defects)
    if remembered.is_dir():
        return remembered, []
    return None, [
        f"{remembered}, the folder of defective images that was named at training, is gone: they do"
        " not count; name it with --defects"
    ]


def _candidates(info: RunInfo, dataset: Dataset, own: bool) -> list[Sample]:
    """Of the run's own data the test images, and what has come into a folder without splits since
    the training.
    """
    if not own:
        return list(dataset.samples)
    used = {*info.train, *info.validation}
    return [
        sample
        for sample in dataset.samples
        if sample.split == "test" or (sample.split == "" and sample.name not in used)
    ]


def _is_of_unknown_truth(sample: Sample) -> bool:
    """A test image without a label: directly in test/, or UNKNOWN to the station that kept it."""
    return sample.split == "test" and not sample.defect


def _unknown_note(candidates: Sequence[Sample]) -> list[str]:
    count = sum(map(_is_of_unknown_truth, candidates))
    return (
        [f"{count} test images count as neither good nor defective: they have no label"]
        if count
        else []
    )


def _without_copies(info: RunInfo, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """(the images that are new to the run, those whose pixels trained or validated it)."""
    known = set(info.digests)
    kept: list[Sample] = []
    copies: list[Sample] = []
    for sample in samples:
        seen = bool(known) and digest_of_pixels(sample.load()) in known
        (copies if seen else kept).append(sample)
    return kept, copies


def _unlabeled_note(samples: Sequence[Sample]) -> list[str]:
    count = sum(sample.defect == "" for sample in samples)
    if not count:
        return []
    return [
        f"{count} of the images have no label and count as good parts: name a folder of defective"
        " ones with --defects, or put them in a sub-folder"
    ]
