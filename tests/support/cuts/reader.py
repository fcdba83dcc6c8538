"""The state of a station's root as its readers see it, to compare a cut root with the old and the
new one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edge.config import PLACE as CONFIG
from edge.config import read_config
from edge.install.proof_file import certificate_path, read_proof
from edge.proof.certificate import read_certificate
from edge.station.audit import AuditRow, read_audit
from edge.station.numbers import read_numbers
from edge.station.site import GeometryFile, read_state
from edge.station.store import Installed, Store

SQLITE_ENDS = ("-wal", "-shm")  # beside the database while somebody has it open
Site = dict[str, int]


@dataclass(frozen=True)
class State:
    """current, previous: slots by product. proofs: whether the current bundle's engines are proven
    or pending.

    keys: ids. numbers: of the products. sites: by product, what is calibrated and in which version.
    """

    active: str | None
    current: dict[str, str | None]
    previous: dict[str, str | None]
    proofs: dict[str, str]
    keys: tuple[str, ...]
    sites: dict[str, Site]
    numbers: dict[str, int]

    @property
    def judging(self) -> tuple[object, ...]:
        """What a running `edge run` sees, which reads without a lock: what decides about the active
        product's parts.
        """
        active = self.active or ""
        return self.active, self.current.get(active), self.keys, self.sites.get(active)

    def without_versions(self) -> State:
        """For comparing after the same act was carried out once more."""
        return replace(
            self, sites={product: dict.fromkeys(site, 0) for product, site in self.sites.items()}
        )


class Reader:
    """Reads roots. A folder whose files were all verified before is not verified again."""

    def __init__(self) -> None:
        self._verified: set[int] = set()

    def read(self, root: Path) -> State:
        """Every bundle that is pointed at is verified, every file of the station's parsed.

        Raises: EdgeError if something is not whole.
        """
        store = Store(root)
        products, proofs = store.products(), {}
        if (root / CONFIG).exists():
            read_config(root)
        for product in products:
            current = store.installed(product)
            self._verify(store, current)
            proofs[product] = _proof(store, current)
            if store.link(product, "previous") is not None:
                self._verify(store, store.installed(product, "previous"))
        return State(
            store.active_product(),
            {product: store.link(product, "current") for product in products},
            {product: store.link(product, "previous") for product in products},
            proofs,
            tuple(sorted(key.keyid for key in store.keys.all())),
            {product: dict(_site(store, product)) for product in products},
            {name: one for name, one in read_numbers(store).items() if name in products},
        )

    def _verify(self, store: Store, bundle: Installed) -> None:
        about = hash(str((store.keys.all(), sorted(identity_of(bundle.folder).items()))))
        if about not in self._verified:
            store.verify(bundle)
            self._verified.add(about)


def _proof(store: Store, bundle: Installed) -> str:
    proof = read_proof(store, bundle)
    assert proof is not None, f"{bundle.product} is installed and nothing is known of its engines"
    if proof.state == "proven":
        read_certificate(certificate_path(store, bundle))
    return proof.state


def _site(store: Store, product: str) -> Iterator[tuple[str, int]]:
    file = read_state(store.site_folder(product) / "geometry.json", GeometryFile) or GeometryFile()
    for serial, camera in file.cameras.items():
        store.geometry(product, serial)
        yield f"geometry {serial}", camera.version
    for state in store.model_states(store.installed(product)):
        state.arrays()
        yield f"model {state.digest} {state.precision} {state.runtime}", state.version


def rows_of(root: Path) -> list[AuditRow]:
    return read_audit(root)


def identity_of(folder: Path, left_out: tuple[str, ...] = ()) -> dict[str, tuple[object, ...]]:
    """What tells a folder from any other: each name with its kind, mode and content, of a Builder's
    copy its inode.
    """
    found, waiting = {}, [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(f"{folder}/{prefix}") as entries:
            for one in entries:
                status, path = one.stat(follow_symlinks=False), prefix + one.name
                if path.endswith(left_out) and left_out:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(f"{path}/")
                    found[path] = ("folder", status.st_mode)
                elif stat.S_ISLNK(status.st_mode):
                    found[path] = ("link", os.readlink(one.path))  # noqa: PTH115
                else:
                    what = status.st_ino if status.st_nlink > 1 else Path(one.path).read_bytes()
                    found[path] = ("file", status.st_mode, what)
    return found


def names_of(root: Path) -> dict[str, tuple[object, ...]]:
    """Every name with its kind and mode; not SQLite's own beside the database."""
    return {path: about[:2] for path, about in identity_of(root, SQLITE_ENDS).items()}
