"""Folders of kept images, `parts/DATE/STATION-SEQ`: written completely or not at all, found,
removed.

Whatever else lies below `parts` (a file, a link, a folder of another name or with other files) is
neither counted, nor followed, nor removed: only files of the names that the station writes are, by
descriptors that follow no link. Another disk belongs at `parts` itself with `mount --bind`. A link
there would be followed here, but root's commands refuse it: edge.station.store.Store.inside.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

FILES = frozenset({
    "color.png", "depth.png", "intrinsics.json", "camera.json", "map.npz", "map.png", "record.json",
    "overlay.png",
})  # fmt: skip
FIRST, RECORD = "color.png", "record.json"
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
NUMBERED = re.compile(r".+-(\d{1,18})", re.ASCII)
WRITING = ".writing-"  # before the name of a folder until it is complete
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
BLOCK_BYTES = 4096
# something else is in it, or in its place
NOT_OURS = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP)


class Kept(NamedTuple):
    """A complete folder. size: bytes that it takes on the disk, in blocks."""

    folder: Path
    size: int


def number_of(folder: Path) -> int:
    """The part's sequence number, from the folder's name; 0 for a name without one."""
    match = NUMBERED.fullmatch(folder.name)
    return int(match[1]) if match else 0


def disk_size(files: Mapping[str, bytes]) -> int:
    """Bytes that a folder with these files takes, in blocks."""
    return BLOCK_BYTES + sum(_in_blocks(len(data)) for data in files.values())


def sorted_folders(parts: Path) -> list[tuple[Path, int]]:
    """Every complete folder with its size on disk in bytes, lowest sequence number first.

    The date in its path does not count: the clock may have been wrong.
    """
    found = [(one.folder, one.size) for one in find_folders(parts) if one is not None]
    return sorted(found, key=lambda one: (number_of(one[0]), one[0]))


def find_folders(parts: Path, repair: bool = False) -> Iterator[Kept | None]:
    """Complete folders in any order; None for anything else, so that the caller gets a turn after
    each entry.

    repair: remove what a crash or a power cut left half written. A folder that cannot be read is
    logged and passed over.
    """
    for day in _entries(parts):
        if not DATE.fullmatch(day.name) or not day.is_dir(follow_symlinks=False):
            continue
        for entry in _entries(Path(day.path)):
            yield (
                _look_at(parts, Path(entry.path), repair)
                if entry.is_dir(follow_symlinks=False)
                else None
            )


def write_folder(parts: Path, day: str, name: str, files: Mapping[str, bytes]) -> Path:
    """Write `files` as parts/day/name, which is there completely or not at all; one of that name is
    replaced.

    Raises: OSError if the disk does not take them, or something else stands in the way; nothing is
    left behind then.
    """
    if not DATE.fullmatch(day) or not NUMBERED.fullmatch(name) or os.sep in name:
        raise OSError(f"{day}/{name} is no folder of a part")
    parts.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        (parts / day).mkdir()
    hidden = WRITING + name
    with _opened(parts / day) as folder:
        _remove_in(folder, hidden)
        try:
            os.mkdir(hidden, dir_fd=folder)
            with _opened(hidden, folder) as inner:
                for file, data in files.items():
                    _write(file, data, inner)
            _remove_in(folder, name)
            os.rename(hidden, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _remove_in(folder, hidden)
            raise
    return parts / day / name


def remove_folder(folder: Path) -> None:
    """Remove the station's files, the folder and its day, unless something else is in them.

    Raises: OSError.
    """
    with suppress(FileNotFoundError), _opened(folder.parent) as day:
        _remove_in(day, folder.name)
    with suppress(OSError):  # not empty
        folder.parent.rmdir()


def _look_at(parts: Path, folder: Path, repair: bool) -> Kept | None:
    is_hidden = folder.name.startswith(WRITING)
    if not NUMBERED.fullmatch(folder.name):
        return None
    try:
        files = {entry.name: entry.stat(follow_symlinks=False) for entry in _entries(folder)}
    except OSError as error:
        log.warning("%s is passed over: %s", folder, error)
        return None
    ours = [info for name, info in files.items() if name in FILES and stat.S_ISREG(info.st_mode)]
    is_whole = RECORD in files and all(info.st_size for info in ours) and not is_hidden
    if is_whole:
        return Kept(
            folder, BLOCK_BYTES + sum(max(info.st_blocks * 512, info.st_size) for info in ours)
        )
    if repair and len(ours) == len(files) and (is_hidden or FIRST in files):
        log.warning(
            "%s was left half written by a crash or a power cut: removed",
            folder.relative_to(parts.parent),
        )
        with suppress(OSError):
            remove_folder(folder)
    return None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder; nothing if it is none, or cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        log.warning("%s is passed over: %s", folder, error)
        return []


def _write(name: str, data: bytes, folder: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    # a descriptor, no path
    with open(os.open(name, flags, 0o644, dir_fd=folder), "wb") as file:  # noqa: PTH123
        file.write(data)


def _remove_in(parent: int, name: str) -> None:
    """Remove the station's files in the folder `name`, then the folder if that was all.

    Raises: OSError.
    """
    try:
        with _opened(name, parent) as folder:
            # a descriptor, no path
            for file in FILES.intersection(os.listdir(folder)):  # noqa: PTH208
                with suppress(IsADirectoryError):  # not the station's
                    os.unlink(file, dir_fd=folder)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise


@contextmanager
def _opened(folder: Path | str, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(folder, FOLDER_FLAGS, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _in_blocks(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
