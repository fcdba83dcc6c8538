"""Where a TUF client keeps what it verified: whole at any moment.

    var/lib/edge/update/tuf/current -> a    (or b)

python-tuf replaces its files one by one and does not sync them, so that a power cut could leave an
empty one, and with it the memory of which version was the newest. It works on a copy here, which is
synced and takes the place of the other in one rename.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.files import link_atomically, make_folder, remove_tree, sync_directory
from edge.station.switch import slot_of

CURRENT, SIDES = "current", ("a", "b")


@contextmanager
def worked_on(folder: Path) -> Iterator[Path]:
    """A copy of what is kept below `folder`, which takes its place at the end of the body.

    Also where the body raises: a TUF client writes only what it has verified, and what came before
    the fault is worth keeping.
    Raises: OSError if the disk does not take it; then what was there stays.
    """
    before = slot_of(folder / CURRENT)
    side = SIDES[1] if before == SIDES[0] else SIDES[0]
    make_folder(folder)
    remove_tree(folder / side)
    if before in SIDES and (folder / before).is_dir():
        shutil.copytree(folder / before, folder / side, symlinks=True)
    make_folder(folder / side)
    try:
        yield folder / side
    except Exception:
        _take(folder, side)
        raise
    _take(folder, side)


def _take(folder: Path, side: str) -> None:
    for path in (folder / side, *(folder / side).rglob("*")):
        if path.is_dir():
            sync_directory(path)
        elif not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    link_atomically(folder / CURRENT, side)
