"""The one tar file PRODUCT-VERSION.bundle: packing, and opening without trust.

The reader is ours and small, because Python's tarfile follows links, sparse maps and header sizes
that an attacker chose (CVE-2025-8194 loops for ever on Python 3.10). It knows plain ustar files and
nothing else: the headers are read first, then signature and manifest, and only then are members
streamed, each as long as the signed manifest says.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from edge.bundle.manifest import SCHEMA, Manifest
from edge.bundle.signature import (
    PRIVATE,
    SIGNATURE_LIMIT,
    PublicKey,
    canonical_json,
    sign_manifest,
    verify_signature,
)
from edge.errors import BundleError
from edge.files import make_folder, open_plain, read_bytes, sha256_of, sync_directory
from edge.schema import parse_json

BLOCK = 512
RECORD = 20 * BLOCK  # tar pads its files to this
MANIFEST, SIGNATURE, REPORT = "manifest.json", "signature.json", "report.html"
MANIFEST_LIMIT = 4 << 20  # bytes
MEMBER_LIMIT = 1 << 30  # bytes of one member, as in manifest.FileEntry
PARSED_LIMIT = 64 << 20  # bytes of a member that is no graph and no report: it is read whole
TOTAL_LIMIT = (
    2 << 30
)  # bytes of a whole bundle; the largest detector's three files take less than a half
COUNT_LIMIT = 4096  # files
ENTRY_LIMIT = 3 * COUNT_LIMIT  # headers of any kind: a file, its folder, and its times
GOLDEN_FRAMES = 8  # at least
PAX_LIMIT = 4 << 10  # bytes of one extended header
HARMLESS_PAX = {"mtime", "atime", "ctime"}
AGAIN = "copy it again from the workstation"

KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a folder with content",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"L": "a long name",
    b"K": "a long link",
    b"g": "a global header",
}


@dataclass(frozen=True)
class Member:
    """Where a file lies in the tar: offset and size in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class OpenBundle:
    """Signature, manifest and list of members were checked; the members' bytes are checked as they
    are streamed.
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
        for block in _blocks(self._file, member):
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


def _blocks(file: BinaryIO, member: Member) -> Iterator[bytes]:
    file.seek(member.offset)
    left = member.size
    while left:
        block = file.read(min(left, 1 << 20))
        if not block:
            raise BundleError(f"the bundle ends in the middle of {member.name}: {AGAIN}")
        left -= len(block)
        yield block


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
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
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
        b"".join(_blocks(file, members[name])) for name in (MANIFEST, SIGNATURE)
    )
    key = verify_signature(manifest_bytes, signature_bytes, trusted)
    manifest = parse_manifest(manifest_bytes)
    compare_lists(
        manifest, {m.name: m.size for m in members.values() if m.name not in (MANIFEST, SIGNATURE)}
    )
    return OpenBundle(path, manifest, manifest_bytes, signature_bytes, key, file, members)


def parse_manifest(data: bytes) -> Manifest:
    """manifest.json, every key known and every value in range.

    Raises: BundleError naming the key; a newer schema is told apart, since the remedy is another
    one.
    """
    try:
        raw = parse_json(data)
    except ValueError as error:
        raise BundleError(
            f"manifest.json is not JSON ({error}): export the bundle again"
        ) from error
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        what = f"the bundle has schema {schema}, this software reads up to {SCHEMA}"
        raise BundleError(f"{what}: update the station's software first")
    if isinstance(schema, int) and schema < SCHEMA:
        what = f"the bundle has schema {schema}, in which every engine took float32's threshold"
        raise BundleError(
            f"{what}: export it again with this version: `trainer train`, `evaluate`, `export`"
        )
    try:
        manifest = Manifest.model_validate_json(data, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest.json"
        what = f"manifest.json: {where}: {first['msg']}"
        raise BundleError(
            f"{what}: export the bundle again with this software's version"
        ) from error
    for name, entry in manifest.files.items():
        check_name(name)
        if not name.startswith("model/") and name != REPORT and entry.size > PARSED_LIMIT:
            what = (
                f"manifest.json: files: {name} has {entry.size} bytes, at most {PARSED_LIMIT} are"
                " read"
            )
            raise BundleError(f"{what}: export the bundle again")
    if "fp32" not in manifest.precisions:
        raise BundleError(
            "manifest.json: precisions: fp32 is missing, the fallback of every station: export it"
            " again"
        )
    models = (f"model/{precision}.onnx" for precision in manifest.precisions)
    required = {"parity.json", REPORT, "normal/index.json", *models}
    for name in sorted(required - set(manifest.files)):
        raise BundleError(
            f"manifest.json: files: {name} is missing, which every bundle has: export it again"
        )
    if sum(name.startswith("golden/") for name in manifest.files) < GOLDEN_FRAMES:
        raise BundleError(
            f"manifest.json: files: fewer than {GOLDEN_FRAMES} golden frames: export it again"
        )
    return manifest


def compare_lists(manifest: Manifest, found: dict[str, int]) -> None:
    """The files present are exactly those of the manifest, with their sizes in bytes.

    Raises: BundleError naming the first that is missing, too many or of another size.
    """
    for name in sorted(set(manifest.files) - set(found)):
        raise BundleError(f"{name} is missing: {AGAIN}")
    for name in sorted(set(found) - set(manifest.files)):
        raise BundleError(
            f"{name} is not in the signed manifest: somebody added it, do not use this bundle"
        )
    for name, size in found.items():
        if size != manifest.files[name].size:
            raise BundleError(
                f"{name} has {size} bytes, the signed manifest says {manifest.files[name].size}:"
                f" {AGAIN}"
            )


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


# --- reading tar headers ---


def scan(file: BinaryIO) -> dict[str, Member]:
    """The members of a tar by name, from its headers alone.

    Raises: BundleError for anything but plain files with plain relative names, doubled names and
    absurd sizes.
    """
    length = os.fstat(file.fileno()).st_size
    start = file.read(BLOCK)
    if length < RECORD or start[257:262] != b"ustar":
        raise BundleError(
            f"the file is not a bundle ({_kind_of(start)}): give the .bundle file that `trainer"
            " export` wrote"
        )
    if length > TOTAL_LIMIT:
        raise BundleError(
            f"the bundle has {length} bytes, at most {TOTAL_LIMIT} are allowed: export it again"
        )
    members: dict[str, Member] = {}
    folders: set[str] = set()
    offset = entries = 0
    while (header := _read_header(file, offset, length)) is not None:
        entries += 1
        if entries > ENTRY_LIMIT:
            raise BundleError(f"the bundle has more than {ENTRY_LIMIT} entries: do not use it")
        name, kind, size = header
        body = offset + BLOCK
        offset = body + -(-size // BLOCK) * BLOCK
        if offset > length:
            raise BundleError(f"the bundle is truncated in {name!r}: {AGAIN}")
        if kind == b"x":
            _check_pax(file, body, size)
        elif kind == b"5" and size == 0:
            folders.add(check_name(name.rstrip("/")))
        else:
            _add(members, Member(name, body, size), kind)
    _check_end(file, offset, length)
    _check_folders(folders, members)
    return members


def _kind_of(start: bytes) -> str:
    """What a file that is no bundle seems to be, from its first bytes."""
    if not start:
        return "it is empty"
    if PRIVATE in start:
        return "it is a private key, which should never leave the workstation"
    if b'"keyid"' in start:
        return "it is a public key, which `edge trust` takes"
    if start.startswith(b"PK"):
        return "it is a zip archive"
    return "no tar header at its start, or too short"


def _add(members: dict[str, Member], member: Member, kind: bytes) -> None:
    if kind not in (b"0", b"\0"):
        what = f"{member.name!r} is {KINDS.get(kind, 'of an unknown kind')}"
        raise BundleError(f"{what}, a bundle holds plain files only: do not use it")
    check_name(member.name)
    if member.name in members:
        raise BundleError(f"{member.name} is in the bundle twice: do not use it, export it again")
    if len(members) >= COUNT_LIMIT:
        raise BundleError(f"the bundle has more than {COUNT_LIMIT} files: do not use it")
    members[member.name] = member


def _read_header(file: BinaryIO, offset: int, length: int) -> tuple[str, bytes, int] | None:
    """Name, kind and size of the header at `offset`, or None at the end mark (a block of zeros)."""
    file.seek(offset)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        raise BundleError(f"the bundle is truncated after {length} bytes: {AGAIN}")
    if not any(block):
        return None
    checksum = _octal(block[148:156], "checksum")
    if checksum != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
        raise BundleError(f"a tar header at byte {offset} is damaged: {AGAIN}")
    try:
        name, prefix = (
            part.split(b"\0", 1)[0].decode("ascii") for part in (block[:100], block[345:500])
        )
    except UnicodeDecodeError as error:
        what = f"the name in the tar header at byte {offset} is not ASCII"
        raise BundleError(f"{what}: do not use this bundle") from error
    size = _octal(block[124:136], "size")
    if size > MEMBER_LIMIT:
        raise BundleError(
            f"{name!r} claims {size} bytes, at most {MEMBER_LIMIT} are allowed: do not use this"
            " bundle"
        )
    return (f"{prefix}/{name}" if prefix else name), block[156:157], size


def _octal(field: bytes, what: str) -> int:
    """An octal number of a tar header; the binary form for huge and negative numbers is refused."""
    match = re.fullmatch(rb"[ ]*([0-7]{1,11})[ \0]*", field)
    if match is None:
        raise BundleError(
            f"a tar header holds an absurd {what}: do not use this bundle, export it again"
        )
    return int(match.group(1), 8)


def _check_pax(file: BinaryIO, offset: int, size: int) -> None:
    """Extended headers may carry times (tarfile writes them); any other key would change names or
    sizes.
    """
    file.seek(offset)
    data = file.read(size) if size <= PAX_LIMIT else b""
    keys = {
        record.split(b" ", 1)[-1].split(b"=", 1)[0].decode("ascii", "replace")
        for record in data.splitlines()
    }
    if not keys or not keys <= HARMLESS_PAX:
        what = "the bundle has an extended tar header that may change names or sizes"
        raise BundleError(f"{what}: do not use it, export it again")


def check_name(name: str) -> str:
    """`name`, if it is a plain relative path of a bundle.

    Raises: BundleError if it is absolute, escapes, or has unusual characters.
    """
    if name.startswith("/"):
        raise BundleError(
            f"{name!r} is an absolute path, a bundle holds relative ones only: do not use this"
            " bundle"
        )
    parts = name.split("/")
    if ".." in parts:
        raise BundleError(f"{name!r} escapes from the bundle's folder: do not use this bundle")
    if len(name) > 200 or not all(
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", part) for part in parts
    ):
        raise BundleError(
            f"{name!r} is not a file name that a bundle uses: do not use this bundle, export it"
            " again"
        )
    return name


def _check_end(file: BinaryIO, offset: int, length: int) -> None:
    """A tar ends with two blocks of zeros, padded with zeros to a whole record."""
    if length - offset < 2 * BLOCK or length % RECORD:
        raise BundleError(f"the bundle is truncated after {length} bytes: {AGAIN}")
    file.seek(offset)
    while block := file.read(1 << 20):
        if any(block):
            raise BundleError(
                f"the bundle has bytes after its end mark at {offset}: do not use it, {AGAIN}"
            )


def _check_folders(folders: set[str], members: dict[str, Member]) -> None:
    """Folder entries may only announce the folders of files, and a file is never also a folder."""
    parents = {
        "/".join(name.split("/")[:depth])
        for name in members
        for depth in range(1, name.count("/") + 1)
    }
    for name in sorted((folders - parents) | (parents & set(members))):
        what = f"the bundle has a folder {name!r} that does not belong to it"
        raise BundleError(f"{what}: do not use it, export it again")


# --- writing ---


def seal(folder: Path, manifest: Manifest, *keys: Path) -> bytes:
    """Write manifest.json and signature.json of a folder whose other files the manifest lists.

    Returns: the manifest's bytes, whose SHA-256 is the bundle's digest.
    Raises: BundleError if the folder's files are not those of the manifest.
    """
    found = {
        p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()
    }
    compare_lists(
        manifest, {name: size for name, size in found.items() if name not in (MANIFEST, SIGNATURE)}
    )
    data = canonical_json(manifest.model_dump(by_alias=True, mode="json"))
    (folder / MANIFEST).write_bytes(data)
    (folder / SIGNATURE).write_bytes(sign_manifest(data, *keys))
    return data


def list_files(folder: Path) -> dict[str, dict[str, object]]:
    """The manifest's `files` of a folder: digest and size of every file but manifest.json and
    signature.json.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return {
        name: {"sha256": sha256_of(path), "size": path.stat().st_size}
        for name, path in files.items()
        if name not in (MANIFEST, SIGNATURE)
    }


def pack(folder: Path, out: Path) -> Path:
    """Pack a sealed folder to one tar file: the same bytes for the same content (names sorted, no
    times, no owners).
    """
    names = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    names.sort(
        key=lambda name: (name not in (MANIFEST, SIGNATURE), name)
    )  # who reads it first sees what it is
    temporary = out.with_name(f".{out.name}.new")
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        temporary.open("wb") as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in names:
            info = tarfile.TarInfo(check_name(name))
            info.size, info.mode = (folder / name).stat().st_size, 0o644
            with (folder / name).open("rb") as source:
                tar.addfile(info, source)
    with temporary.open("rb") as packed:
        os.fsync(packed.fileno())
    temporary.replace(out)
    sync_directory(out.parent)
    return out
