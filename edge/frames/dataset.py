"""Data sets on disk: recognize the layout at a path and list its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.errors import DataError
from edge.frames import archive, btad, folder, mvtec, photos, recording, visa
from edge.frames.camera_info import INTRINSICS_FILES, CameraInfo
from edge.frames.leftovers import Layout, require_no_leftovers
from edge.frames.listing import (
    IMAGE_SUFFIXES,
    OTHER_DEPTH,
    OTHER_IMAGES,
    folders_in,
    images_in,
    is_good,
    plain,
)
from edge.frames.reading import AS_IS, Reading
from edge.frames.recording import RECORDING_SUFFIXES
from edge.frames.sample import Read, Sample, Split

__all__ = [
    "CameraInfo",
    "Dataset",
    "Sample",
    "find_products",
    "open_dataset",
    "open_images",
    "require_normal",
]

DEEPEST_SUBFOLDER = 3  # PRODUCT/test/dent/rgb, CATEGORY/Data/Images/Normal
SPLIT_FOLDERS = ("train", "validation", "val", "valid", "test", "Data")
RGB: Layout = "rgb"  # which is also what its folders of color images are called
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


def open_images(path: Path, reading: Reading = AS_IS) -> Dataset:
    """As `open_dataset`, and a folder of nothing but sub-folders, one for each defect type.

    Raises: DataError.
    """
    try:
        return open_dataset(path, reading)
    except DataError:
        if not _holds_only_classes(path):
            raise
    return _dataset(path, "photos", photos.read_photos(path, reading))


def require_normal(dataset: Dataset) -> None:
    """Refuse a set whose folders sort some of its images among the defective ones, where every
    image has to show a normal part. Frames of a stream are not sorted: the truth beside them is a
    test's.

    Raises: DataError that names the folder of the good ones, where there is one.
    """
    bad = [sample for sample in dataset.samples if sample.is_defective]
    if not bad or dataset.layout == "folder":
        return
    kinds = ", ".join(sorted({sample.defect for sample in bad}))
    good = next((sample.path.parent for sample in dataset.samples if sample.defect == "good"), None)
    instead = "a folder of good parts"
    if good is not None and good.resolve() != dataset.root.resolve():
        instead = str(good.parent if good.name == RGB else good)
    raise DataError(
        f"{dataset.root} holds {len(bad)} defective images ({kinds}), normal parts are needed:"
        f" name {instead}"
    )


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
    dataset = _open_rgb(path, path, reading) or _open_beside(path, reading)
    if dataset is not None:
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


def _open_known(
    root: Path, shown: Path, reading: Reading, inside: Path | None = None
) -> Dataset | None:
    """The data set with its root at `root`, whose folder names show the layout.

    shown: the path as the user wrote it. inside: what of it was named, if not all.
    """
    for layout, known, read in LAYOUTS:
        if known(root):
            dataset = _dataset(shown, layout, read(root, reading))
            require_no_leftovers(root, layout, dataset.samples, dataset.camera, inside)
            return dataset
    return None


def _open_above(path: Path, reading: Reading) -> Dataset | None:
    """The images below `path`, a sub-folder of a product; None if no product contains it."""
    inside = path.resolve()
    for root in inside.parents[:DEEPEST_SUBFOLDER]:
        if plain(inside.relative_to(root).parts[0]) not in IN_SPLITS or not _is_product(root):
            continue
        dataset = _open_known(root, root, reading, inside)
        restricted = None if dataset is None else _restricted(dataset, inside)
        if restricted is not None and restricted.samples:
            return restricted
    return None


def _open_rgb(root: Path, shown: Path, reading: Reading) -> Dataset | None:
    """The data set in `root`, which holds rgb/ or folders with rgb/; None if it does not.

    shown: the path as the user wrote it.
    """
    if not photos.is_rgb_folder(root):
        return None
    dataset = _dataset(shown, RGB, photos.read_rgb_folder(root, _camera_root(root), reading))
    require_no_leftovers(root, dataset.layout, dataset.samples, dataset.camera)
    return dataset


def _camera_root(root: Path) -> Path:
    """The folder whose camera.json describes the images in `root`: it, or one of two above it."""
    roots = (root, *root.resolve().parents[:2])
    return next((one for one in roots if (one / "camera.json").is_file()), root)


def _open_beside(path: Path, reading: Reading) -> Dataset | None:
    """The images of a folder rgb with the depth that lies beside it; None for any other folder.

    Raises: DataError for the folder of depth itself.
    """
    inside = path.resolve()
    home = inside.parent
    if inside.name in mvtec.DEPTH_FOLDERS and (home / RGB).is_dir():
        raise DataError(f"{path} holds depth alone: name {home}, which has its color images too")
    if inside.name != RGB or not _has_known_depth(home):
        return None
    groups: list[tuple[Split, Path, str]] = [("", home, "good")]
    return _dataset(home, RGB, mvtec.read_groups(home, groups, reading, _camera_root(home)))


def _has_known_depth(folder: Path) -> bool:
    """Whether there are point clouds, or counts and a file that says what they mean."""
    if (folder / "xyz").is_dir():
        return True
    names = ("camera.json", *INTRINSICS_FILES)
    root = _camera_root(folder)
    return (folder / "depth").is_dir() and any((root / name).is_file() for name in names)


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
    dataset = (
        _open_known(around, around, reading, path)
        or _open_above(around, reading)
        or _open_beside(around, reading)
    )
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


def _holds_only_classes(path: Path) -> bool:
    """Whether it lies outside a product, and contains nothing but sub-folders of images, none of
    them of good parts.
    """
    inside_product = any(
        part in SPLIT_FOLDERS for part in path.resolve().parts[-DEEPEST_SUBFOLDER:]
    )
    classes = [] if inside_product or not path.is_dir() else folders_in(path)
    return (
        bool(classes)
        and not images_in(path, deep=False)
        and all(
            images_in(kind, deep=False)
            and not is_good(kind.name)
            and kind.name not in SPLIT_FOLDERS
            for kind in classes
        )
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
