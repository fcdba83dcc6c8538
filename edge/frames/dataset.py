"""Data sets on disk: find out which layout a path holds, and give its samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import DataError
from edge.frames import btad, folder, mvtec, recording, visa
from edge.frames.camera_info import CameraInfo
from edge.frames.sample import Sample

__all__ = ["CameraInfo", "Dataset", "Sample", "find_products", "open_dataset"]

Layout = Literal["mvtec", "mvtec3d", "visa", "btad", "folder", "recording"]
RECORDING_SUFFIXES = (".db3", ".bag")
DEEPEST_SUBFOLDER = 3       # PRODUCT/test/dent/rgb, CATEGORY/Data/Images/Normal


@dataclass(frozen=True)
class Dataset:
    """The images of one product, in reading order. has_depth: every sample has depth, else none has."""

    root: Path
    product: str
    layout: Layout
    samples: tuple[Sample, ...]
    has_depth: bool
    camera: CameraInfo

    def split(self, name: str) -> list[Sample]:
        """The samples of "train", "validation" or "test"; empty where the set has no such split."""
        return [sample for sample in self.samples if sample.split == name]

    def require_split(self, name: str) -> list[Sample]:
        """As `split`. Raises: DataError if it is empty."""
        samples = self.split(name)
        if not samples:
            raise DataError(f"{self.root} has no {name} images: expected {self.root / name}")
        return samples


def open_dataset(path: Path) -> Dataset:
    """The set at `path`: a product folder, one of its sub-folders (test, test/dent), a folder of frames, a recording.

    Raises: DataError naming what is missing, unpaired, empty or unreadable.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.is_file():
        if path.suffix not in RECORDING_SUFFIXES:
            known = ", ".join(RECORDING_SUFFIXES)
            raise DataError(f"{path} is a file, expected a folder of images or a recording ({known})")
        return Dataset(path, path.stem, "recording", *_as_fields(recording.read_recording(path)))
    folder_path = path.resolve()
    for root in (folder_path, *folder_path.parents[:DEEPEST_SUBFOLDER]):
        dataset = _open_root(path if root == folder_path else root)
        if dataset is not None:
            return _restricted(dataset, folder_path) if root != folder_path else dataset
    products = find_products(path)
    if products:
        names = ", ".join(product.name for product in products)
        raise DataError(f"{path} holds several products ({names}): name one of them, such as {products[0]}")
    raise DataError(
        f"{path} holds no known layout: expected train/good and test (MVTec AD, MVTec 3D-AD), train/ok (BTAD), "
        "Data/Images (VisA), NNNN_color.png frames, or a .db3 file"
    )


def find_products(path: Path) -> list[Path]:
    """The product folder itself, or the product folders directly inside it, by name. Empty where there are none."""
    if _is_product(path):
        return [path]
    if not path.is_dir():
        return []
    return sorted(child for child in path.iterdir() if child.is_dir() and _is_product(child))


def _is_product(path: Path) -> bool:
    return path.is_dir() and any(known(path) for known in (visa.is_visa, mvtec.is_mvtec3d, mvtec.is_mvtec))


def _open_root(root: Path) -> Dataset | None:
    if folder.is_folder(root):
        return Dataset(root, root.name, "folder", *_as_fields(folder.read_folder(root)))
    if visa.is_visa(root):
        samples, camera = visa.read_visa(root)
        return Dataset(root, root.resolve().name, "visa", tuple(samples), False, camera)
    if btad.is_btad(root):
        samples, camera = btad.read_btad(root)
        return Dataset(root, root.name, "btad", tuple(samples), False, camera)
    if mvtec.is_mvtec3d(root):
        return Dataset(root, root.name, "mvtec3d", *_as_fields(mvtec.read_mvtec3d(root)))
    if mvtec.is_mvtec(root):
        samples, camera = mvtec.read_mvtec(root)
        return Dataset(root, root.name, "mvtec", tuple(samples), False, camera)
    return None


def _as_fields(read: tuple[list[Sample], CameraInfo, bool]) -> tuple[tuple[Sample, ...], bool, CameraInfo]:
    samples, camera, has_depth = read
    return tuple(samples), has_depth, camera


def _restricted(dataset: Dataset, folder_path: Path) -> Dataset:
    """The samples whose color image lies below `folder_path`."""
    samples = tuple(sample for sample in dataset.samples if folder_path in sample.path.resolve().parents)
    if not samples:
        raise DataError(f"{folder_path} holds no images of the product {dataset.root}")
    return Dataset(dataset.root, dataset.product, dataset.layout, samples, dataset.has_depth, dataset.camera)
