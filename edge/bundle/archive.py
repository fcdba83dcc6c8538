"""Opening a bundle without trust, packed as PRODUCT-VERSION.bundle or unpacked in a slot.

The order is the point: headers first, then signature and manifest, and only then are members
streamed, each exactly as long as the signed manifest says.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge.bundle.key_files import SIGNATURE_LIMIT, PublicKey
from edge.bundle.manifest import (
    MANIFEST,
    MANIFEST_LIMIT,
    SIGNATURE,
    Manifest,
    compare_lists,
    parse_manifest,
)
from edge.bundle.signature import verify_signature
from edge.bundle.tar import AGAIN, Member, read_blocks, scan
from edge.errors import BundleError
from edge.files import make_folder, open_plain, read_bytes, sha256_of, sync_directory


@dataclass(frozen=True)
class OpenBundle:
    """A bundle whose signature, manifest and list of members were checked. The members' bytes are
    checked as they are streamed.
    """

    path: Path
    manifest: Manifest
    manifest_bytes: bytes
    signature_bytes: bytes
    key: PublicKey
    _file: BinaryIO
    _members: dict[str, Member]

    @property
    def digest(self) -> str:
        """SHA-256 of manifest.json, which names every other file's digest: the identity of the
        bundle.
        """
        return hashlib.sha256(self.manifest_bytes).hexdigest()

    def check_members(self) -> None:
        """Read every member once and compare its digest.

        Raises: BundleError naming the first that differs.
        """
        for name in self.manifest.files:
            self._stream(name, lambda _: None)

    def extract(self, folder: Path) -> None:
        """Write every member into the empty `folder`, checking digests on the way; files and
        folders are synced.

        Raises: BundleError naming the first member that differs.
        """
        for name in self.manifest.files:
            target = folder / name
            make_folder(target.parent)
            with target.open("xb") as file:
                self._stream(name, file.write)
                _finish(file)
        for name, data in ((MANIFEST, self.manifest_bytes), (SIGNATURE, self.signature_bytes)):
            with (folder / name).open("xb") as file:
                file.write(data)
                _finish(file)
        for inner in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            inner.chmod(0o755)
            sync_directory(inner)

    def _stream(self, name: str, consume: Callable[[bytes], object]) -> None:
        member, digest = self._members[name], hashlib.sha256()
        for block in read_blocks(self._file, member):
            digest.update(block)
            consume(block)
        if digest.hexdigest() != self.manifest.files[name].sha256:
            raise BundleError(
                f"{self.path}: {name} is damaged (its SHA-256 is not the signed one): {AGAIN}"
            )


def _finish(file: io.BufferedWriter) -> None:
    file.flush()
    os.fchmod(file.fileno(), 0o644)  # root installs, user edge reads
    os.fsync(file.fileno())


@contextmanager
def open_bundle(path: Path, trusted: Sequence[PublicKey]) -> Iterator[OpenBundle]:
    """Open a bundle and check, in this order: members' names and sizes, signature, manifest, the
    list of members.

    Nothing is written, and of the members only manifest.json and signature.json are read: call
    `check_members` or `extract` next.
    Raises: BundleError with one sentence that says what is wrong and what to do.
    """
    with _open_file(path) as file:
        try:
            yield _check(path, file, trusted)
        except BundleError as error:
            text = str(error)
            raise BundleError(text if str(path) in text else f"{path}: {text}") from error


def _open_file(path: Path) -> BinaryIO:
    remedy = "give the .bundle file that `trainer export` wrote"
    try:
        if path.is_dir():
            raise BundleError(f"cannot open the bundle {path} (a folder): {remedy}")
        if path.exists() and not path.is_file():  # opening a pipe would wait forever
            raise BundleError(f"cannot open the bundle {path} (not a file): {remedy}")
        return os.fdopen(open_plain(path, BundleError), "rb")
    except OSError as error:
        raise BundleError(f"cannot open the bundle {path} ({error.strerror}): {remedy}") from error


def _check(path: Path, file: BinaryIO, trusted: Sequence[PublicKey]) -> OpenBundle:
    members = scan(file)
    for name, limit in ((MANIFEST, MANIFEST_LIMIT), (SIGNATURE, SIGNATURE_LIMIT)):
        if name not in members:
            what = "is not signed" if name == SIGNATURE else "is not complete"
            raise BundleError(
                f"the bundle {what} ({name} is missing): make it with `trainer export`"
            )
        if members[name].size > limit:
            raise BundleError(
                f"{name} has {members[name].size} bytes, at most {limit} are allowed: {AGAIN}"
            )
    manifest_bytes, signature_bytes = (
        b"".join(read_blocks(file, members[name])) for name in (MANIFEST, SIGNATURE)
    )
    key = verify_signature(manifest_bytes, signature_bytes, trusted)
    manifest = parse_manifest(manifest_bytes)
    compare_lists(
        manifest, {m.name: m.size for m in members.values() if m.name not in (MANIFEST, SIGNATURE)}
    )
    return OpenBundle(path, manifest, manifest_bytes, signature_bytes, key, file, members)


def verify_folder(folder: Path, trusted: Sequence[PublicKey]) -> Manifest:
    """Check an unpacked bundle like a packed one: signature, manifest, list of files, every digest.

    Raises: BundleError naming the first file that is not as signed.
    """
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise BundleError(f"{path} is not a plain file: install the bundle again")
        if path.is_file():
            found[path.relative_to(folder).as_posix()] = path.stat().st_size
    for name in (MANIFEST, SIGNATURE):
        if found.pop(name, MANIFEST_LIMIT + 1) > MANIFEST_LIMIT:
            raise BundleError(
                f"{folder / name} is missing or absurdly large: install the bundle again"
            )
    data = read_bytes(folder / MANIFEST, BundleError, MANIFEST_LIMIT)
    verify_signature(data, read_bytes(folder / SIGNATURE, BundleError, SIGNATURE_LIMIT), trusted)
    manifest = parse_manifest(data)
    compare_lists(manifest, found)
    for name, entry in manifest.files.items():
        if sha256_of(folder / name) != entry.sha256:
            what = f"{folder / name} is damaged (its SHA-256 is not the signed one)"
            raise BundleError(f"{what}: install the bundle again")
    return manifest
