"""Who vouches for a bundle: Ed25519 over the bytes of manifest.json, through securesystemslib.

signature.json holds one or more signatures, so that a key can be replaced while old devices still
trust the old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from edge.bundle.key_files import PublicKey, load_signer
from edge.errors import BundleError
from edge.schema import Sha256, Strict, canonical_json, parse_json

Hex64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]


class OneSignature(Strict):
    """One signature over the bytes of manifest.json."""

    keyid: Sha256
    sig: Hex64


class SignatureFile(Strict):
    """signature.json."""

    schema_: Literal[1] = Field(alias="schema")
    signatures: tuple[OneSignature, ...] = Field(min_length=1, max_length=8)


def sign_manifest(manifest: bytes, *key_paths: Path) -> bytes:
    """The bytes of signature.json for these manifest bytes, one signature per private key.

    Raises: ConfigError if a key file is missing, is not an Ed25519 private key or is open to other
    accounts.
    """
    signatures = [load_signer(path).sign(manifest) for path in key_paths]
    return canonical_json(
        {"schema": 1, "signatures": [{"keyid": s.keyid, "sig": s.signature} for s in signatures]}
    )


def verify_signature(manifest: bytes, signature: bytes, trusted: Sequence[PublicKey]) -> PublicKey:
    """The trusted key that signed exactly these manifest bytes, and may sign this product.

    Raises: BundleError if signature.json is damaged, no trusted key signed, a trusted key's
        signature is wrong, or none of the keys may sign the product.
    """
    signatures = _parse_signatures(signature)
    keys = {key.keyid: key for key in trusted}
    signed = [_verified(one, keys[one.keyid], manifest) for one in signatures if one.keyid in keys]
    if not signed:
        signers = ", ".join(one.keyid[:12] for one in signatures)
        raise BundleError(
            f"the bundle is signed by key {signers}, which this station does not trust: "
            "check where it came from, then run `edge trust` with the line's .pub file"
        )
    product = _product_of(manifest)
    for key in signed:
        if key.allows(product):
            return key
    key = signed[0]
    raise BundleError(
        f"the bundle is of product {product}, and key {key.keyid[:12]}, which signed it, is trusted"
        f" here for {', '.join(key.products)} only: check where it came from, then trust the key"
        " for this product too with `edge trust FILE --product`"
    )


def is_signed_by(key: PublicKey, signature: str, data: bytes) -> bool:
    """Whether `signature` (hexadecimal) is this key's over exactly these bytes."""
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature, SSlibKey

    signing = SSlibKey(key.keyid, key.keytype, key.scheme, {"public": key.keyval.public})
    try:
        signing.verify_signature(Signature(key.keyid, signature), data)
    except UnverifiedSignatureError:
        return False
    return True


def _verified(one: OneSignature, key: PublicKey, manifest: bytes) -> PublicKey:
    if not is_signed_by(key, one.sig, manifest):
        raise BundleError(
            "manifest.json does not match its signature: the bundle was changed after it was"
            " signed, copy it again from the workstation"
        )
    return key


def _product_of(manifest: bytes) -> str:
    """The product of a manifest whose signature is right; empty, which no key is limited to, where
    the manifest names none.
    """
    try:
        product = parse_json(manifest)["product"]
    except (ValueError, TypeError, KeyError):
        return ""
    return product if isinstance(product, str) else ""


def _parse_signatures(signature: bytes) -> tuple[OneSignature, ...]:
    """The signatures of signature.json; another spelling of the same JSON counts as damage too."""
    try:
        parsed = SignatureFile.model_validate_json(signature)
    except ValidationError as error:
        raise BundleError(
            "signature.json is damaged: copy the bundle again from the workstation"
        ) from error
    if canonical_json(parsed.model_dump(by_alias=True, mode="json")) != signature:
        raise BundleError("signature.json is damaged: copy the bundle again from the workstation")
    return parsed.signatures
