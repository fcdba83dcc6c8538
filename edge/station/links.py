"""Links, and whatever else leads out of a station, are refused in the places that are known.

The rights that root takes (edge.station.account) already keep a link from leading further than its
maker could go; this gives a clear sentence, also where root owns everything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from edge.errors import EdgeError, StorageError
from edge.files import sentence_of
from edge.station.account import real_uid


def require_plain(folders: Iterable[Path] = (), files: Iterable[Path] = ()) -> None:
    """Refuse links where a folder or a file of the station belongs, so that no path leads out of
    the station.

    A file has one name only: with a second hard link, a file elsewhere would change too. A folder
    in place of a file, or the other way round, leads nowhere, and the act itself reports it. Only
    root is kept from following links: those of an ordinary user are that user's own affair.
    Raises: StorageError naming the place and what has taken it.
    """
    if real_uid() != 0:
        return
    for folder in folders:
        about = _about(folder)
        if about is not None and stat.S_ISLNK(about.st_mode):
            raise _taken(folder, "a link", "a folder")
    for file in files:
        about = _about(file)
        if about is None or stat.S_ISDIR(about.st_mode):
            continue
        if not stat.S_ISREG(about.st_mode):
            raise _taken(
                file,
                "a link" if stat.S_ISLNK(about.st_mode) else "a pipe, socket or device",
                "a file",
            )
        if about.st_nlink > 1:
            raise _taken(file, "a second name (a hard link) of a file elsewhere", "a file")


def require_closed(places: Iterable[Path], error: type[EdgeError]) -> None:
    """Raises: `error` naming the first place that every account on this machine may write."""
    for place in places:
        about = _about(place)
        if about is not None and not stat.S_ISLNK(about.st_mode) and about.st_mode & stat.S_IWOTH:
            raise error(
                f"{place} may be changed by every account of this machine: run `chmod o-w {place}`,"
                " and look at what lies there"
            )


def require_roots(root: Path, places: Iterable[Path], error: type[EdgeError]) -> None:
    """Require that nobody but root can change what lies at `places` or lay something else there:
    each folder on the way, from `root` on, is checked too. What is not there is passed over.

    places: relative to `root`. Raises: `error` naming the first that somebody else can change.
    """
    for place in places:
        for step in (*reversed(place.parents), place):
            path = root / step
            about = _about(path)
            if about is not None:
                _require_root(path, about, error)


def _require_root(path: Path, about: os.stat_result, error: type[EdgeError]) -> None:
    look = f"it decides what root does: look at what lies there, then run `{{}} {path}`"
    if stat.S_ISLNK(about.st_mode):
        raise error(
            f"{path} is a link, and decides what root does: put what it leads to in its place, or"
            " bring another disk in with `mount --bind`"
        )
    if about.st_uid != 0:
        remedy = look.format("chown root:root")
        raise error(f"{path} belongs to account {about.st_uid}, not root, and {remedy}")
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise error(f"{path} may be changed by other accounts, and {look.format('chmod go-w')}")


def _about(place: Path) -> os.stat_result | None:
    """What lies there, links not followed; None where nothing does."""
    try:
        return place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageError(sentence_of(error, place)) from error


def _taken(place: Path, found: str, wanted: str) -> StorageError:
    return StorageError(
        f"{place} is {found} where {wanted} of the station belongs, and is not followed: see who"
        " put it there, then move it away; another disk is brought in with `mount --bind`"
    )
