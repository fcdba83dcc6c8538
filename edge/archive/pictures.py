"""The kept images of one part, as the station wrote them (edge/runtime/kept_files.py): read by
descriptors that follow no link.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edge.archive.query import Row
from edge.station.root import DATA

FOLDER = re.compile(r"parts/\d{4}-\d\d-\d\d/[^/\0]{1,80}-\d{1,18}", re.ASCII)
LOOKED_AT = ("overlay.png", "color.png")  # the first that is there shows a part to a person
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
LIMIT = 64 << 20  # bytes of one file


def picture_names(root: Path, row: Row) -> list[str]:
    """The files that are kept of a part, by name; none where its images were not kept, or are
    removed by now.
    """
    with _opened(root, row) as folder:
        # a descriptor, no path
        return [] if folder is None else sorted(os.listdir(folder))  # noqa: PTH208


def read_picture(root: Path, row: Row, name: str) -> bytes | None:
    """One of these files; None where it is not there (any more), is no plain file, or too large."""
    if "/" in name or name.startswith("."):
        return None
    with _opened(root, row) as folder, suppress(OSError):
        if folder is None:
            return None
        descriptor = os.open(name, FILE_FLAGS, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            is_fit = os.path.isfile(f"/proc/self/fd/{descriptor}")  # noqa: PTH113
            return file.read(LIMIT) if is_fit else None
    return None


@contextmanager
def _opened(root: Path, row: Row) -> Iterator[int | None]:
    """A descriptor of the part's folder; None where it is not there."""
    folder = row.text("images")
    with ExitStack() as stack:
        yield _descend(stack, root / DATA, folder) if FOLDER.fullmatch(folder) else None


def _descend(stack: ExitStack, start: Path, folder: str) -> int | None:
    try:
        descriptor = _kept(stack, os.open(start, FOLDER_FLAGS))
        for step in folder.split("/"):
            descriptor = _kept(stack, os.open(step, FOLDER_FLAGS, dir_fd=descriptor))
    except OSError:
        return None
    return descriptor


def _kept(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor
