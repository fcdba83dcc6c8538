"""Entries of a .swu, made from the description of cpio's format and not by `cpio`."""

from __future__ import annotations


def entry(name: bytes, data: bytes, magic: bytes = b"070702", **fields: int) -> bytes:
    """One file of cpio's format, from its description. fields: other values than the right ones."""
    values = {"ino": 1, "mode": 0o100644, "uid": 0, "gid": 0, "nlink": 1, "mtime": 0}
    values |= {"size": len(data), "major": 0, "minor": 0, "rmajor": 0, "rminor": 0}
    values |= {"namesize": len(name) + 1, "check": sum(data) if magic == b"070702" else 0, **fields}
    head = magic + b"".join(b"%08X" % value for value in values.values()) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


END = entry(b"TRAILER!!!", b"")
ABOUT = entry(b"sw-description", b"software: {}")
