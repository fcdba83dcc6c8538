"""The keys that a station trusts, as they lie in etc/edge/trust."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edge.bundle.key_files import PublicKey, read_public_key
from edge.bundle.manifest import MANIFEST, MANIFEST_LIMIT, SIGNATURE
from edge.bundle.signature import verify_signature
from edge.errors import BundleError, ConfigError
from edge.files import read_bytes
from edge.station.links import require_closed
from edge.station.root import RootFolder, entries_of

KEY_NAME = re.compile(r"[0-9a-f]{64}\.pub")
TRUST_AGAIN = "remove it from there and run `edge trust` with the line's .pub file"
SHORTEST_ID = 8  # digits of a key's id that name it


class TrustedKeys:
    """The keys whose bundles this station takes. Every question reads the folder again."""

    def __init__(self, station: RootFolder) -> None:
        self._station = station

    def all(self) -> list[PublicKey]:
        """The keys this station trusts; empty for a fresh root.

        Raises: ConfigError if a key file is damaged, is of another key than its name says, two are
            of one key, or anybody may change them.
        """
        return list(self.by_file().values())

    def by_file(self) -> dict[Path, PublicKey]:
        """The same by the file that each lies in. Raises: ConfigError as `all`."""
        keys: dict[Path, PublicKey] = {}
        for path in [
            path for path in entries_of(self._station.trust_folder) if path.suffix == ".pub"
        ]:
            require_closed([self._station.trust_folder, path], ConfigError)
            try:
                key = read_public_key(path)
            except ConfigError as error:
                raise ConfigError(
                    f"a key that this station trusts: {error}; or {TRUST_AGAIN}"
                ) from error
            if KEY_NAME.fullmatch(path.name) and path.stem != key.keyid:
                raise ConfigError(
                    f"{path} holds another key ({key.keyid[:12]}) than its name says, somebody"
                    f" changed it: {TRUST_AGAIN}"
                )
            if key.keyid in (known.keyid for known in keys.values()):
                raise ConfigError(
                    f"{path} and another file beside it hold the same key: remove one of them"
                )
            keys[path] = key
        return keys

    def find(self, keyid: str) -> PublicKey:
        """The trusted key with this id, or the only one whose id begins so.

        Raises: ConfigError if there is none.
        """
        found = [key for key in self.all() if key.keyid.startswith(keyid.lower())]
        if len(found) != 1 or len(keyid) < SHORTEST_ID:
            known = ", ".join(key.keyid[:12] for key in self.all()) or "none"
            raise ConfigError(
                f"{keyid!r} is not one trusted key of {self._station.root} (trusted: {known}): name"
                f" its .pub file or at least {SHORTEST_ID} digits of its id"
            )
        return found[0]

    def file_of(self, keyid: str) -> Path:
        """The file that holds the key, or will hold it: a file that somebody laid there keeps its
        name.
        """
        names = (path for path, key in self.by_file().items() if key.keyid == keyid)
        return next(names, self._station.trust_folder / f"{keyid}.pub")

    def vouched_only_by(self, key: PublicKey) -> list[str]:
        """Products whose current bundle is signed by this key and by no other that is trusted."""
        others = [one for one in self.all() if one.keyid != key.keyid]
        found = []
        for product in self._station.products():
            folder = self._station.linked(product, "current")
            if folder is None:
                continue
            manifest, signature = (
                read_bytes(folder / name, BundleError, MANIFEST_LIMIT)
                for name in (MANIFEST, SIGNATURE)
            )
            if _is_signed(manifest, signature, [key]) and not _is_signed(
                manifest, signature, others
            ):
                found.append(product)
        return found


def _is_signed(manifest: bytes, signature: bytes, keys: Sequence[PublicKey]) -> bool:
    try:
        verify_signature(manifest, signature, keys)
    except BundleError:
        return False
    return True
