"""Data sets on disk: recognize the layout at a path and list its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.errors import DataError
from edge.frames import archive, btad, folder, mvtec, photos, recording, visa
from edge.frames.camera_info import CameraInfo
from edge.frames.leftovers import Layout, require_no_leftovers
from edge.frames.listing import (
    IMAGE_SUFFIXES,
    OTHER_DEPTH,
    OTHER_IMAGES,
    folders_in,
    images_in,
    plain,
)
from edge.frames.reading import AS_IS, Reading
from edge.frames.recording import RECORDING_SUFFIXES
from edge.frames.sample import Read, Sample

__all__ = ["CameraInfo", "Dataset", "Sample", "find_products", "open_dataset"]

DEEPEST_SUBFOLDER = 3  # PRODUCT/test/dent/rgb, CATEGORY/Data/Images/Normal
SPLIT_FOLDERS = ("train", "validation", "val", "valid", "test", "Data")
IN_SPLITS = frozenset(map(plain, SPLIT_FOLDERS))


@dataclass(frozen=True)
class Dataset:
    """The images of one product, in reading order.

    has_depth: whether all samples have depth; otherwise none has. notes: how the files were
    interpreted, in sentences that `train` and `inspect` print.
    """

    root: Path
    product: str
    layout: Layout
    samples: tuple[Sample, ...]
    has_depth: bool
    camera: CameraInfo
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> list[Sample]:
        """The samples of "train", "validation" or "test"; empty if the set has no such split."""
        return [sample for sample in self.samples if sample.split == name]


Reader = Callable[[Path, Reading], Read]
PRODUCTS: tuple[tuple[Layout, Callable[[Path], bool], Reader], ...] = (
    ("visa", visa.is_visa, visa.read_visa),
    ("btad", btad.is_btad, btad.read_btad),
    ("mvtec3d", mvtec.is_mvtec3d, mvtec.read_mvtec3d),
    ("mvtec", mvtec.is_mvtec, mvtec.read_mvtec),
)
LAYOUTS: tuple[tuple[Layout, Callable[[Path], bool], Reader], ...] = (
    *PRODUCTS,
    ("archive", archive.is_archive, archive.read_archive),
    ("folder", folder.is_folder, folder.read_folder),
)


def open_dataset(path: Path, reading: Reading = AS_IS) -> Dataset:
    """The data set at `path`: a product, one of its sub-folders (test, test/dent), frames, photos,
    a recording, or one image.

    Raises: DataError naming what is missing, unpaired, empty, unreadable or of an unsupported kind.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    return _open_file(path, reading) if path.is_file() else _open_folder(path, reading)


def find_products(path: Path) -> list[Path]:
    """The product folder itself, or the product folders directly inside it, by name.

    Empty without any.
    """
    if _is_product(path):
        return [path]
    return [child for child in folders_in(path) if _is_product(child)]


def _is_product(path: Path) -> bool:
    return path.is_dir() and any(known(path) for _, known, _ in PRODUCTS)


def _open_folder(path: Path, reading: Reading) -> Dataset:
    dataset = _open_known(path, path, reading) or _open_above(path, reading)
    if dataset is not None:
        return dataset
    if photos.is_rgb_folder(path):
        roots = (path, *path.resolve().parents[:2])
        camera_root = next((root for root in roots if (root / "camera.json").is_file()), path)
        dataset = _dataset(path, "rgb", photos.read_rgb_folder(path, camera_root, reading))
        require_no_leftovers(path, dataset.layout, dataset.samples, dataset.camera)
        return dataset
    products = find_products(path)
    if products:
        names = ", ".join(product.name for product in products)
        raise DataError(
            f"{path} holds several products ({names}): name one of them, such as {products[0]}"
        )
    if photos.is_photos(path):
        return _dataset(path, "photos", photos.read_photos(path, reading))
    if (path / "intrinsics.json").is_file() and not any(folders_in(path)):
        # raises an error that names the missing frames
        return _dataset(path, "folder", folder.read_folder(path, reading))
    images_in(path)  # raises an error that names a file that cannot be read
    raise DataError(
        f"{path} holds no known layout: expected images directly in it or in {path / 'good'},"
        " train/good and test (MVTec AD, MVTec 3D-AD), train/ok (BTAD), Data/Images (VisA), rgb"
        " and xyz, NNNN_color.png frames, or a .db3"
    )


def _open_known(root: Path, shown: Path, reading: Reading) -> Dataset | None:
    """The data set with its root at `root`, whose folder names show the layout.

    shown: the path as the user wrote it.
    """
    for layout, known, read in LAYOUTS:
        if known(root):
            dataset = _dataset(shown, layout, read(root, reading))
            require_no_leftovers(root, layout, dataset.samples, dataset.camera)
            return dataset
    return None


def _open_above(path: Path, reading: Reading) -> Dataset | None:
    """The images below `path`, a sub-folder of a product; None if no product contains it."""
    inside = path.resolve()
    for root in inside.parents[:DEEPEST_SUBFOLDER]:
        if plain(inside.relative_to(root).parts[0]) not in IN_SPLITS or not _is_product(root):
            continue
        dataset = _open_known(root, root, reading)
        restricted = None if dataset is None else _restricted(dataset, inside)
        if restricted is not None and restricted.samples:
            return restricted
    return None


def _open_file(path: Path, reading: Reading) -> Dataset:
    suffix = path.suffix.lower()
    if suffix in RECORDING_SUFFIXES:
        return _dataset(path, "recording", (*recording.read_recording(path), ()), path.stem)
    if suffix not in IMAGE_SUFFIXES:
        if suffix in OTHER_IMAGES | OTHER_DEPTH:
            raise DataError(
                f"{path}: {suffix[1:].upper()} files are not read: save it as PNG or JPEG"
            )
        known = ", ".join((*IMAGE_SUFFIXES, *RECORDING_SUFFIXES))
        raise DataError(
            f"{path} is a file, expected a folder of images, an image or a recording ({known})"
        )
    around = path.resolve().parent
    dataset = _open_known(around, around, reading) or _open_above(around, reading)
    if dataset is not None:
        restricted = _restricted(dataset, path.resolve())
        if restricted.samples:
            return restricted
    return _dataset(path, "photos", photos.read_photo(path, reading), path.stem)


def _dataset(root: Path, layout: Layout, read: Read, product: str | None = None) -> Dataset:
    samples, camera, has_depth, notes = read
    return Dataset(
        root, product or root.resolve().name, layout, tuple(samples), has_depth, camera, notes
    )


def _restricted(dataset: Dataset, inside: Path) -> Dataset:
    """The samples whose color image is `inside`, or lies below it."""
    samples = tuple(
        sample
        for sample in dataset.samples
        if inside in (one := sample.path.resolve(), *one.parents)
    )
    return Dataset(
        dataset.root,
        dataset.product,
        dataset.layout,
        samples,
        dataset.has_depth,
        dataset.camera,
        dataset.notes,
    )
