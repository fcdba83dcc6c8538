"""An act that can be cut, with the state of the root before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Mark = Callable[[str], None]


@dataclass(frozen=True)
class Act:
    """prepare(root, files) makes what is safely on the disk before; run(root, files, mark) is what
    is cut.

    run calls `mark` with what it has told somebody: from then on a cut must not take it back. When
    it has returned, "returned" is told.
    """

    prepare: Callable[[Path, Path], object]
    run: Callable[[Path, Path, Mark], object]
