"""The station's own key, with which it signs its reports: made at its first use, never leaves it.

    var/lib/edge/station.key    Ed25519, PKCS#8 PEM, mode 0600
    var/lib/edge/station.pub    its public half, as the .pub file of a key that signs bundles

It proves that a report comes from this station unchanged, not that what it says is right: whoever
may work as the account of the service may sign.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.bundle.key_files import KeyValue, PublicKey, load_signer, read_public_key
from edge.errors import ConfigError, StorageError
from edge.files import is_there, make_folder, opened_folder, sentence_of, write_atomically
from edge.station.audit import append_audit
from edge.station.links import require_plain
from edge.station.root import RootFolder

FILE, PUBLIC = "station.key", "station.pub"
KEY_MODE = 0o600
ACT = "station key"  # row of the audit table


def open_signer(station: RootFolder) -> Any:
    """The CryptoSigner of this station's key, which is made if there is none.

    Raises: ConfigError if the key is damaged or open to other accounts, StorageError if it cannot
        be made.
    """
    path, public = station.data / FILE, station.data / PUBLIC
    with station.inside(), _one_at_a_time(station.data):
        require_plain(files=[path, public])
        is_new = not is_there(path)
        if is_new:
            _make_key(path)
        signer = _loaded(path)
        if is_new or not is_there(public):
            _keep_public(public, signer)
        if is_new:
            append_audit(station.root, ACT, {"keyid": signer.public_key.keyid})
        return signer


def public_key_of(signer: Any) -> PublicKey:
    """Its public half, as a .pub file has it."""
    public = signer.public_key
    value = KeyValue(public=public.keyval["public"])
    return PublicKey(keyid=public.keyid, keytype="ed25519", scheme="ed25519", keyval=value)


def find_station_key(station: RootFolder) -> PublicKey | None:
    """The public key of this station; None where it has signed nothing yet. Nothing is made.

    Raises: ConfigError if the file is damaged.
    """
    path = station.data / PUBLIC
    return read_public_key(path) if is_there(path) else None


def _keep_public(path: Path, signer: Any) -> None:
    try:
        write_atomically(path, public_key_of(signer).to_json())
    except OSError as error:
        raise StorageError(f"cannot keep the station's key: {sentence_of(error, path)}") from error


def _loaded(path: Path) -> Any:
    try:
        return load_signer(path)
    except ConfigError as error:
        what = f"the station's own key cannot be used: {error}"
        raise ConfigError(
            f"{what}; or move it away and keep it, the next report makes another"
        ) from error


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """No other process makes a key meanwhile. Raises: StorageError."""
    try:
        make_folder(folder)
        with opened_folder(folder) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise StorageError(
            f"cannot make the station's key: {sentence_of(error, folder)}"
        ) from error


def _make_key(path: Path) -> None:
    """Raises: StorageError."""
    from securesystemslib.signer import CryptoSigner

    try:
        write_atomically(path, CryptoSigner.generate_ed25519().private_bytes, KEY_MODE)
    except OSError as error:
        raise StorageError(f"cannot make the station's key: {sentence_of(error, path)}") from error
