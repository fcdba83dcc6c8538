"""Keys, signatures, and the bytes of a packed bundle."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from edge.bundle.archive import open_bundle, verify_folder
from edge.bundle.key_files import generate_key, read_public_key
from edge.bundle.pack import pack
from edge.bundle.signature import sign_manifest, verify_signature
from edge.errors import BundleError, ConfigError
from edge.schema import canonical_json
from tests.support.tiny_bundle import make_key, make_tiny_bundle, tiny_bundle_folder


def test_private_key_is_for_its_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    key, public = generate_key(tmp_path / "keys" / "line")
    assert (key.name, public.name) == ("line.key", "line.pub")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        generate_key(tmp_path / "keys" / "line")
    assert key.read_bytes() == before


def test_any_trusted_key_of_several_signatures_suffices(tmp_path: Path) -> None:
    """A key is replaced by signing with the old and the new one for a while."""
    old, new, stranger = (make_key(tmp_path, name) for name in ("old", "new", "stranger"))
    signature = sign_manifest(b"manifest", old.private, new.private)
    for key in (old, new):
        trusted = read_public_key(key.public)
        assert verify_signature(b"manifest", signature, [trusted]) == trusted
        with pytest.raises(BundleError, match="changed after it was signed"):
            verify_signature(b"manifesT", signature, [trusted])
    with pytest.raises(BundleError, match="does not trust"):
        verify_signature(b"manifest", signature, [read_public_key(stranger.public)])


def test_every_flipped_bit_of_a_signature_file_is_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    trusted, signature = [read_public_key(key.public)], sign_manifest(b"manifest", key.private)
    for position in range(len(signature)):
        for bit in range(8):
            damaged = bytearray(signature)
            damaged[position] ^= 1 << bit
            with pytest.raises(BundleError):
                verify_signature(b"manifest", bytes(damaged), trusted)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_signing_key_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.key").write_bytes(content)
    with pytest.raises(ConfigError, match="trainer keygen"):
        sign_manifest(b"manifest", tmp_path / "bad.key")
    with pytest.raises(ConfigError, match="cannot read"):
        sign_manifest(b"manifest", tmp_path / "absent.key")


def test_a_signing_key_of_another_kind(tmp_path: Path) -> None:
    from securesystemslib.signer import CryptoSigner

    (tmp_path / "rsa.key").write_bytes(CryptoSigner.generate_ecdsa().private_bytes)
    with pytest.raises(ConfigError, match="Ed25519"):
        sign_manifest(b"manifest", tmp_path / "rsa.key")


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": 1, "a": "\u00fc"}) == '{\n  "a": "\u00fc",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_packing_gives_the_same_bytes_whatever_the_file_times(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with tiny_bundle_folder(key.private) as folder:
        first = pack(folder, tmp_path / "a.bundle").read_bytes()
        for path in folder.rglob("*"):
            if path.is_file():
                path.touch()
                path.chmod(0o600)
        assert pack(folder, tmp_path / "b.bundle").read_bytes() == first


def test_extracted_folder_verifies_like_the_packed_file(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    trusted = [read_public_key(key.public)]
    target = tmp_path / "unpacked"
    target.mkdir()
    with open_bundle(make_tiny_bundle(tmp_path, key), trusted) as bundle:
        bundle.extract(target)
    assert verify_folder(target, trusted) == bundle.manifest
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.rglob("*") if path.is_file()} == {
        0o644
    }
    assert json.loads((target / "manifest.json").read_bytes())["product"] == "washer"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "report.html").write_text("x"),
        lambda folder: (folder / "report.html").unlink(),
        lambda folder: (folder / "extra").write_text("x"),
        lambda folder: (folder / "golden" / "link").symlink_to("/etc/passwd"),
        lambda folder: (folder / "signature.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{}"),
        lambda folder: (folder / "model" / "fp32.onnx").write_bytes(
            (folder / "model" / "fp32.onnx").read_bytes()[::-1]
        ),
    ],
)
def test_an_unpacked_bundle_that_rots_is_noticed(tmp_path: Path, damage) -> None:
    key = make_key(tmp_path)
    with tiny_bundle_folder(key.private) as folder:
        verify_folder(folder, [read_public_key(key.public)])
        damage(folder)
        with pytest.raises(BundleError):
            verify_folder(folder, [read_public_key(key.public)])
