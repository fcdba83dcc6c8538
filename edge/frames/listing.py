"""The images of a folder. Only files that file managers leave behind are skipped silently."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from edge.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
OTHER_IMAGES = frozenset({
    ".heic", ".heif", ".avif", ".gif", ".jp2", ".j2k", ".jxl", ".jfif", ".dng", ".cr2", ".cr3",
    ".nef", ".arw", ".raf", ".orf", ".rw2", ".psd", ".svg", ".ppm", ".pgm", ".pbm", ".pnm", ".hdr",
    ".dds", ".tga", ".jpe", ".mpo", ".apng", ".dib", ".pcx",
})  # fmt: skip
OTHER_DEPTH = frozenset({
    ".npy", ".npz", ".exr", ".pfm", ".ply", ".pcd", ".xyz", ".obj", ".stl", ".las", ".raw", ".bin",
    ".mat", ".h5",
})  # fmt: skip
GOOD_NAMES = frozenset({"good", "ok", "normal"})
BAD_NAMES = frozenset({"ng", "nok", "ko", "bad", "defect", "defects", "defective", "anomaly"})
MASK_FOLDERS = frozenset({
    "mask", "masks", "gt", "ground_truth", "groundtruth", "label", "labels", "annotation",
    "annotations",
})  # fmt: skip
DEPTH_NAMES = frozenset({
    "depth", "depths", "depthmap", "depth_map", "depth_maps", "depth_images", "aligned_depth",
    "depth_aligned", "depth_raw", "disparity", "disparities", "xyz", "zmap", "z_map", "pcd",
    "pointcloud", "point_cloud", "point_clouds",
})  # fmt: skip
DEPTH_WORDS = frozenset({"depth", "depths", "disparity", "xyz", "zmap", "pcd", "pointcloud"})
MASK_STEM = re.compile(r"(.*[_\-. ])?masks?", re.IGNORECASE | re.DOTALL)
LITTER = frozenset({"thumbs.db", "desktop.ini", "lost+found", "system volume information"})


def is_litter(name: str) -> bool:
    """Whether a file manager, an office program or a disk leaves such a name behind: .DS_Store,
    ~$000.png, __MACOSX, @eaDir.
    """
    return name.startswith((".", "@", "#", "$", "~$", "__MACOSX")) or name.lower() in LITTER


def plain(name: str) -> str:
    """A name for comparison: lower case, trimmed, accents in one Unicode form."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def is_good(name: str) -> bool:
    """Whether a folder of this name holds good parts: good, ok or normal, in any spelling."""
    return plain(name) in GOOD_NAMES


def folders_in(folder: Path) -> list[Path]:
    """The sub-folders by name, without litter and links to parents; empty if there is no folder.

    Raises: DataError if unreadable.
    """
    try:
        found = sorted(
            path for path in folder.iterdir() if path.is_dir() and not is_litter(path.name)
        )
        real = folder.resolve()
        return [
            path
            for path in found
            if not (path.is_symlink() and path.resolve() in (real, *real.parents))
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def files_in(folder: Path, deep: bool = True) -> list[Path]:
    """Every file but litter, by path; `deep`: also in sub-folders, each link followed once.

    Raises: DataError if a folder cannot be read.
    """
    found: list[Path] = []
    seen = {str(above) for above in folder.resolve().parents}

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}")

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(
            name for name in folders if deep and real not in seen and not is_litter(name)
        )
        if real not in seen:
            found += [Path(place) / name for name in sorted(names) if not is_litter(name)]
        seen.add(real)
    return found


def images_in(folder: Path, deep: bool = True) -> list[Path]:
    """The image files of a folder and its sub-folders, by name; empty if there is no folder.

    Raises: DataError naming a picture or depth file of an unsupported kind, or two files that
        differ only in their suffix, which is ambiguous.
    """
    if not folder.is_dir():
        return []
    found: dict[str, Path] = {}
    for path in files_in(folder, deep):
        suffix = path.suffix.lower()
        if suffix in OTHER_IMAGES:
            raise DataError(
                f"{path}: {suffix[1:].upper()} images are not read: save them as PNG or JPEG"
            )
        if suffix in OTHER_DEPTH:
            raise DataError(
                f"{path}: depth as {suffix[1:]} is not read: save 16-bit PNG (counts) or an"
                " organized point cloud as TIFF, or move it elsewhere to train on color only"
            )
        if suffix not in IMAGE_SUFFIXES:
            continue
        first = found.setdefault(key_of(folder, path), path)
        if first is not path:
            raise DataError(f"{path} and {first.name} have one name: keep the one that is meant")
    return sorted(found.values())


def require_images(folder: Path) -> list[Path]:
    """As `images_in`. Raises: DataError if there are none."""
    paths = images_in(folder)
    if not paths:
        raise DataError(f"{folder} holds no images (png, jpg, bmp, tiff or webp)")
    return paths


def key_of(folder: Path, path: Path) -> str:
    """A file's path below `folder` without its suffix, with slashes; it pairs an image with its
    mask and depth.
    """
    return unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())


def unmasked(key: str) -> str:
    """The key of the image that a mask's key belongs to: 000_mask and 000_Mask belong to 000."""
    return key[: -len("_mask")] if key.lower().endswith("_mask") else key


def require_color(root: Path, paths: Iterable[Path]) -> None:
    """Refuse depth and masks among color images below `root`.

    Raises: DataError naming the first such file.
    """
    for path in paths:
        names = [re.sub(r"[\s-]+", "_", plain(part)) for part in path.relative_to(root).parts[:-1]]
        if any(name in DEPTH_NAMES for name in names) or DEPTH_WORDS & set(
            re.split(r"[_\W]+", plain(path.stem))
        ):
            raise DataError(
                f"{path} is depth by its name, but lies where color images are expected: depth is"
                " read from rgb/ with xyz/ or depth/ beside it, and from NNNN_color.png with"
                " NNNN_depth.png; rename or move it"
            )
        if any(name in MASK_FOLDERS for name in names) or MASK_STEM.fullmatch(path.stem):
            raise DataError(
                f"{path} is a mask by its name, but lies where images are expected: masks are read"
                " from ground_truth/TYPE/NNN_mask.png, and from gt/ beside rgb/; rename or move it"
            )


def require_plain_class(
    kind: Path, good: bool, paths: Iterable[Path], classes: Iterable[str]
) -> None:
    """Refuse good parts below a class of defects, and defects below good parts.

    kind: the folder of the class.
    Raises: DataError naming the folder.
    """
    bad = BAD_NAMES | {plain(name) for name in classes if not is_good(name)}
    for path in paths:
        for place in reversed(path.parents[: len(path.relative_to(kind).parts) - 1]):
            if not good and is_good(place.name):
                raise DataError(
                    f"{place.parent} holds a folder {place.name}: put {place.name} and the other"
                    f" folders directly in {kind.parent}"
                )
            if good and plain(place.name) in bad:
                raise DataError(
                    f"{place} lies below good parts, and its name says defects: move it out of"
                    f" {kind}, beside it"
                )
