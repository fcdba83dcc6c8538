"""The headers of a tar file that nobody vouches for yet: which members it has, and where they lie.

The reader is ours and small, because Python's tarfile follows links, sparse maps and header sizes
that an attacker chose (CVE-2025-8194 loops forever on Python 3.10). It knows plain ustar files
(POSIX.1-1988) and nothing else, and reads headers only: contents are read once the manifest that
lists them has been verified (edge.bundle.archive).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from edge.bundle.key_files import PRIVATE
from edge.errors import BundleError

BLOCK = 512
RECORD = 20 * BLOCK  # tar pads its files to this
MEMBER_LIMIT = 1 << 30  # bytes of one member
# bytes of a whole bundle; the largest detector's three files take less than half of it
TOTAL_LIMIT = 2 << 30
COUNT_LIMIT = 4096  # files
ENTRY_LIMIT = 3 * COUNT_LIMIT  # headers of any kind: of a file, its folder and its times
PAX_LIMIT = 4 << 10  # bytes of one extended header
HARMLESS_PAX = {"mtime", "atime", "ctime"}
AGAIN = "copy it again from the workstation"
KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder with content",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"L": "a long name",
    b"K": "a long link",
    b"g": "a global header",
}


@dataclass(frozen=True)
class Member:
    """Where a file lies in the tar: offset and size in bytes."""

    name: str
    offset: int
    size: int


def read_blocks(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The bytes of a member, at most 1 MiB at a time.

    Raises: BundleError if the file ends before the member does.
    """
    file.seek(member.offset)
    left = member.size
    while left:
        block = file.read(min(left, 1 << 20))
        if not block:
            raise BundleError(f"the bundle ends in the middle of {member.name}: {AGAIN}")
        left -= len(block)
        yield block


def scan(file: BinaryIO) -> dict[str, Member]:
    """The members of a tar by name, from its headers alone.

    Raises: BundleError for anything but plain files with plain relative names, doubled names and
    absurd sizes.
    """
    length = os.fstat(file.fileno()).st_size
    start = file.read(BLOCK)
    if length < RECORD or start[257:262] != b"ustar":
        raise BundleError(
            f"the file is not a bundle ({_kind_of(start)}): give the .bundle file that `trainer"
            " export` wrote"
        )
    if length > TOTAL_LIMIT:
        raise BundleError(
            f"the bundle has {length} bytes, at most {TOTAL_LIMIT} are allowed: export it again"
        )
    members: dict[str, Member] = {}
    folders: set[str] = set()
    offset = entries = 0
    while (header := _read_header(file, offset, length)) is not None:
        entries += 1
        if entries > ENTRY_LIMIT:
            raise BundleError(f"the bundle has more than {ENTRY_LIMIT} entries: do not use it")
        name, kind, size = header
        body = offset + BLOCK
        offset = body + -(-size // BLOCK) * BLOCK
        if offset > length:
            raise BundleError(f"the bundle is truncated in {name!r}: {AGAIN}")
        if kind == b"x":
            _check_pax(file, body, size)
        elif kind == b"5" and size == 0:
            folders.add(check_name(name.rstrip("/")))
        else:
            _add(members, Member(name, body, size), kind)
    _check_end(file, offset, length)
    _check_folders(folders, members)
    return members


def _kind_of(start: bytes) -> str:
    """What a file that is no bundle seems to be, from its first bytes."""
    if not start:
        return "it is empty"
    if PRIVATE in start:
        return "it is a private key, which should never leave the workstation"
    if b'"keyid"' in start:
        return "it is a public key, which `edge trust` takes"
    if start.startswith(b"PK"):
        return "it is a zip archive"
    return "no tar header at its start, or too short"


def _add(members: dict[str, Member], member: Member, kind: bytes) -> None:
    if kind not in (b"0", b"\0"):
        what = f"{member.name!r} is {KINDS.get(kind, 'of an unknown kind')}"
        raise BundleError(f"{what}, a bundle holds plain files only: do not use it")
    check_name(member.name)
    if member.name in members:
        raise BundleError(f"{member.name} is in the bundle twice: do not use it, export it again")
    if len(members) >= COUNT_LIMIT:
        raise BundleError(f"the bundle has more than {COUNT_LIMIT} files: do not use it")
    members[member.name] = member


def _read_header(file: BinaryIO, offset: int, length: int) -> tuple[str, bytes, int] | None:
    """Name, kind and size of the header at `offset`, or None at the end mark (a block of zeros)."""
    file.seek(offset)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        raise BundleError(f"the bundle is truncated after {length} bytes: {AGAIN}")
    if not any(block):
        return None
    checksum = _octal(block[148:156], "checksum")
    if checksum != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
        raise BundleError(f"a tar header at byte {offset} is damaged: {AGAIN}")
    try:
        name, prefix = (
            field.split(b"\0", 1)[0].decode("ascii") for field in (block[:100], block[345:500])
        )
    except UnicodeDecodeError as error:
        what = f"the name in the tar header at byte {offset} is not ASCII"
        raise BundleError(f"{what}: do not use this bundle") from error
    size = _octal(block[124:136], "size")
    if size > MEMBER_LIMIT:
        raise BundleError(
            f"{name!r} claims {size} bytes, at most {MEMBER_LIMIT} are allowed: do not use this"
            " bundle"
        )
    return (f"{prefix}/{name}" if prefix else name), block[156:157], size


def _octal(field: bytes, what: str) -> int:
    """An octal number of a tar header; the binary form for huge and negative numbers is refused."""
    match = re.fullmatch(rb"[ ]*([0-7]{1,11})[ \0]*", field)
    if match is None:
        raise BundleError(
            f"a tar header holds an absurd {what}: do not use this bundle, export it again"
        )
    return int(match.group(1), 8)


def _check_pax(file: BinaryIO, offset: int, size: int) -> None:
    """Extended headers may carry times (tarfile writes them); any other key would change names or
    sizes.
    """
    file.seek(offset)
    data = file.read(size) if size <= PAX_LIMIT else b""
    keys = {
        record.split(b" ", 1)[-1].split(b"=", 1)[0].decode("ascii", "replace")
        for record in data.splitlines()
    }
    if not keys or not keys <= HARMLESS_PAX:
        what = "the bundle has an extended tar header that may change names or sizes"
        raise BundleError(f"{what}: do not use it, export it again")


def check_name(name: str) -> str:
    """`name`, if it is a plain relative path of a bundle.

    Raises: BundleError if it is absolute, escapes, or has unusual characters.
    """
    if name.startswith("/"):
        raise BundleError(
            f"{name!r} is an absolute path, a bundle holds relative ones only: do not use this"
            " bundle"
        )
    steps = name.split("/")
    if ".." in steps:
        raise BundleError(f"{name!r} escapes from the bundle's folder: do not use this bundle")
    if len(name) > 200 or not all(
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", step) for step in steps
    ):
        raise BundleError(
            f"{name!r} is not a file name that a bundle uses: do not use this bundle, export it"
            " again"
        )
    return name


def _check_end(file: BinaryIO, offset: int, length: int) -> None:
    """A tar ends with two blocks of zeros, padded with zeros to a whole record."""
    if length - offset < 2 * BLOCK or length % RECORD:
        raise BundleError(f"the bundle is truncated after {length} bytes: {AGAIN}")
    file.seek(offset)
    while block := file.read(1 << 20):
        if any(block):
            raise BundleError(
                f"the bundle has bytes after its end mark at {offset}: do not use it, {AGAIN}"
            )


def _check_folders(folders: set[str], members: dict[str, Member]) -> None:
    """Folder entries may only announce the folders of files, and a file is never also a folder."""
    parents = {
        "/".join(name.split("/")[:depth])
        for name in members
        for depth in range(1, name.count("/") + 1)
    }
    for name in sorted((folders - parents) | (parents & set(members))):
        what = f"the bundle has a folder {name!r} that does not belong to it"
        raise BundleError(f"{what}: do not use it, export it again")
