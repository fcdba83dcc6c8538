"""The root of a station: its folders and links, and the right to change them.

    etc/edge/trust/KEYID.pub                           the key, since when, by whom, for which
                                                       products
    var/lib/edge/active                                one line: the active product
    var/lib/edge/products/PRODUCT/slots/SLOT/          an unpacked bundle; SLOT is VERSION-DIGEST12
    var/lib/edge/products/PRODUCT/current, previous    symbolic links to slots/SLOT

Readers need no lock: every change is one rename. Whoever changes something holds the lock
`change.lock` while it does, and works with the rights of the account that var/lib/edge belongs to
(edge.station.account).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from edge.errors import BundleError, ConfigError, StorageError
from edge.files import is_there, read_bytes, sentence_of, write_atomically
from edge.station import audit
from edge.station.account import acting_for
from edge.station.links import require_closed, require_plain
from edge.station.lock import CHANGE, RUN, locked
from edge.station.restoring import require_not_restoring
from edge.station.switch import ACTIVE, PRODUCT, is_slot, slot_of

Which = Literal["current", "previous"]
DATA, TRUST = Path("var/lib/edge"), Path("etc/edge/trust")
ACTIVE_LIMIT = 4 << 10  # bytes of `active`


class RootFolder:
    """The folders of one station, and who may change them."""

    def __init__(self, root: Path) -> None:
        """root: the station's root, "/" on a device. Nothing is read or made yet."""
        self.root = root
        self.trust_folder = root / TRUST
        self.data = root / DATA
        self.active_file = self.data / ACTIVE
        self.engines = self.data / "engines"
        self.products_folder = self.data / "products"
        # on the same file system as the slots: moving is one rename
        self.staging = self.data / ".staging"

    @contextmanager
    def change(self, who: str) -> Iterator[None]:
        """Hold the change lock of this root, and work with the rights of the account it belongs to.

        Raises: BusyError naming the process that holds it, or where a restored backup is only half
            in place; StorageError if a link or anything else stands where a folder or a file of
            the station belongs.
        """
        with self.inside(), locked(self.data, CHANGE, who):
            require_not_restoring(self.data)
            yield

    @contextmanager
    def inside(self, place: Path = DATA) -> Iterator[None]:
        """Work with the rights of the account that `place` under this root belongs to, where root
        runs this.

        Raises: StorageError as `change`.
        """
        with acting_for(self.root, place):
            if place == DATA:
                self._require_plain()
            yield

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Work with the rights that `inside` takes, to read only; with this account's own rights
        where root may not take others. Nothing is checked.
        """
        with ExitStack() as stack:
            with suppress(StorageError):
                stack.enter_context(acting_for(self.root, DATA))
            yield

    def _require_plain(self) -> None:
        require_closed([self.data, self.products_folder, self.engines], StorageError)
        products = [
            folder
            for folder in self.products_folder.glob("[!.]*")
            if PRODUCT.fullmatch(folder.name)
        ]
        require_plain(
            folders=[
                self.engines,
                self.products_folder,
                self.data / "parts",
                *products,
                *(folder / name for folder in products for name in ("slots", "site")),
            ],
            files=[
                self.active_file,
                self.data / CHANGE,
                self.data / RUN,
                *audit.database_files(self.root),
            ],
        )

    def is_writable(self) -> bool:
        """Whether this account may change what is kept under this root: not on a disk that is
        mounted read-only.
        """
        return os.access(self.data, os.W_OK | os.X_OK)

    def require_writable(self) -> None:
        """Raises: StorageError where nothing can be written. Commands that work for minutes ask
        first.
        """
        if not self.is_writable():
            raise StorageError(
                f"{self.data} cannot be written: use the account it belongs to, or sudo, and check"
                " that its disk is not mounted read-only"
            )

    # --- links ---

    def products(self) -> list[str]:
        """Products that have a current bundle, by name."""
        return [
            folder.name
            for folder in entries_of(self.products_folder)
            if PRODUCT.fullmatch(folder.name) and self.linked(folder.name, "current") is not None
        ]

    def active_product(self) -> str | None:
        """The product that `edge run` judges, or None.

        Raises: BundleError if the file that names it is damaged; BusyError where a restored backup
            is only half in place.
        """
        if not is_there(self.active_file):
            require_not_restoring(self.data)
            return None
        name = (
            read_bytes(self.active_file, BundleError, ACTIVE_LIMIT).decode(errors="replace").strip()
        )
        if not PRODUCT.fullmatch(name):
            what = f"{self.active_file} does not name a product"
            raise BundleError(
                f"{what}: remove it, then run `edge bundle select PRODUCT --root {self.root}`"
            )
        return name

    def activate(self, product: str) -> None:
        """Write `active`. The caller holds the change lock."""
        write_atomically(self.active_file, f"{product}\n".encode())

    def linked(self, product: str, which: Which) -> Path | None:
        """The slot that `current` or `previous` points at; None where none lies there.

        A link elsewhere is none.
        """
        slot = self.link(product, which)
        folder = self.products_folder / product / "slots" / (slot or "")
        return folder if is_slot(folder) else None

    def link(self, product: str, which: Which) -> str | None:
        """The slot that `current` or `previous` points at, or None."""
        return slot_of(self.products_folder / product / which)

    def token(self) -> tuple[str | None, str | None]:
        """What is active, as (product, slot): cheap enough to compare between parts and notice a
        change.
        """
        product = self.active_product()
        return product, None if product is None else self.link(product, "current")

    # --- site state ---

    def site_folder(self, product: str) -> Path:
        """Where a product's site state lies; it survives a new bundle."""
        return self.products_folder / product / "site"

    def model_file(self, product: str, digest: str) -> Path:
        """Where the model state of one bundle lies."""
        return self.site_folder(product) / f"model-{digest[:12]}.json"


def entries_of(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without hidden files; nothing where there is no folder.

    Raises: ConfigError if it cannot be read: an unreadable folder is not an empty one.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(sentence_of(error, folder)) from error
