"""What lies in a backup, read without trust in what it says: plain files, folders, the links of
slots, all below etc/edge and var/lib/edge.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from edge.backup.contents import ETC, MODES, Kind, is_slot_link
from edge.backup.seal import BLOCK_BYTES, CHANGED, Hashed, Verified
from edge.errors import DataError
from edge.station.root import DATA

KINDS: dict[bytes, Kind] = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
}
STEPS = 32  # of a name; the longest of a station has fewer than half as many
STEP = re.compile(r"[^/\x00-\x1f\x7f]{1,255}")


@dataclass(frozen=True)
class Member:
    """One entry. name: relative to the root. owner: "edge" or "root". mtime_s: since 1970.
    size: bytes of its content.

    content: of a file, to be read before the next member is asked for.
    """

    name: PurePosixPath
    kind: Kind
    mode: int
    owner: str
    mtime_s: int
    target: str
    size: int
    content: IO[bytes]


def members(backup: Verified) -> Iterator[Member]:
    """Every entry in order.

    Raises: DataError if an entry is not what `edge backup` writes, or the file changes meanwhile.
    """
    backup.file.seek(0)
    body = Hashed(backup.file, backup.about.size)
    names: set[PurePosixPath] = set()
    try:
        with tarfile.open(fileobj=body, mode="r|") as tar:
            for entry in tar:
                name = _checked(backup.path, entry)
                if name in names:
                    raise DataError(f"{backup.path} has {name} twice: do not use it")
                names.add(name)
                yield _member(name, entry, tar)
    except tarfile.TarError as error:
        raise DataError(f"{backup.path} cannot be read ({error}): {CHANGED}") from error
    while body.read(BLOCK_BYTES):
        pass
    if body.sha256 != backup.about.sha256:
        raise DataError(f"{backup.path} was changed while it was read: {CHANGED}")


def _member(name: PurePosixPath, entry: tarfile.TarInfo, tar: tarfile.TarFile) -> Member:
    content = tar.extractfile(entry) if entry.isreg() else None
    return Member(
        name,
        KINDS[entry.type],
        entry.mode & MODES,
        entry.uname,
        int(entry.mtime),
        entry.linkname,
        entry.size,
        content or io.BytesIO(),
    )


def _checked(path: Path, entry: tarfile.TarInfo) -> PurePosixPath:
    name = PurePosixPath(entry.name)
    places = [PurePosixPath(place) for place in (ETC, DATA)]
    is_below = any(place in (name, *name.parents) for place in places)
    is_plain = all(STEP.fullmatch(step) and step not in (".", "..") for step in name.parts)
    is_plain = is_plain and len(name.parts) <= STEPS
    if not is_below or not is_plain or name.as_posix() != entry.name:
        raise DataError(f"{path} has {entry.name!r}, which no station has: do not use it")
    kind = KINDS.get(entry.type)
    if kind is None or (kind == "link" and not is_slot_link(name, entry.linkname)):
        raise DataError(f"{path}: {entry.name!r} is a link or a device: do not use it")
    return name
