"""Which of two versions of a bundle is the newer one. A manifest allows letters, digits, dots, `_`
and `-` in them.

Versions are compared piece by piece, as PEP 440 and Semantic Versioning 2.0.0 do where they agree:

    numbers as numbers         1.10 is newer than 1.9
    zeros at the end           ignored: 1.0 is 1.0.0
    letters: a preview         1.0-rc1 is older than 1.0; dev is older than a, a than b, b than rc
    the letters `post`         newer than what they follow
    a `v` in front             ignored
"""

from __future__ import annotations

import re

Key = tuple[tuple[int, int, str], ...]

PIECE = re.compile(r"[0-9]+|[A-Za-z]+")
DEV, PREVIEW, END, POST, NUMBER = range(-2, 3)


def version_key(version: str) -> Key:
    """Sorts versions from old to new; equal for two spellings of the same one."""
    pieces = PIECE.findall(version)
    if len(pieces) > 1 and pieces[0].lower() == "v":
        del pieces[0]
    release = next(
        (index for index, piece in enumerate(pieces) if not piece.isdigit()), len(pieces)
    )
    while release and not int(pieces[release - 1]):
        release -= 1
        del pieces[release]
    return (*(_rank(piece) for piece in pieces), (END, 0, ""))


def _rank(piece: str) -> tuple[int, int, str]:
    if piece.isdigit():
        return NUMBER, int(piece), ""
    word = piece.lower()
    return {"dev": DEV, "post": POST}.get(word, PREVIEW), 0, word
