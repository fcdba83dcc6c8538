"""What a killed command may have left under a root, cleared by the next one that holds the change lock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from edge.bundle.claims import close_claim
from edge.bundle.store import Store
from edge.bundle.switch import finish
from edge.files import sync_directory


def settle(store: Store) -> None:
    """Remove staging folders, half-written files and slots that nothing points at; close audit rows left open.

    Changes nothing where the last command ended well. The caller holds the change lock.
    """
    finish(store.root, store.products_folder)
    close_claim(store)
    _discard(store.staging)
    for path in list(_half_written(store)):
        path.unlink()
    for slots in store.products_folder.glob("*/slots"):
        product = slots.parent.name
        used = {store.link(product, "current"), store.link(product, "previous")}
        for slot in [path for path in slots.iterdir() if path.name not in used]:
            slot.rename(store.staging)   # one rename, so that a slot is never seen half empty
            sync_directory(slots)
            _discard(store.staging)
        _remove_if_empty(slots)
        _remove_if_empty(slots.parent)


def _half_written(store: Store) -> Iterator[Path]:
    """Temporary files of edge.files, which begin with a dot and the final name."""
    etc = store.root / "etc"
    for folder, pattern in (
        (store.data, ".active.*"),
        (store.engines, ".*.json.*"),
        (store.products_folder, "*/.current.new"),
        (store.products_folder, "*/.previous.new"),
        (store.products_folder, "*/site/.*.json.*"),
        (store.trust_folder, ".*.pub.*"),
        (etc / "edge", ".station.toml.*"),
        (etc / "systemd" / "system", ".edge.service.*"),
    ):
        yield from folder.glob(pattern)


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
        sync_directory(folder.parent)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
