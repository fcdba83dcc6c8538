"""The station's own archive, var/lib/edge/parts/DATE/ID/ as edge.runtime.keeper writes it, as a
data set.

The station's verdicts stand in for the truth: an NG part counts as defective with the type "NG", an
OK part as good, an UNKNOWN part as neither. If somebody has sorted the parts into good/ and other
folders, the folders count instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from edge.errors import DataError
from edge.frames.camera_info import CameraInfo, find_camera_info, read_model, unnamed_serial
from edge.frames.images import read_header
from edge.frames.listing import folders_in, is_good, is_litter
from edge.frames.reading import Reading
from edge.frames.sample import ImageFiles, Read, Sample, Split
from edge.types import Code

RECORD, COLOR, DEPTH = "record.json", "color.png", "depth.png"
DATE = re.compile(r"\d{4}-\d\d-\d\d")
ARCHIVE = "parts"  # the name that the station gives its archive
DEEPEST = 3  # DATE/ID below parts, or CLASS/DATE/ID
SAID = {Code.OK: "good", Code.NG: "NG", Code.UNKNOWN: ""}


class Record(BaseModel, frozen=True):
    """The fields of record.json that are read here."""

    code: Code = Code.UNKNOWN


def is_archive(root: Path) -> bool:
    """Whether `root` is the folder of a kept part, or holds one."""
    return any((folder / COLOR).is_file() for folder in _parts(root))


def read_archive(root: Path, reading: Reading) -> Read:
    """Every kept part in the order of the folders, uncropped.

    Raises: DataError if a folder lacks a file, if cameras, lenses or depth units differ, or if only
        some of the parts have depth.
    """
    folders = sorted(_parts(root))
    _require_color(folders)
    cameras = [_camera(folder, reading) for folder in folders]
    _require_one_setup(folders, cameras)
    has_depth = reading.size is None and _all_have_depth(folders)
    samples, own = [], _own_class(root, folders)
    for number, (folder, camera) in enumerate(zip(folders, cameras, strict=True)):
        depth = folder / DEPTH if has_depth else None
        kind = _folder_class(root, folder) or own
        source = ImageFiles(folder / COLOR, depth, camera, number, reading)
        samples.append(_sample(root, folder, source, kind))
    return samples, cameras[0], has_depth, _notes(root, folders, samples, own)


def _require_color(folders: Sequence[Path]) -> None:
    for folder in folders:
        if not (folder / COLOR).is_file():
            raise DataError(
                f"{folder} has a {RECORD} and no {COLOR}: copy the image again, or remove the"
                " folder"
            )


def _require_one_setup(folders: Sequence[Path], cameras: Sequence[CameraInfo]) -> None:
    """A data set has one camera, one lens and one depth unit."""
    first = cameras[0]
    for folder, camera in zip(folders, cameras, strict=True):
        if camera.serial != first.serial:
            raise DataError(
                f"{folder} and {folders[0]} come from different cameras: name the parts of one of"
                " them"
            )
    for folder, camera in zip(folders, cameras, strict=True):
        if (camera.unit, camera.intrinsics) != (first.unit, first.intrinsics):
            raise DataError(
                f"{folder} and {folders[0]} have different intrinsics or depth units: name the"
                " parts of one setup"
            )


def _all_have_depth(folders: Sequence[Path]) -> bool:
    """Whether the parts have depth; a mixture is refused."""
    with_depth = [folder for folder in folders if (folder / DEPTH).is_file()]
    if with_depth and len(with_depth) < len(folders):
        without = next(folder for folder in folders if folder not in with_depth)
        raise DataError(
            f"{without} has no {DEPTH}, {with_depth[0]} has one: move the parts of one kind"
            " elsewhere, so that either all have depth or none"
        )
    return bool(with_depth)


def _notes(
    root: Path, folders: Sequence[Path], samples: Sequence[Sample], own: str | None
) -> tuple[str, ...]:
    """What decides which parts count as good or defective, in sentences for the user."""
    notes = []
    if any(_folder_class(root, folder) is None for folder in folders):
        notes.append(
            "the station's own verdicts stand in for the truth: OK is good, NG is a defect"
            if own is None
            else f"the parts lie in the folder {own}: its name says what they are, not the"
            " station's verdicts"
        )
    unjudged = sum(sample.defect == "" for sample in samples)
    if unjudged:
        notes.append(
            f"{unjudged} of {len(samples)} parts were UNKNOWN to the station: they count as"
            " neither good nor defective"
        )
    return tuple(notes)


def _sample(root: Path, folder: Path, source: ImageFiles, kind: str | None) -> Sample:
    name = folder.relative_to(root).as_posix()
    if kind is None:
        kind = SAID[read_model(folder / RECORD, Record).code]
    defect = "good" if is_good(kind) else kind
    split: Split = "" if defect == "good" else "test"
    name = folder.name if name == "." else name
    return Sample(
        name, split, defect, source, "clean" if defect == "good" else "unknown", folder / COLOR
    )


def _folder_class(root: Path, folder: Path) -> str | None:
    """The folder below `root` that a part was sorted into by hand; None if there are only dates."""
    inside = folder.relative_to(root).parts[:-1]
    return next((name for name in inside if DATE.fullmatch(name) is None), None)


def _own_class(root: Path, folders: list[Path]) -> str | None:
    """The name of the opened folder (or of the folder above, if one part was opened), if parts were
    sorted into it by hand.

    That is assumed if they lie directly in it, if its name means good parts, or if a folder of kept
    good parts lies beside it.
    """
    home = root.resolve() if folders != [root] else root.resolve().parent
    if DATE.fullmatch(home.name):
        return None
    beside = () if home.name == ARCHIVE else folders_in(home.parent)
    if is_good(home.name) or any(is_good(other.name) and is_archive(other) for other in beside):
        return home.name
    return (
        home.name
        if folders != [root] and all(folder.parent == root for folder in folders)
        else None
    )


def _camera(folder: Path, reading: Reading) -> CameraInfo:
    info = find_camera_info(folder)
    if info is None:
        if (folder / DEPTH).is_file() and reading.size is None:
            raise DataError(
                f"{folder / 'intrinsics.json'} is missing: this part was kept by an older version"
            )
        height, width = read_header(folder / COLOR).upright()
        info = CameraInfo(serial=unnamed_serial("archive"), width=width, height=height)
    return info.letterboxed(reading.size)


def _parts(root: Path) -> Iterator[Path]:
    """The folders of the parts, at most DEEPEST levels below `root`."""
    for place, folders, names in os.walk(root):
        if RECORD in names:
            yield Path(place)
            folders.clear()
        depth = len(Path(place).relative_to(root).parts)
        folders[:] = (
            sorted(name for name in folders if not is_litter(name)) if depth < DEEPEST else []
        )
