"""A zip file that is sent while it is made: stored entries, no temporary file, no seeking back.

PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory) and 4.3.16 (its
end). Every entry's bytes are known before its header, so that sizes and CRC stand in the header
itself, where every program looks; Python's zipfile would write them behind the data. Images are
compressed already: nothing is compressed here. Without the zip64 extension an archive ends at
MOST_ENTRIES entries and MOST_BYTES; whoever makes a longer one has to refuse it before.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

MOST_ENTRIES = 65_534
MOST_BYTES = 4_000_000_000  # of all entries together; positions in the file have 32 bits
VERSION, STORED, UTF8 = 20, 0, 1 << 11
UNIX, PLAIN_FILE = 3 << 8, 0o100644 << 16
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
MOMENT = (0, (2020 - 1980) << 9 | 1 << 5 | 1)  # DOS time and date: 2020-01-01, always the same


def zip_chunks(entries: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The bytes of the archive, in pieces of about one entry each.

    entries: (name, content), the name with `/` between folders, relative, ASCII.
    Raises: OverflowError for an archive beyond the limits.
    """
    directory: list[bytes] = []
    position = 0
    for name, content in entries:
        encoded = name.encode("ascii")
        about = struct.pack(
            "<HHHHHIIIHH",
            VERSION,
            UTF8,
            STORED,
            *MOMENT,
            zlib.crc32(content),
            len(content),
            len(content),
            len(encoded),
            0,
        )
        tail = struct.pack("<HHHII", 0, 0, 0, PLAIN_FILE, position)
        version = struct.pack("<H", UNIX | VERSION)
        directory.append(CENTRAL + version + about + tail + encoded)
        header = LOCAL + about + encoded
        position += len(header) + len(content)
        if len(directory) > MOST_ENTRIES or position > MOST_BYTES:
            raise OverflowError("the archive is longer than a zip file without zip64 may be")
        yield header + content
    listing = b"".join(directory)
    count = len(directory)
    yield listing + END + struct.pack("<HHHHIIH", 0, 0, count, count, len(listing), position, 0)
