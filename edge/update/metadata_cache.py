"""Where a TUF client keeps what it verified: whole at any moment.

    var/lib/edge/update/tuf/current -> a    (or b)

python-tuf replaces its files one by one and does not sync them, so that a power cut could leave an
empty one, and with it the memory of which version was the newest. It works on a copy here, which is
synced and takes the place of the other in one rename.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.files import link_atomically, make_folder, remove_tree, sync_directory
from edge.station.switch import slot_of

CURRENT, SIDES = "current", ("a", "b")
LIMIT, MOST = 8 << 20, 1024  # bytes of a file, files of a folder: more than a client keeps
PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def worked_on(folder: Path) -> Iterator[Path]:
    """A copy of what is kept below `folder`, which takes its place at the end of the body.

    Also where the body raises: a TUF client writes only what it has verified, and what came before
    the fault is worth keeping.
    Raises: OSError if the disk does not take it; then what was there stays.
    """
    before = slot_of(folder / CURRENT)
    side = SIDES[1] if before == SIDES[0] else SIDES[0]
    make_folder(folder)
    remove_tree(folder / side)
    make_folder(folder / side)
    if before in SIDES:
        _copy(folder / before, folder / side)
    try:
        yield folder / side
    except Exception:
        _take(folder, side)
        raise
    _take(folder, side)


def _copy(source: Path, target: Path) -> None:
    """What a client has kept: files, links and one level of folders. Nothing where that is no
    folder.

    Root copies here too, with the right to read everything, in a folder whose owner may read what
    was copied. So a link is copied and never followed, and what no client keeps is left out.
    """
    try:
        folder = os.open(source, FOLDER)
    except OSError:
        return
    try:
        for name, mode in _entries(folder):
            if stat.S_ISDIR(mode):
                _copy_folder(folder, name, target / name)
            else:
                _copy_entry(folder, name, mode, target / name)
    finally:
        os.close(folder)


def _entries(folder: int) -> list[tuple[str, int]]:
    """Names and modes."""
    names = os.listdir(folder)[:MOST]
    return [(name, os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode) for name in names]


def _copy_folder(above: int, name: str, target: Path) -> None:
    make_folder(target)
    folder = os.open(name, FOLDER, dir_fd=above)
    try:
        for inner, mode in _entries(folder):
            _copy_entry(folder, inner, mode, target / inner)
    finally:
        os.close(folder)


def _copy_entry(folder: int, name: str, mode: int, target: Path) -> None:
    if stat.S_ISLNK(mode):
        target.symlink_to(os.readlink(name, dir_fd=folder))
    elif stat.S_ISREG(mode):
        with os.fdopen(os.open(name, PLAIN, dir_fd=folder), "rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) <= LIMIT:
            target.write_bytes(data)


def _take(folder: Path, side: str) -> None:
    for path in (folder / side, *(folder / side).rglob("*")):
        if path.is_dir():
            sync_directory(path)
        elif not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    link_atomically(folder / CURRENT, side)
