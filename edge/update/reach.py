"""How the files of a repository are reached: the protocol that a server and a stick offer alike.

What comes from there is not trusted: each call says how many bytes it takes at most, and no call
lasts forever. Whether the bytes are right is decided elsewhere, by signatures.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Protocol

from edge.errors import UpdateError


class NotThere(UpdateError):
    """The repository has no such file."""


class Refused(UpdateError):
    """A server takes a request in no case: the same one would be answered alike."""


class TooLong(UpdateError):
    """A file has more bytes than it may."""


class Reach(Protocol):
    """The files below one address. Paths have forward slashes and no `..`."""

    where: str  # for messages

    def read(self, path: str, limit: int) -> bytes:
        """The content of a small file.

        Raises: NotThere; TooLong if it has more than `limit` bytes; UpdateError if it cannot be
            read.
        """
        ...

    def copy(self, path: str, target: Path, size: int) -> None:
        """Copy a file of `size` bytes to `target`, going on behind what is there already. What was
        copied stays when this fails.

        Raises: NotThere; TooLong if the file goes on after `size` bytes; UpdateError if it cannot
            be read, or ends before; OSError if the disk does not take it.
        """
        ...


def require_below(path: str) -> None:
    """Raises: UpdateError if a path leads out of the repository."""
    steps = PurePosixPath(path)
    if steps.is_absolute() or ".." in steps.parts or "\\" in path or not path.isprintable():
        raise UpdateError(f"{path!r} is no path of a repository: it is not what was expected there")
