"""What a killed command may have left under a root, cleared by the next one that holds the change
lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edge.files import is_there, remove_tree, sync_directory
from edge.station.claims import close_claim
from edge.station.restoring import STAGE
from edge.station.root import DATA, TRUST, RootFolder
from edge.station.switch import SLOT, finish
from edge.units import UNITS

ETC = TRUST.parent
HALF_WRITTEN = (  # temporary files of edge.files, which begin with a dot and the final name
    (DATA, ".active.*"),
    (DATA, ".numbers.json.*"),
    (DATA, ".backup.*"),  # databases that `edge backup` copied
    (DATA, STAGE),  # of an `edge restore` that had changed nothing yet, or had ended
    (DATA / "engines", ".*.json.*"),
    (DATA / "products", "*/.current.new"),
    (DATA / "products", "*/.previous.new"),
    (DATA / "products", "*/site/.*.json.*"),
    (TRUST, ".*.pub.*"),
    (TRUST, ".update-*.json.*"),
    (ETC, ".station.toml.*"),
    (UNITS, ".edge*.service.*"),
    (UNITS, ".edge*.path.*"),
    (UNITS, ".edge*.timer.*"),
)


def settle(station: RootFolder) -> None:
    """Remove staging folders, half-written files and slots that no link points at; close audit rows
    left open.

    Changes nothing where the last command ended well. Whatever is not named like a slot stays: see
    `strays`. The caller holds the change lock.
    """
    finish(station.root, station.products_folder)
    close_claim(station)
    _discard(station.staging)
    for place, pattern in HALF_WRITTEN:
        with station.inside(DATA if DATA in (place, *place.parents) else place):
            for path in list((station.root / place).glob(pattern)):
                remove_tree(path)
    for slots in _slot_folders(station):
        product = slots.parent.name
        used = {station.link(product, "current"), station.link(product, "previous")}
        for slot in [
            path for path in slots.iterdir() if path.name not in used and SLOT.fullmatch(path.name)
        ]:
            slot.rename(station.staging)  # one rename, so that a slot is never seen half empty
            sync_directory(slots)
            _discard(station.staging)
        _remove_if_empty(slots)
        _remove_if_empty(slots.parent)


def strays(station: RootFolder) -> Iterator[Path]:
    """Whatever lies among the slots and is not named like one. It stays: somebody may need it."""
    for slots in _slot_folders(station):
        yield from sorted(path for path in slots.iterdir() if not SLOT.fullmatch(path.name))


def _slot_folders(station: RootFolder) -> list[Path]:
    return [path for path in station.products_folder.glob("*/slots") if path.is_dir()]


def _discard(folder: Path) -> None:
    if is_there(folder):
        remove_tree(folder)
        sync_directory(folder.parent)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
