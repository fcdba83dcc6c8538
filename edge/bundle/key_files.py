"""A key pair is two files: NAME.key (PKCS#8 PEM, mode 0600, stays on the workstation) and NAME.pub
(JSON, goes to the devices).
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any, Literal

from edge.bundle.curve import is_sound_point
from edge.errors import ConfigError
from edge.files import make_folder, read_bytes, require_file_target, without_mark, write_atomically
from edge.schema import Name, Sha256, Strict, canonical_json, parse_json

SIGNATURE_LIMIT = 16 << 10  # bytes of signature.json and of a key file
PRIVATE = b"PRIVATE KEY-----"  # in the first line of a PEM file


class KeyValue(Strict):
    """The 32 bytes of an Ed25519 public key, in hexadecimal."""

    public: Sha256


class Trust(Strict):
    """What a device keeps beside a key that it trusts.

    products: the only ones it may sign; empty for all.
    """

    since: str  # UTC, ISO 8601
    by: str
    products: tuple[Name, ...] = ()


class PublicKey(Strict):
    """A .pub file: what a device needs to check a signature.

    trust: present only in the device's own folder of keys.
    """

    keyid: Sha256
    keytype: Literal["ed25519"]
    scheme: Literal["ed25519"]
    keyval: KeyValue
    trust: Trust | None = None

    @property
    def products(self) -> tuple[str, ...]:
        """The products that its bundles may be of; empty for all."""
        return () if self.trust is None else self.trust.products

    def allows(self, product: str) -> bool:
        """Whether this station takes a bundle of the product from this key."""
        return not self.products or product in self.products

    def to_json(self) -> bytes:
        """The bytes of the .pub file."""
        return canonical_json(self.model_dump(exclude_none=True, mode="json"))


def generate_key(stem: Path) -> tuple[Path, Path]:
    """Make a key pair STEM.key (mode 0600) and STEM.pub; returns both paths.

    Raises: ConfigError if either file exists already, since a key in use is never overwritten, or
    cannot be written.
    """
    if stem.name in ("", ".."):
        raise ConfigError(
            f"{stem} names no file: write a name for the key, such as {stem / 'line'}"
        )
    from securesystemslib.signer import CryptoSigner

    key, public = stem.with_name(f"{stem.name}.key"), stem.with_name(f"{stem.name}.pub")
    for path in (key, public):
        if path.exists():
            raise ConfigError(
                f"{path} exists already: choose another name, or move the old key away first"
            )
        require_file_target(path)
    make_folder(stem.parent)
    signer = CryptoSigner.generate_ed25519()
    # 0600 from the moment it exists: nobody else can open it meanwhile
    descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(signer.private_bytes)
        file.flush()
        os.fsync(file.fileno())
    write_atomically(
        public, canonical_json({"keyid": signer.public_key.keyid, **signer.public_key.to_dict()})
    )
    return key, public


def load_signer(path: Path) -> Any:
    """The CryptoSigner of a .key file.

    Raises: ConfigError if it is missing, is not an Ed25519 private key or is open to other
    accounts.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    data = _read_key(path)
    if _find_public_key(data) is not None:
        raise ConfigError(
            f"{path} is the public key, a bundle is signed with the private one: name its .key"
            f" file, {path.with_suffix('.key').name} if it still has its name"
        )
    try:
        signer = CryptoSigner(load_pem_private_key(data, None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = (
            "is protected by a password"
            if isinstance(error, TypeError)
            else "is not a private key, or is damaged"
        )
        raise ConfigError(f"{path} {what}: name a .key file that `trainer keygen` made") from error
    if signer.public_key.keytype != "ed25519":
        kind = signer.public_key.keytype
        raise ConfigError(
            f"{path} holds a {kind} key, bundles are signed with Ed25519: run `trainer keygen`"
        )
    _require_private(path)
    return signer


def _require_private(path: Path) -> None:
    """Raises: ConfigError if accounts other than its owner may read or change a private key."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise ConfigError(
            f"{path} is open to other accounts (mode {mode:04o}), and whoever reads it can sign"
            f" bundles: run `chmod 600 {path}`, and make a new key if somebody else may have"
            " read it"
        )


def _read_key(path: Path) -> bytes:
    try:
        return without_mark(read_bytes(path, limit=SIGNATURE_LIMIT), path)
    except ConfigError as error:
        raise ConfigError(f"cannot read a key: {error}; `trainer keygen` makes keys") from error


def _find_public_key(data: bytes) -> PublicKey | None:
    """The key of a .pub file's bytes; None for anything else."""
    try:
        return PublicKey.model_validate(parse_json(data))
    except ValueError:  # no JSON, or JSON of something else
        return None


def read_public_key(path: Path) -> PublicKey:
    """The public key in a .pub file; its id is computed from the key, whatever the file says.

    Raises: ConfigError if it is missing, is anything else, carries another key's id or is a key
        that anybody can sign for.
    """
    data = _read_key(path)
    if PRIVATE in data:
        raise ConfigError(
            f"{path} is a private key, which should never leave the workstation: name its public"
            f" key, {path.with_suffix('.pub').name}, and remove the private one from any other"
            " machine"
        )
    key = _find_public_key(data)
    if key is None:
        raise ConfigError(
            f"{path} is not a public key made by `trainer keygen`: give the .pub file"
        )
    if not is_sound_point(bytes.fromhex(key.keyval.public)):
        raise ConfigError(
            f"{path} holds no sound Ed25519 key, anybody could sign for it: do not trust it, and"
            " ask where it came from"
        )
    if key.keyid != (own := key_id(key.keyval.public)):
        raise ConfigError(
            f"{path} carries the id {key.keyid[:12]}, its key has the id {own[:12]}: the file was "
            "changed, do not trust it, copy the .pub file again from the workstation"
        )
    return key


def key_id(public: str) -> str:
    """The id of an Ed25519 key, as securesystemslib computes it.

    public: 32 bytes in hexadecimal.
    """
    about = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}}
    return hashlib.sha256(
        json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()
