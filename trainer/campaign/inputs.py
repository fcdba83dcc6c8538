"""Hashes of what jobs read. A folder is read once; afterwards its list of files tells whether it
changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edge.files import sha256_of, write_json

FILE = "inputs.json"


class Inputs:
    """Of one campaign. out: its folder, where they are kept between commands."""

    def __init__(self, out: Path) -> None:
        self._path = out / FILE
        self._known: dict[str, list[str]] = {}
        with suppress(OSError, ValueError):  # the first command, or a file that nobody else needs
            self._known = dict(json.loads(self._path.read_text(encoding="utf-8")))

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, or of the names and contents of all files below a folder."""
        if path.is_file():
            return sha256_of(path)
        files = sorted(_files_below(path))
        listed = hashlib.sha256()
        for file in files:
            told = file.stat()
            name = file.relative_to(path)
            listed.update(f"{name}\0{told.st_size}\0{told.st_mtime_ns}\n".encode())
        known = self._known.get(str(path))
        if known is None or known[0] != listed.hexdigest():
            content = hashlib.sha256()
            for file in files:
                content.update(f"{file.relative_to(path)}\0{sha256_of(file)}\n".encode())
            self._known[str(path)] = [listed.hexdigest(), content.hexdigest()]
        return self._known[str(path)][1]

    def keep(self) -> None:
        """Write them for the next command."""
        write_json(self._path, self._known)


def _files_below(folder: Path, around: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Also those in linked folders, which the trainings read. around: folders that are open; a link
    to one of them leads nowhere new.
    """
    real = folder.resolve()
    children: list[Path] = []
    with suppress(PermissionError):  # the trainings cannot read it either
        children = [] if real in around else list(folder.iterdir())
    for child in children:
        if child.is_dir():
            yield from _files_below(child, (*around, real))
        elif child.is_file():
            yield child
