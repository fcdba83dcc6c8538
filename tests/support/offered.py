"""A source of updates that offers files of this machine: the simplest there can be."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.errors import UpdateError
from edge.files import sha256_of
from edge.station.installed import Installed
from edge.update.source import Offer, Outcome


class FileSource:
    """Offers what is put into `offers`, and keeps what it was told in `told`."""

    name = "files"

    def __init__(self) -> None:
        self.offers: dict[Offer, Path] = {}
        self.told: list[tuple[str, Outcome]] = []
        self.is_deaf = False
        self.fetched = 0

    def offer(
        self, path: Path, action: str | None = None, halt: bool = False, digest: bool = True
    ) -> Offer:
        """Offer a file named PRODUCT-VERSION.bundle, in place of what was offered before."""
        product, _, version = path.stem.partition("-")
        size, sha256 = (path.stat().st_size, sha256_of(path)) if digest else (None, None)
        new = Offer(product, version, size, sha256, action, halt)
        self.offers = {new: path}
        return new

    def find(self, current: Mapping[str, Installed]) -> Sequence[Offer]:
        return list(self.offers)

    def fetch(self, offer: Offer, folder: Path) -> Path:
        self.fetched += 1
        return Path(shutil.copy(self.offers[offer], folder))

    def report(self, offer: Offer, outcome: Outcome, details: Sequence[str]) -> None:
        if self.is_deaf:
            raise UpdateError("nobody listens")
        self.told.append((offer.version, outcome))
