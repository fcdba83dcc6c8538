"""Kept parts as a data set that `trainer train` and `trainer evaluate --defects` read
(docs/data.md), sent as one zip file.

    good/ID, defective/ID     parts that a person has labeled
    DATE/ID                   parts without a label: the station's verdict stands in for the truth,
                              and the trainer says so
    dataset.json              what was chosen, by whom, and which parts were left out and why

Bounded in parts and bytes, one part in memory at a time. A part whose images retention removes
meanwhile is left out, and named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import DataError
from edge.page.what_if import BAD, GOOD, label_of
from edge.page.zip_stream import zip_chunks

if TYPE_CHECKING:
    from edge.archive.query import Row

COLOR, DEPTH, LENS, CAMERA, RECORD = (
    "color.png",
    "depth.png",
    "intrinsics.json",
    "camera.json",
    "record.json",
)
FRAME = (COLOR, DEPTH, LENS, CAMERA, RECORD)  # the files of a part that training reads
MOST_PARTS = 2000
MOST_BYTES = 3_000_000_000
FOLDERS = {GOOD: "good", BAD: "defective"}
UNSAFE = re.compile(r"[^A-Za-z0-9._-]")  # what unpacking on another system may take for a path
SETUP = ("width", "height", "fx", "fy", "cx", "cy", "depth_unit_m")  # of intrinsics.json


def choose(root: Path, rows: Iterable[Row]) -> list[Row]:
    """Those of `rows` whose images are kept.

    Raises: DataError if there is none, if they are of several products, or if they are too many for
        one file.
    """
    from edge.archive.pictures import picture_names

    found: list[Row] = []
    has_any = False
    for row in rows:
        has_any = True
        if COLOR not in picture_names(root, row):
            continue
        if len(found) == MOST_PARTS:
            raise DataError(
                f"there are images of more than {MOST_PARTS} parts: choose fewer days, or one"
                " reason"
            )
        found.append(row)
    if not has_any:
        raise DataError("no part matches: choose other days or labels")
    if not found:
        raise DataError(
            "no images of these parts are kept: choose other parts; `keep_ok_every` in station.toml"
            " says of how many OK parts images are kept"
        )
    products = sorted({row.text("product") for row in found})
    if len(products) > 1:
        raise DataError(f"the parts are of several products ({', '.join(products)}): choose one")
    return found


def zip_of(root: Path, chosen: Sequence[Row], about: Mapping[str, Any]) -> Iterator[bytes]:
    """The zip file, in pieces.

    chosen: as `choose` gave them. about: what dataset.json says besides.
    """
    yield from zip_chunks(_entries(root, chosen, about))


def _entries(
    root: Path, chosen: Sequence[Row], about: Mapping[str, Any]
) -> Iterator[tuple[str, bytes]]:
    first: tuple[object, ...] | None = None
    inside, left_out, size = [], {}, 0
    for row in chosen:
        files = _files_of(root, row)
        setup = _setup_of(files)
        first = first or setup
        why = _why_not(files, setup, first, size)
        if why:
            left_out[row.text("images")] = why
            continue
        folder = _folder_of(row)
        size += sum(map(len, files.values()))
        yield from ((f"{folder}/{name}", content) for name, content in files.items())
        inside.append({"seq": row.seq, "folder": folder, "label": label_of(row)})
    content = {**about, "parts": inside, "left_out": left_out}
    yield "dataset.json", (json.dumps(content, indent=2) + "\n").encode("ascii")


def _files_of(root: Path, row: Row) -> dict[str, bytes]:
    from edge.archive.pictures import read_picture

    found = {name: read_picture(root, row, name) for name in FRAME}
    return {name: content for name, content in found.items() if content is not None}


def _folder_of(row: Row) -> str:
    """Where a kept part lies in the data set. Its record names a folder, or it was not chosen."""
    _, day, name = row.text("images").split("/")
    return f"{FOLDERS.get(label_of(row), day)}/{UNSAFE.sub('_', name)}"


def _why_not(
    files: Mapping[str, bytes],
    setup: tuple[object, ...] | None,
    first: tuple[object, ...] | None,
    size: int,
) -> str:
    """Why a part cannot stand beside the first one in a data set; empty where it can."""
    if not {COLOR, RECORD} <= files.keys():
        return "its images were removed meanwhile"
    if size + sum(map(len, files.values())) > MOST_BYTES:
        return f"the file has reached {MOST_BYTES / 1e9:.0f} GB"
    if setup is None:
        return "its camera files cannot be read"
    return "" if setup == first else "another camera or lens than the newest of these parts"


def _setup_of(files: Mapping[str, bytes]) -> tuple[object, ...] | None:
    """Camera, lens, depth unit and whether there is depth: a data set has one of each."""
    try:
        lens, camera = json.loads(files[LENS]), json.loads(files[CAMERA])
        return (camera["serial"], DEPTH in files, *(lens[key] for key in SETUP))
    except (KeyError, TypeError, ValueError):
        return None
