"""Who vouches for a bundle: Ed25519 over the bytes of manifest.json, through securesystemslib.

A key pair is two files: NAME.key (PKCS#8 PEM, mode 0600, stays on the workstation) and NAME.pub (JSON, goes to the
devices). signature.json holds one or more signatures: a key can be replaced while old devices still trust the old one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from edge.errors import BundleError, ConfigError
from edge.files import read_bytes, require_file_target, without_mark, write_atomically
from edge.schema import Sha256, Strict

SIGNATURE_LIMIT = 16 << 10   # bytes of signature.json and of a key file
PRIVATE = b"PRIVATE KEY-----"   # in the first line of a PEM file

Hex64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class KeyValue(Strict):
    """The 32 bytes of an Ed25519 public key, in hexadecimal."""

    public: Sha256


class PublicKey(Strict):
    """A .pub file: what a device needs to check a signature."""

    keyid: Sha256
    keytype: Literal["ed25519"]
    scheme: Literal["ed25519"]
    keyval: KeyValue


class OneSignature(Strict):
    """One signature over the bytes of manifest.json."""

    keyid: Sha256
    sig: Hex64


class SignatureFile(Strict):
    """signature.json."""

    schema_: Literal[1] = Field(alias="schema")
    signatures: tuple[OneSignature, ...] = Field(min_length=1, max_length=8)


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value in a bundle: sorted keys, two spaces, UTF-8, a final newline, no NaN."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def generate_key(stem: Path) -> tuple[Path, Path]:
    """Make a key pair STEM.key (mode 0600) and STEM.pub; returns both paths.

    Raises: ConfigError if either file exists already, since a key in use is never overwritten, or cannot be written.
    """
    if stem.name in ("", ".."):
        raise ConfigError(f"{stem} names no file: write a name for the key, such as {stem / 'line'}")
    from securesystemslib.signer import CryptoSigner

    key, public = stem.with_name(f"{stem.name}.key"), stem.with_name(f"{stem.name}.pub")
    for path in (key, public):
        if path.exists():
            raise ConfigError(f"{path} exists already: choose another name, or move the old key away first")
        require_file_target(path)
    stem.parent.mkdir(parents=True, exist_ok=True)
    signer = CryptoSigner.generate_ed25519()
    with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:   # 0600 from birth
        file.write(signer.private_bytes)
        file.flush()
        os.fsync(file.fileno())
    write_atomically(public, canonical_json({"keyid": signer.public_key.keyid, **signer.public_key.to_dict()}))
    return key, public


def sign_manifest(manifest: bytes, *key_paths: Path) -> bytes:
    """The bytes of signature.json for these manifest bytes, one signature per private key.

    Raises: ConfigError if a key file is missing or is not an Ed25519 private key.
    """
    signatures = [_load_signer(path).sign(manifest) for path in key_paths]
    return canonical_json({"schema": 1, "signatures": [{"keyid": s.keyid, "sig": s.signature} for s in signatures]})


def _load_signer(path: Path) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    data = _read_key(path)
    if _find_public_key(data) is not None:
        raise ConfigError(f"{path} is the public key, a bundle is signed with the private one: name its .key file, "
                          f"{path.with_suffix('.key').name} if it still has its name")
    try:
        signer = CryptoSigner(load_pem_private_key(data, None))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        what = "is protected by a password" if isinstance(error, TypeError) else "is not a private key, or is damaged"
        raise ConfigError(f"{path} {what}: name a .key file that `trainer keygen` made") from error
    if signer.public_key.keytype != "ed25519":
        kind = signer.public_key.keytype
        raise ConfigError(f"{path} holds a {kind} key, bundles are signed with Ed25519: run `trainer keygen`")
    return signer


def _read_key(path: Path) -> bytes:
    try:
        return without_mark(read_bytes(path, limit=SIGNATURE_LIMIT), path)
    except ConfigError as error:
        raise ConfigError(f"cannot read a key: {error}; `trainer keygen` makes keys") from error


def _find_public_key(data: bytes) -> PublicKey | None:
    """The key of a .pub file's bytes; None for anything else."""
    try:
        return PublicKey.model_validate_json(data)
    except ValidationError:
        return None


def read_public_key(path: Path) -> PublicKey:
    """The public key in a .pub file. Raises: ConfigError if it is missing or is anything else."""
    data = _read_key(path)
    if PRIVATE in data:
        raise ConfigError(f"{path} is a private key, which should never leave the workstation: name its public key, "
                          f"{path.with_suffix('.pub').name}, and remove the private one from any other machine")
    key = _find_public_key(data)
    if key is None:
        raise ConfigError(f"{path} is not a public key made by `trainer keygen`: give the .pub file")
    return key


def verify_signature(manifest: bytes, signature: bytes, trusted: Sequence[PublicKey]) -> PublicKey:
    """The trusted key that signed exactly these manifest bytes.

    Raises: BundleError if signature.json is damaged, no trusted key signed, or a trusted key's signature is wrong.
    """
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature, SSlibKey

    signatures = _parse_signatures(signature)
    keys = {key.keyid: key for key in trusted}
    for one in signatures:
        if (key := keys.get(one.keyid)) is None:
            continue
        try:
            SSlibKey(key.keyid, key.keytype, key.scheme, {"public": key.keyval.public}).verify_signature(
                Signature(one.keyid, one.sig), manifest)
        except UnverifiedSignatureError as error:
            raise BundleError("manifest.json does not match its signature: the bundle was changed after it was signed, "
                              "copy it again from the workstation") from error
        return key
    signers = ", ".join(one.keyid[:12] for one in signatures)
    raise BundleError(f"the bundle is signed by key {signers}, which this station does not trust: "
                      "check where it came from, then run `edge trust` with the line's .pub file")


def _parse_signatures(signature: bytes) -> tuple[OneSignature, ...]:
    """Strict: another spelling of the same JSON is damage too."""
    try:
        parsed = SignatureFile.model_validate_json(signature)
    except ValidationError as error:
        raise BundleError("signature.json is damaged: copy the bundle again from the workstation") from error
    if canonical_json(parsed.model_dump(by_alias=True, mode="json")) != signature:
        raise BundleError("signature.json is damaged: copy the bundle again from the workstation")
    return parsed.signatures
