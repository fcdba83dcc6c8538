"""A staged bundle becomes the content of its slot."""

from __future__ import annotations

from pathlib import Path

from edge.files import is_there, make_folder, remove_tree, sha256_of, sync_directory
from edge.station.store import Installed, Store, slot_name
from edge.station.switch import is_slot


def place_in_slot(store: Store, staged: Installed) -> Installed:
    """Move the staged bundle into its slot; a slot that exists is repaired file by file, since
    `edge run` may be using it.
    """
    slots = store.products_folder / staged.product / "slots"
    make_folder(slots)
    target = slots / slot_name(staged.manifest, staged.digest)
    if is_there(target) and not is_slot(target):
        remove_tree(target)
    if target.exists():
        _repair(target, staged.folder)
    else:
        staged.folder.rename(target)
    for folder in (slots, slots.parent, store.products_folder, store.data):
        sync_directory(folder)
    return Installed(staged.product, target, staged.manifest, staged.digest)


def _repair(target: Path, staged: Path) -> None:
    wanted = {path.relative_to(staged) for path in staged.rglob("*") if path.is_file()}
    for path in [path for path in target.rglob("*") if path.is_symlink() or not path.is_dir()]:
        if path.relative_to(target) not in wanted or path.is_symlink():
            path.unlink()
    for name in sorted(wanted):
        if not _is_same(target / name, staged / name):
            make_folder((target / name).parent)
            (staged / name).replace(target / name)
    for folder in (target, *(path for path in target.rglob("*") if path.is_dir())):
        sync_directory(folder)  # also where something was only removed, or a folder made


def _is_same(path: Path, wanted: Path) -> bool:
    """Sizes first: a damaged slot may hold files of any size, which need not be read."""
    return (
        path.is_file()
        and path.stat().st_size == wanted.stat().st_size
        and sha256_of(path) == sha256_of(wanted)
    )
