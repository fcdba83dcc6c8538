"""Disk space that is reserved when the station is set up, so that a number and its record can be
stored on a full disk.

`line.seq` is only ever overwritten in place: two blocks, each with the last number that was
published without a committed record and the length of what follows; then the records of such
numbers, one line each: CRC-32 in hex, then JSON. The blocks are written in turn and the later one
counts, so that a block that a power cut has torn leaves the block before it.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from pathlib import Path
from typing import Any

from edge.files import sync_directory

log = logging.getLogger(__name__)

BLOCK_BYTES = 4096
START = 2 * BLOCK_BYTES  # of the records
SPACE_BYTES = 1 << 20  # about 1000 records


class Reserve:
    """The last number, and the records that the database did not take."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`.

        Raises: OSError if the disk does not even take its first blocks.
        """
        self._path = path
        created = not path.exists()
        self._descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        size = os.fstat(self._descriptor).st_size
        if size < START:
            os.pwrite(self._descriptor, bytes(START - size), size)
        self._turn, self.number, self._used = max(self._read_head(0), self._read_head(1))
        self._space = self._take_space()
        if created:
            sync_directory(path.parent)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    @property
    def holds_records(self) -> bool:
        """Whether there are records that the database may not have yet."""
        return self._used > 0

    def records(self) -> list[Any]:
        """The records that `write` was given since `clear`, in order; a line that does not match
        its checksum is left out.
        """
        found = []
        for line in os.pread(self._descriptor, self._used, START).splitlines():
            check, _, text = line.partition(b" ")
            if check == b"%08x" % zlib.crc32(text):
                found.append(json.loads(text))
            else:
                log.error("a record in %s is damaged and left out", self._path)
        return found

    def write(self, number: int, record: Any | None = None) -> bool:
        """Store the number, and the record if there is room; returns whether there was room.

        Raises: OSError.
        """
        line = b"" if record is None else _line_of(record)
        fits = record is not None and self._used + len(line) <= self._space
        if fits:
            os.pwrite(self._descriptor, line, START + self._used)
            os.fsync(self._descriptor)  # before the number that says it is there
        self._write_head(number, self._used + len(line) * fits)
        return fits

    def clear(self) -> None:
        """The records are in the database. Raises: OSError."""
        self._write_head(self.number, 0)

    def _read_head(self, which: int) -> tuple[int, int, int]:
        """(turn, number, bytes of records) of one block; zeros if it is torn or nothing was
        written.
        """
        words = os.pread(self._descriptor, BLOCK_BYTES, which * BLOCK_BYTES).split()
        if not all(word.isdigit() for word in words):
            return 0, 0, 0
        # the format before version 0.13: the number alone, twice
        if len(words) == 2 and words[0] == words[1]:
            return 0, int(words[0]), 0
        if len(words) != 4 or int(words[3]) != zlib.crc32(b" ".join(words[:3])):
            return 0, 0, 0
        return int(words[0]), int(words[1]), int(words[2])

    def _write_head(self, number: int, used: int) -> None:
        turn = self._turn + 1
        head = b"%d %d %d" % (turn, number, used)
        block = b"%s %d\n" % (head, zlib.crc32(head))
        os.pwrite(self._descriptor, block.ljust(BLOCK_BYTES, b" "), turn % 2 * BLOCK_BYTES)
        os.fsync(self._descriptor)
        self._turn, self.number, self._used = turn, number, used

    def _take_space(self) -> int:
        """How many bytes records may take: all of SPACE_BYTES or, where the disk is too small or
        already full, what the file has.
        """
        wanted, size = START + SPACE_BYTES, os.fstat(self._descriptor).st_size
        try:
            while size < wanted:
                size += os.pwrite(self._descriptor, bytes(min(1 << 16, wanted - size)), size)
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, START + self._used)
            log.warning(
                "%s cannot take %d KiB (%s): records that a full disk refuses wait in memory only",
                self._path,
                SPACE_BYTES >> 10,
                error,
            )
            return self._used
        return SPACE_BYTES


def _line_of(record: Any) -> bytes:
    text = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)
