"""The folder layout: NNNN_color.png, NNNN_depth.png, intrinsics.json; optionally camera.json and
truth.json.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, RootModel

from edge.errors import DataError
from edge.frames.camera_info import (
    INTRINSICS_FILES,
    CameraInfo,
    find_camera_info,
    find_lens,
    lens_notes,
    read_model,
    unnamed_serial,
)
from edge.frames.images import read_header
from edge.frames.listing import IMAGE_SUFFIXES, files_in
from edge.frames.mvtec import DEPTH_UNUSED
from edge.frames.reading import Reading
from edge.frames.sample import ImageFiles, Read, Sample

FRAME_FILE = re.compile(r"(.+)_(color|depth)(\.\w+)", re.IGNORECASE)


class BeltPart(BaseModel, extra="forbid", frozen=True):
    """One part of a recorded belt.

    defect: "good" or the type. frames: first and last frame that show it, inclusive, counted from 0
    in the order in which the frames are read: by number, whatever their first number is and where
    numbers are missing.
    """

    part: int
    defect: str
    group: str | None
    frames: tuple[int, int]


class BeltTruth(RootModel[list[BeltPart]], frozen=True):
    """truth.json beside the frames of a belt."""


def is_folder(root: Path) -> bool:
    """Whether there are NNNN_color.png files, or NNNN_depth.png and intrinsics.json."""
    if not root.is_dir():
        return False
    names = [path.name for path in files_in(root, deep=False)]
    frames = {found[2].lower() for found in map(FRAME_FILE.fullmatch, names) if found}
    return "color" in frames or ("depth" in frames and "intrinsics.json" in names)


def read_folder(root: Path, reading: Reading) -> Read:
    """Every frame in the order of the numbers, the camera, and whether there is depth.

    Raises: DataError if there is no frame, a frame lacks its color or depth image, or depth has no
        intrinsics file.
    """
    colors, depths = _frames(root, "color"), _frames(root, "depth")
    if not colors and not depths:
        raise DataError(f"{root} holds no frames: expected files such as {root / '0000_color.png'}")
    for number, path in depths.items():
        if number not in colors:
            raise DataError(f"{path} has no color image: expected {root / number}_color.png")
    for number, path in colors.items():
        if depths and number not in depths:
            raise DataError(f"{path} has no depth image: expected {root / number}_depth.png")
    unused: tuple[str, ...] = ()
    if depths and reading.size is not None:
        depths, unused = {}, (DEPTH_UNUSED,)
    camera, notes = _camera(root, next(iter(colors.values())), bool(depths), reading)
    truth = read_truth(root)
    samples = [
        _sample(number, path, ImageFiles(path, depths.get(number), camera, index, reading), truth)
        for index, (number, path) in enumerate(colors.items())
    ]
    return samples, camera, bool(depths), (*notes, *unused)


def read_truth(root: Path) -> list[BeltPart] | None:
    """The parts of a belt, None without a truth.json."""
    path = root / "truth.json"
    return read_model(path, BeltTruth).root if path.is_file() else None


def _frames(root: Path, what: str) -> dict[str, Path]:
    """Number -> file, 2 before 10.

    Raises: DataError for a frame in an unsupported format, or for two files of one frame.
    """
    found: dict[str, Path] = {}
    for path in files_in(root, deep=False):
        match = FRAME_FILE.fullmatch(path.name)
        if match is None or match[2].lower() != what or match[3].lower() == ".json":
            continue
        if match[3].lower() not in IMAGE_SUFFIXES:
            raise DataError(f"{path}: {what} as {match[3][1:]} is not read: save it as PNG")
        if found.setdefault(match[1], path) is not path:
            raise DataError(
                f"{path} and {found[match[1]].name} are one frame: keep the one that is meant"
            )
    return dict(sorted(found.items(), key=lambda frame: (_counted(frame[0]), frame[0])))


def _counted(number: str) -> list[tuple[int, str]]:
    """Sort key: numbers by value, other text as it is."""
    return [
        (int(run), "") if run.isdecimal() else (-1, run)
        for run in re.split(r"(\d+)", number)
        if run
    ]


def _sample(number: str, color: Path, source: ImageFiles, truth: list[BeltPart] | None) -> Sample:
    shown = (
        part.defect for part in truth or [] if part.frames[0] <= source.number <= part.frames[1]
    )
    defect = next(shown, "")
    return Sample(number, "", defect, source, "clean" if defect == "good" else "unknown", color)


def _product_camera(root: Path) -> CameraInfo | None:
    """The camera of the product whose camera.json names this folder as its empty table or belt;
    both have the product's serial.
    """
    folder = root.resolve()
    for product in folder.parents[:2]:
        path = product / "camera.json"
        info = read_model(path, CameraInfo) if path.is_file() else None
        if info is not None and folder in [
            (product / name).resolve() for name in (info.empty, info.belt) if name
        ]:
            return info
    return None


def _camera(
    root: Path, color: Path, has_depth: bool, reading: Reading
) -> tuple[CameraInfo, tuple[str, ...]]:
    info, lens = find_camera_info(root), find_lens(root)
    product = None if (root / "camera.json").is_file() else _product_camera(root)
    if product is not None:
        info = product if lens is None else product.model_copy(update=lens[1].update())
    if has_depth and (info is None or info.intrinsics is None or info.unit is None):
        raise DataError(
            f"{root / 'intrinsics.json'} is missing: depth needs width, height, depth_unit_m, fx,"
            f" fy, cx and cy (read are {', '.join(INTRINSICS_FILES)})"
        )
    if info is None:
        height, width = read_header(color).upright()
        info = CameraInfo(width=width, height=height)
    if not info.serial:
        info = info.model_copy(update={"serial": unnamed_serial(root.name)})
    return info.letterboxed(reading.size), lens_notes(root) if has_depth else ()
