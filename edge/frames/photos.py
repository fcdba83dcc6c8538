"""Images that are no data set: a folder of photos, a single photo, or folders with rgb/ and depth.

photos/*.jpg                          parts without a label: training treats them as good
photos/good/*.jpg                     good parts
photos/SCRATCH/*.jpg                  any other sub-folder is a class of defects
NAME/{rgb,xyz}, NAME/good/{rgb,xyz}   the same with depth (or depth/ as 16-bit counts)
"""

from __future__ import annotations

from pathlib import Path

from edge.errors import DataError
from edge.frames.camera_info import find_camera_info
from edge.frames.camera_of import camera_of
from edge.frames.listing import (
    folders_in,
    images_in,
    is_good,
    key_of,
    require_color,
    require_plain_class,
)
from edge.frames.mvtec import read_groups
from edge.frames.reading import Reading
from edge.frames.sample import ImageFiles, Read, Sample, Split


def is_rgb_folder(root: Path) -> bool:
    """Whether `root` or a sub-folder of it holds rgb/."""
    return (root / "rgb").is_dir() or any((folder / "rgb").is_dir() for folder in folders_in(root))


def read_rgb_folder(root: Path, camera_root: Path, reading: Reading) -> Read:
    """Good parts in ROOT/rgb and ROOT/good/rgb, defects in ROOT/TYPE/rgb.

    camera_root: the folder whose camera.json describes the images.
    Raises: DataError as edge.frames.mvtec.read_groups does.
    """
    kinds = [folder for folder in (root, *folders_in(root)) if (folder / "rgb").is_dir()]
    groups: list[tuple[Split, Path, str]] = [
        ("", kind, "good") if kind == root or is_good(kind.name) else ("test", kind, kind.name)
        for kind in kinds
    ]
    return read_groups(root, groups, reading, camera_root)


def is_photos(root: Path) -> bool:
    """Whether images lie directly in the folder, or in sub-folders of which one holds good
    parts.
    """
    if not root.is_dir():
        return False
    return bool(images_in(root, deep=False)) or any(
        is_good(folder.name) for folder in folders_in(root)
    )


def read_photos(root: Path, reading: Reading) -> Read:
    """Every photo: good in good/, a defect in any other sub-folder.

    An image directly in the folder has no label: training treats it as good, evaluation does not.

    Raises: DataError for a folder without images, a picture or depth file of an unsupported kind,
        and depth or masks among the photos.
    """
    found: list[tuple[Path, str]] = [(path, "") for path in images_in(root, deep=False)]
    info = find_camera_info(root)
    stations = (
        {Path(name).parts[:1] for name in (info.empty, info.belt) if name}
        if info is not None
        else set()
    )
    folders = [folder for folder in folders_in(root) if (folder.name,) not in stations]
    for folder in folders:
        defect = "good" if is_good(folder.name) else folder.name
        images = images_in(folder)
        if not images:
            raise DataError(
                f"{folder} holds no images (png, jpg, bmp, tiff or webp): remove it, or put images"
                " there"
            )
        require_plain_class(folder, defect == "good", images, {one.name for one in folders})
        found += [(path, defect) for path in images]
    require_color(root, [path for path, _ in found])
    camera, notes = camera_of(root, [path for path, _ in found], None, reading)
    samples = [
        Sample(
            key_of(root, path),
            "" if defect in ("good", "") else "test",
            defect,
            ImageFiles(path, None, camera, number, reading),
            "clean" if defect == "good" else "unknown",
            path,
        )
        for number, (path, defect) in enumerate(found)
    ]
    classes = sorted({defect for _, defect in found} - {"good", ""})
    if classes:
        notes = (
            *notes,
            f"sub-folders taken for classes of defects, never trained on: {', '.join(classes)}",
        )
    return samples, camera, False, notes


def read_photo(path: Path, reading: Reading) -> Read:
    """A single image without a label."""
    require_color(path.parent, [path])
    camera, notes = camera_of(path.parent, [path], None, reading)
    sample = Sample(path.stem, "", "", ImageFiles(path, None, camera, 0, reading), "unknown", path)
    return [sample], camera, False, notes
