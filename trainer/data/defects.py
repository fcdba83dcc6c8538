"""Defective images that the user names beside a product's data: they are never trained on, and
count wherever defects count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edge.errors import ConfigError, DataError
from edge.frames.camera_info import CameraInfo
from edge.frames.dataset import Dataset, open_images
from edge.frames.listing import is_good
from edge.frames.reading import Reading
from edge.frames.sample import Sample

PREFIX = "defects/"  # of the names of these images
UNNAMED = "defect"  # the class of an image that lies in no folder of its own


def require_defects_folder(folder: Path | None) -> None:
    """Raises: ConfigError if `--defects` names no folder. Reads no image."""
    if folder is not None and not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ConfigError(
            f"--defects {folder} {what}: name a folder of images, or of a sub-folder per defect"
            " type"
        )


def with_defects(dataset: Dataset, folder: Path, reading: Reading, with_depth: bool) -> Dataset:
    """The set and, as test images, the defective images of `folder`, but those that the set has
    itself.

    Everything there counts as defective that does not lie in a folder of good parts; its class is
    the sub-folder's name or UNNAMED. Masks count where the layout has them.

    Args:
        reading: how the set's own images are read. with_depth: whether the run uses depth.
    Raises: ConfigError if it is no folder; DataError if there is no defective image, one cannot be
        read, or they do not fit the set.
    """
    require_defects_folder(folder)
    given = open_images(folder, reading)
    require_fit(given, dataset.camera, with_depth)
    found = [
        defect for sample in given.samples if (defect := _as_defect(sample, given)) is not None
    ]
    if not found:
        raise DataError(
            f"--defects {folder} holds no defective image: its {len(given.samples)} images are in"
            " folders of good parts"
        )
    own = {sample.path.resolve() for sample in dataset.samples}
    added = (sample for sample in found if sample.path.resolve() not in own)
    return replace(dataset, samples=(*dataset.samples, *added))


def require_fit(given: Dataset, camera: CameraInfo, with_depth: bool) -> None:
    """Raises: DataError if images are of another size than the product's, or lack the depth that is
    used.
    """
    if with_depth and not given.has_depth:
        raise DataError(
            f"{given.root} has no depth images, and depth is used: add them, or train with"
            " --no-depth"
        )
    if (given.camera.width, given.camera.height) != (camera.width, camera.height):
        raise DataError(
            f"the images in {given.root} are {given.camera.width}x{given.camera.height} pixels,"
            f" those of the training {camera.width}x{camera.height}: take them at that size, or"
            " train with --size WIDTHxHEIGHT"
        )


def by_class(samples: Iterable[Sample]) -> str:
    """How many defective images there are of each class, for a sentence: `7 defective images (dent
    4, scratch 3)`.
    """
    counts = Counter(sample.defect for sample in samples if sample.is_defective)
    total = sum(counts.values())
    listed = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{total} defective image{'s' * (total != 1)}" + (f" ({listed})" if listed else "")


def defects_note(dataset: Dataset, folder: Path) -> str:
    """How many images of the folder count as defective, for terminal and report.

    dataset: as `with_defects` made it.
    """
    inside = [
        sample
        for sample in dataset.samples
        if sample.is_defective and folder.resolve() in sample.path.resolve().parents
    ]
    return f"{by_class(inside)} of {folder.resolve()} count{'s' * (len(inside) == 1)}"


def _as_defect(sample: Sample, given: Dataset) -> Sample | None:
    """The image as a defective test image; None for a good part."""
    if not sample.is_defective and _says_good(sample, given):
        return None
    return replace(
        sample,
        name=PREFIX + sample.name,
        split="test",
        defect=sample.defect if sample.is_defective else UNNAMED,
        truth="unknown" if sample.truth == "clean" else sample.truth,
    )


def _says_good(sample: Sample, given: Dataset) -> bool:
    """Whether a folder's name, or the list of a belt's parts, says that this is a good part."""
    if given.layout == "folder" and sample.defect == "good":
        return True
    inside = sample.path.resolve().relative_to(given.root.resolve()).parent
    return any(is_good(name) for name in inside.parts)
