"""Images outside the folders of the layout are reported, never ignored silently."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edge.errors import DataError
from edge.frames import archive, mvtec
from edge.frames.camera_info import CameraInfo
from edge.frames.listing import IMAGE_SUFFIXES, OTHER_IMAGES, files_in, is_good
from edge.frames.sample import ImageFiles, Sample

Layout = Literal[
    "mvtec", "mvtec3d", "visa", "btad", "folder", "recording", "photos", "rgb", "archive"
]
PLACES: dict[Layout, str] = {
    "mvtec": "train/good, validation/good, test/TYPE and ground_truth/TYPE",
    "mvtec3d": "train/good, validation/good and test/TYPE, each with rgb, xyz or depth, and gt",
    "btad": "train/ok, test/ok, test/ko and ground_truth/ko",
    "folder": "NNNN_color.png and NNNN_depth.png",
    "rgb": "rgb, xyz or depth, and gt, directly in it or in good and other folders",
    "archive": "DATE/ID folders with record.json and color.png",
}


def require_no_leftovers(
    root: Path,
    layout: Layout,
    samples: Sequence[Sample],
    camera: CameraInfo,
    inside: Path | None = None,
) -> None:
    """Refuse images outside the layout's folders, which otherwise would be ignored unnoticed.

    inside: a folder or an image below `root` that was named in its place: what lies elsewhere is
    nobody's concern.
    Not for VisA, whose table lists its images. Raises: DataError naming the first such image.
    """
    if layout == "visa" or (inside is not None and inside.is_file()):
        return
    owned: set[tuple[str, str]] = set()
    real: dict[Path, str] = {}

    def place(path: Path) -> tuple[str, str]:
        if path.parent not in real:
            real[path.parent] = os.path.realpath(path.parent)
        return real[path.parent], path.name

    for sample in samples:
        depth = sample.source.depth if isinstance(sample.source, ImageFiles) else None
        owned.update(
            place(path) for path in (sample.path, depth, sample.truth) if isinstance(path, Path)
        )
    numbers = {sample.name for sample in samples}
    stations = [root / name for name in (camera.empty, camera.belt) if name]
    for path in files_in(inside or root):
        if path.suffix.lower() not in IMAGE_SUFFIXES and path.suffix.lower() not in OTHER_IMAGES:
            continue
        if place(path) in owned or any(station in path.parents for station in stations):
            continue
        if _beside(root, path, layout, numbers):
            continue
        raise DataError(
            f"{path} has no place in the layout {layout}: expected {PLACES[layout]}; rename"
            f" it or move it out of {root}"
        )


def _beside(root: Path, path: Path, layout: Layout, numbers: set[str]) -> bool:
    """Whether an image that is no sample, mask or depth image is still allowed by the layout."""
    inside = path.relative_to(root).parts
    if layout == "archive":
        return any((above / archive.RECORD).is_file() for above in path.parents[: len(inside)])
    if layout == "folder":  # 0005_mask.png, 0005_depth.png beside 0005_color.png
        return len(inside) == 1 and any(
            path.stem[: at.start()] in numbers for at in re.finditer("_", path.stem)
        )
    if layout in ("mvtec3d", "rgb"):
        return any(
            (root.joinpath(*inside[:end], "rgb")).is_dir() and name in ("gt", *mvtec.DEPTH_FOLDERS)
            for end, name in enumerate(inside[:-1])
        )
    return len(inside) > 2 and inside[0] == mvtec.GROUND_TRUTH and is_good(inside[1])
