"""Which files of a folder are images: litter of file managers is skipped, nothing else silently."""

from __future__ import annotations

import os
from pathlib import Path

from edge.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
OTHER_IMAGES = frozenset({
    ".heic", ".heif", ".avif", ".gif", ".jp2", ".j2k", ".jxl", ".jfif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf",
    ".orf", ".rw2", ".psd", ".svg", ".ppm", ".pgm", ".pbm", ".pnm", ".hdr", ".dds", ".tga",
})  # fmt: skip
OTHER_DEPTH = frozenset({
    ".npy", ".npz", ".exr", ".pfm", ".ply", ".pcd", ".xyz", ".obj", ".stl", ".las", ".raw", ".bin", ".mat", ".h5",
})  # fmt: skip
GOOD_NAMES = frozenset({"good", "ok", "normal"})


def is_litter(name: str) -> bool:
    """Whether a file manager or a network disk leaves this name: .DS_Store, ._000.png, __MACOSX, @eaDir, #recycle."""
    return name.startswith((".", "@", "#", "$", "__MACOSX")) or name in ("Thumbs.db", "desktop.ini", "lost+found")


def is_good(name: str) -> bool:
    """Whether a folder of this name holds good parts: good, ok or normal, in any spelling."""
    return name.lower() in GOOD_NAMES


def folders_in(folder: Path) -> list[Path]:
    """The sub-folders that somebody made, by name; empty without the folder. Raises: DataError if unreadable."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not is_litter(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def files_in(folder: Path, deep: bool = True) -> list[Path]:
    """Every file that somebody put there, by path; `deep`: those of sub-folders too, links followed once.

    Raises: DataError if a folder cannot be read.
    """
    found: list[Path] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}")

    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = sorted(name for name in folders if deep and real not in seen and not is_litter(name))
        if real not in seen:
            found += [Path(place) / name for name in sorted(names) if not is_litter(name)]
        seen.add(real)
    return found


def images_in(folder: Path, deep: bool = True) -> list[Path]:
    """The image files of a folder and its sub-folders, by name; empty where it is absent.

    Raises: DataError naming a picture or depth file of a kind that is not read, and two files that differ only in their
        suffix: which of them is meant nobody can tell.
    """
    if not folder.is_dir():
        return []
    found: dict[str, Path] = {}
    for path in files_in(folder, deep):
        suffix = path.suffix.lower()
        if suffix in OTHER_IMAGES:
            raise DataError(f"{path}: {suffix[1:].upper()} images are not read: save them as PNG or JPEG")
        if suffix in OTHER_DEPTH:
            raise DataError(
                f"{path}: depth as {suffix[1:]} is not read: save 16-bit PNG (counts) or an organised point cloud as "
                "TIFF, or move it elsewhere to train on color only"
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
    """A file's place below `folder` without its suffix, with slashes: what pairs an image with its mask and depth."""
    return path.relative_to(folder).with_suffix("").as_posix()
