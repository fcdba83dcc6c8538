"""The signature of a backup, in its last line:

    edge backup {"about": {...}, "key": {...}, "schema": 1, "signature": "..."}

What precedes it is a tar, which `tar` lists although the line follows its end. Signed are DOMAIN
and `about` in its one spelling, with length and SHA-256 of the tar. So a reader checks every byte
before it looks at what the tar says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field, ValidationError

from edge.bundle.curve import is_sound_point
from edge.bundle.key_files import PublicKey, key_id
from edge.bundle.signature import Hex64, is_signed_by
from edge.errors import DataError
from edge.files import open_plain, sentence_of
from edge.schema import Sha256, Strict, parse_json
from edge.station.station_key import public_key_of

DOMAIN = b"edge backup, schema 1\n"  # so that nothing else that this key signs passes for a backup
HEAD = b"edge backup {"
SEAL_LIMIT = 4096  # bytes of the line
BLOCK_BYTES = 1 << 20


class About(Strict):
    """What is signed.

    station: site/line/station. product: the active one, or None. version: of this software.
    has_pictures: those of the parts are in it. when: UTC, ISO 8601. size: bytes of the tar.
    """

    station: str
    product: str | None
    version: str
    has_pictures: bool
    who: str
    when: str
    size: int = Field(ge=0)
    sha256: Sha256


class Seal(Strict):
    """The last line of a backup."""

    schema_: Literal[1] = Field(alias="schema")
    about: About
    key: PublicKey
    signature: Hex64


class Hashed(io.RawIOBase):
    """Passes on what is written or read, counts it and hashes it."""

    def __init__(self, file: IO[bytes], limit: int | None = None) -> None:
        """limit: bytes after which the file seems to end."""
        super().__init__()
        self._file, self._digest, self.size = file, hashlib.sha256(), 0
        self._limit = limit

    @property
    def sha256(self) -> str:
        """Of what has passed so far, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, data: Any) -> int:
        """As IO.write. Raises: OSError."""
        self._digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def read(self, size: int = -1) -> bytes:
        """As IO.read. Raises: OSError."""
        if self._limit is not None:
            left = self._limit - self.size
            size = left if size < 0 else min(size, left)
        data = self._file.read(size)
        self._digest.update(data)
        self.size += len(data)
        return data


@dataclass(frozen=True)
class Verified:
    """A backup that is exactly as this key has signed it. Its tar is `about.size` bytes from the
    beginning of `file`.
    """

    path: Path
    about: About
    key: PublicKey
    file: IO[bytes]


def seal_line(about: About, signer: Any) -> bytes:
    """The last line. signer: of edge.station.station_key.open_signer."""
    signature = signer.sign(_signed(about)).signature
    key = public_key_of(signer).model_dump(exclude_none=True)
    return _line({"schema": 1, "about": about.model_dump(), "key": key, "signature": signature})


@contextmanager
def verified(path: Path) -> Iterator[Verified]:
    """Open a backup, if not one byte of it was changed since it was signed. Whether the key is the
    right one is for the caller to say.

    Raises: DataError if it is no backup, is cut short, or was changed.
    """
    try:
        with os.fdopen(open_plain(path, DataError), "rb") as file:
            seal = _read_seal(path, file)
            _require_signed(path, file, seal)
            yield Verified(path, seal.about, seal.key, file)
    except OSError as error:
        if error.filename not in (None, str(path)):
            raise
        raise DataError(f"cannot read the backup: {sentence_of(error, path)}") from error


def _read_seal(path: Path, file: IO[bytes]) -> Seal:
    length = os.fstat(file.fileno()).st_size
    file.seek(max(0, length - SEAL_LIMIT))
    _, separator, rest = file.read(SEAL_LIMIT).rpartition(HEAD)
    if not separator or not rest.endswith(b"}\n"):
        raise DataError(
            f"{path} has no signature at its end: it is no backup of a station, or was cut short:"
            " copy it again from where `edge backup` wrote it"
        )
    try:
        seal = Seal.model_validate(parse_json(b"{" + rest))
    except (ValidationError, ValueError) as error:
        raise DataError(f"the signature of {path} is damaged: {CHANGED}") from error
    told = _line(seal.model_dump(by_alias=True, mode="json", exclude={"key": {"trust"}}))
    if told != HEAD + rest or seal.about.size != length - len(told):
        raise DataError(f"{path} is not as it was signed: {CHANGED}")
    return seal


def _require_signed(path: Path, file: IO[bytes], seal: Seal) -> None:
    public = seal.key.keyval.public
    is_sound = key_id(public) == seal.key.keyid and is_sound_point(bytes.fromhex(public))
    if not is_sound or not is_signed_by(seal.key, seal.signature, _signed(seal.about)):
        raise DataError(f"{path} is not as it was signed: {CHANGED}")
    file.seek(0)
    hashed = Hashed(file, seal.about.size)
    while hashed.read(BLOCK_BYTES):
        pass
    if hashed.sha256 != seal.about.sha256:
        raise DataError(f"{path} is not as it was signed: {CHANGED}")


CHANGED = "it was changed or damaged afterwards; copy it again from where `edge backup` wrote it"


def _signed(about: About) -> bytes:
    return DOMAIN + _json(about.model_dump())


def _line(seal: dict[str, Any]) -> bytes:
    return b"edge backup " + _json(seal) + b"\n"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False).encode("ascii")
