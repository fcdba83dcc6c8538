"""A bundle wrapped as .swu, which is how fleet servers for SWUpdate take files: a cpio archive
(newc, with or without checksums) of `sw-description` and the bundle. What it describes is not read:
the bundle's own signature decides.

Format: cpio(5), "New ASCII Format"; the checksum is the sum of a file's bytes, modulo 2**32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge.bundle.tar import TOTAL_LIMIT
from edge.errors import BundleError

PLAIN, SUMMED = b"070701", b"070702"
HEADER, FIELDS = 110, 13  # bytes; numbers of eight hexadecimal digits behind the magic
MODE, SIZE, NAME_SIZE, CHECK = 1, 6, 11, 12  # which of them
REGULAR, KIND = 0o100000, 0o170000
END = "TRAILER!!!"
ENTRIES, NAME_LIMIT = 16, 256
BLOCK = 1 << 20  # bytes
OTHER = "wrap the bundle again, and offer that"


@dataclass(frozen=True)
class _Entry:
    name: str
    mode: int
    size: int
    check: int | None  # None: not summed


def is_swu(path: Path) -> bool:
    """Whether a file begins like a .swu. Raises: OSError."""
    with path.open("rb") as file:
        return file.read(len(PLAIN)) in (PLAIN, SUMMED)


def unwrap(path: Path, target: Path) -> None:
    """Write the one .bundle file in a .swu to `target`.

    Raises: BundleError if it is no .swu, is damaged, or does not have exactly one; OSError if the
        disk does not take it.
    """
    found = 0
    with path.open("rb") as file:
        for _ in range(ENTRIES):
            entry = _read_entry(file, path)
            if entry.name == END:
                break
            if not entry.name.endswith(".bundle"):
                file.seek(entry.size + -entry.size % 4, 1)
                continue
            found += 1
            if found > 1 or entry.mode & KIND != REGULAR:
                found = 0
                break
            _copy(file, entry, target, path)
    if found != 1:
        target.unlink(missing_ok=True)
        raise BundleError(f"{path.name} has not exactly one .bundle file in it: {OTHER}")


def _read_entry(file: BinaryIO, path: Path) -> _Entry:
    head = file.read(HEADER)
    numbers = [head[6 + 8 * index : 14 + 8 * index] for index in range(FIELDS)]
    is_head = len(head) == HEADER and head[:6] in (PLAIN, SUMMED)
    if not is_head or not all(all(c in b"0123456789abcdefABCDEF" for c in n) for n in numbers):
        raise BundleError(f"{path.name} is no .swu, or is damaged: {OTHER}")
    size, length = int(numbers[SIZE], 16), int(numbers[NAME_SIZE], 16)
    if size > TOTAL_LIMIT or not 0 < length <= NAME_LIMIT:
        raise BundleError(f"{path.name} holds an absurd length: {OTHER}")
    name = file.read(length)
    file.seek(-(HEADER + length) % 4, 1)
    check = int(numbers[CHECK], 16) if head[:6] == SUMMED else None
    return _Entry(
        name.rstrip(b"\0").decode("utf-8", "replace"), int(numbers[MODE], 16), size, check
    )


def _copy(file: BinaryIO, entry: _Entry, target: Path, path: Path) -> None:
    left, total = entry.size, 0
    with target.open("wb") as out:
        while left and (block := file.read(min(left, BLOCK))):
            out.write(block)
            left -= len(block)
            total += sum(block)
    if left or entry.check not in (None, total & 0xFFFFFFFF):
        target.unlink()
        raise BundleError(f"{path.name} is damaged in {entry.name!r}: {OTHER}")
    file.seek(-entry.size % 4, 1)
