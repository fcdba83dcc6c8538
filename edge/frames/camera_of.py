"""The camera of a set of images: from its files, else from the first image and point cloud."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from edge.errors import DataError
from edge.frames.camera_info import (
    DEFAULT_UNIT_M,
    CameraInfo,
    find_camera_info,
    lens_notes,
    unnamed_serial,
)
from edge.frames.clouds import intrinsics_of, read_cloud
from edge.frames.images import read_header, read_tiff
from edge.frames.reading import Reading


def camera_of(
    root: Path, colors: list[Path], depth: Path | None, reading: Reading
) -> tuple[CameraInfo, tuple[str, ...]]:
    """The camera, from camera.json or an intrinsics file; what they do not say, from the first
    image and point cloud; and notes for the user.
    """
    if not colors:
        raise DataError(f"{root} holds no images: expected {root / 'train' / 'good'}")
    serial = unnamed_serial(root.resolve().name)
    info, notes = find_camera_info(root), _size_notes(colors) if reading.size else ()
    if info is None:
        height, width = read_header(colors[0]).upright()
        info = CameraInfo(serial=serial, width=width, height=height)
        if depth is not None:
            info, notes = _with_lens(info, depth, reading)
    elif not info.serial:
        info = info.model_copy(update={"serial": serial})
    if depth is not None and info.unit is None and _is_cloud(depth):
        info = info.model_copy(update={"unit": reading.unit or DEFAULT_UNIT_M})
    if depth is not None:
        notes = (*notes, *lens_notes(root))
    return info.letterboxed(reading.size), notes


def _is_cloud(depth: Path) -> bool:
    return depth.suffix.lower() in (".tif", ".tiff") and read_tiff(depth).dtype.kind == "f"


def _with_lens(
    info: CameraInfo, depth: Path, reading: Reading
) -> tuple[CameraInfo, tuple[str, ...]]:
    """The intrinsics that the first point cloud implies.

    Raises: DataError for depth counts, which imply none.
    """
    if not _is_cloud(depth):
        raise DataError(
            f"{depth} holds counts of an unknown unit: add a camera.json with unit and intrinsics"
        )
    cloud = read_cloud(depth)
    update = {"unit": reading.unit or DEFAULT_UNIT_M, "intrinsics": intrinsics_of(cloud)}
    return info.model_copy(update=update), tuple(f"{depth.name} {note}" for note in cloud.notes)


def _size_notes(colors: list[Path]) -> tuple[str, ...]:
    """Notes on images of differing sizes, and on the few in another orientation than most."""
    sizes = {path: read_header(path).upright() for path in colors}
    counts = Counter(sizes.values())
    if len(counts) == 1:
        return ()
    common = ", ".join(
        f"{width}x{height} ({count})" for (height, width), count in counts.most_common(3)
    )
    notes = [
        f"images of {len(counts)} sizes are letterboxed to one: {common}"
        + (", ..." if len(counts) > 3 else "")
    ]
    standing = [path for path, (height, width) in sizes.items() if height > width]
    lying = [path for path, (height, width) in sizes.items() if height < width]
    few, many = sorted(
        [(standing, "portrait"), (lying, "landscape")], key=lambda group: len(group[0])
    )
    if few[0] and len(few[0]) <= len(many[0]) / 4:
        notes.append(
            f"{few[0][0]} is {few[1]}, most images are {many[1]}: it was taken with the camera"
            " turned" + (f" ({len(few[0])} such images)" if len(few[0]) > 1 else "")
        )
    return tuple(notes)
