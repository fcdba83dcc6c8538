"""What belongs to a station: the files below etc/edge and var/lib/edge, found without following any
link.

Left out is what the next start makes again or must not take over: locks, compiled engines, logs of
databases, half-written files. Pictures of parts are walked on their own, since they may be many.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from edge.errors import StorageError
from edge.files import sentence_of
from edge.station.root import DATA, TRUST
from edge.station.switch import PRODUCT, SLOT

ETC, PARTS = TRUST.parent, DATA / "parts"
DATABASE = ".sqlite"
BESIDE = ("-wal", "-shm", "-journal")  # what SQLite lays beside a database
FETCHED = PurePosixPath(DATA, "update/fetched")  # a bundle that `edge update` fetches
LEFT_OUT = (".lock", ".plan")  # .plan: an engine that a builder compiled for this machine
SLOT_LINKS = ("current", "previous")
READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MODES = 0o775  # no file of a station is writable for everybody, or runs as its owner

STATION, ROOT = "edge", "root"  # owners, as they are called on a device

Kind = Literal["file", "folder", "link"]


@dataclass(frozen=True)
class Found:
    """One thing below a root.

    name: relative to the root. mode: permissions. uid: its owner. mtime_s: seconds since 1970.
    target: of a link. opened: a new descriptor for reading a file.
    """

    name: PurePosixPath
    kind: Kind
    mode: int
    uid: int
    mtime_s: int
    target: str = ""
    opened: Callable[[], int] = lambda: -1


@dataclass(frozen=True)
class Passed:
    """What lies there and is not taken. what: such as "a socket"."""

    name: PurePosixPath
    what: str


def find_contents(root: Path, place: Path, without: Path | None = None) -> Iterator[Found | Passed]:
    """What lies in `root`/`place`, a folder before what is in it; nothing where there is no such
    folder. A file is opened before the next one is asked for.

    without: a folder that is not entered, relative to the root.
    Raises: StorageError if a folder cannot be read.
    """
    top = (root / place).resolve()
    if not top.is_dir():
        return
    for here, folders, files, descriptor in os.fwalk(top, onerror=_refuse):
        inside = PurePosixPath(place, Path(here).relative_to(top))
        names = [name for name in sorted([*files, *folders]) if not _is_left_out(inside / name)]
        if without is not None:
            names = [name for name in names if inside / name != PurePosixPath(without)]
        folders[:] = [name for name in folders if name in names]
        yield _found(inside, "folder", os.fstat(descriptor))
        for name in names:
            found = _look_at(inside / name, descriptor)
            if found is not None:
                yield found


def _refuse(error: OSError) -> None:
    raise StorageError(f"cannot back up: {sentence_of(error)}") from error


def _is_left_out(name: PurePosixPath) -> bool:
    return (
        name.name.startswith(".")
        or name.name.endswith(BESIDE)
        or name.suffix in LEFT_OUT
        or name == FETCHED
    )


def _look_at(name: PurePosixPath, folder: int) -> Found | Passed | None:
    """What a name in an open folder is; None for a folder, which comes on its own, and for what has
    just gone.
    """
    try:
        about = os.stat(name.name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(about.st_mode):
            return None
        if stat.S_ISLNK(about.st_mode):
            return _link(name, os.readlink(name.name, dir_fd=folder), about)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(about.st_mode):
        return Passed(name, "no plain file")
    if about.st_nlink > 1:
        return Passed(name, "a second name (a hard link) of another file")
    return _found(name, "file", about, opened=lambda: os.open(name.name, READING, dir_fd=folder))


def _link(name: PurePosixPath, target: str, about: os.stat_result) -> Found | Passed:
    if is_slot_link(name, target):
        return _found(name, "link", about, target)
    return Passed(name, f"a link to {target}")


def is_slot_link(name: PurePosixPath, target: str) -> bool:
    """Whether it is `current` or `previous` of a product, and leads to one of its slots: the only
    links of a station.
    """
    steps = name.parts
    return (
        steps[:-2] == (DATA / "products").parts
        and PRODUCT.fullmatch(steps[-2]) is not None
        and steps[-1] in SLOT_LINKS
        and re.fullmatch(f"slots/{SLOT.pattern}", target) is not None
    )


def _found(
    name: PurePosixPath,
    kind: Kind,
    about: os.stat_result,
    target: str = "",
    opened: Callable[[], int] = lambda: -1,
) -> Found:
    mode = stat.S_IMODE(about.st_mode) & MODES
    return Found(name, kind, mode, about.st_uid, int(about.st_mtime), target, opened)
