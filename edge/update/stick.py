"""A repository in a folder: on a USB stick, or on any disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge.errors import UpdateError
from edge.files import open_plain, sentence_of
from edge.update.reach import NotThere, TooLong, require_below

BLOCK = 1 << 20  # bytes


class StickReach:
    """The files below a folder. See edge.update.reach.Reach.

    A link is no file of it: root copies what it reads here to where others may read it.
    """

    def __init__(self, folder: Path) -> None:
        """folder: where the stick is mounted, or a folder on it."""
        self._folder, self.where = folder, str(folder)

    def read(self, path: str, limit: int) -> bytes:
        """As Reach.read."""
        with self._opened(path) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise TooLong(f"{self._folder / path} has more than {limit} bytes")
        return data

    def copy(self, path: str, target: Path, size: int) -> None:
        """As Reach.copy. A copy that was cut short begins anew."""
        with target.open("wb") as copy:
            for block in self._blocks(path, size):
                copy.write(block)

    def _blocks(self, path: str, size: int) -> Iterator[bytes]:
        left = size
        with self._opened(path) as file:
            while block := file.read(min(BLOCK, left + 1)):
                left -= len(block)
                if left < 0:
                    raise TooLong(f"{self._folder / path} has more than {size} bytes")
                yield block
        if left:
            raise UpdateError(
                f"{self._folder / path} has {size - left} bytes, {size} belong there: the copy is"
                " not whole, make it again with `trainer release usb`"
            )

    @contextmanager
    def _opened(self, path: str) -> Iterator[BinaryIO]:
        require_below(path)
        try:
            with os.fdopen(
                open_plain(self._folder / path, UpdateError, follow=False), "rb"
            ) as file:
                yield file
        except FileNotFoundError as error:
            raise NotThere(f"{self._folder} has no {path}") from error
        except OSError as error:
            raise UpdateError(f"the stick: {sentence_of(error, self._folder / path)}") from error
