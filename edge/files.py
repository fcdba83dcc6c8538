"""Files that survive a pulled plug: written beside, synced, renamed, the folder synced; and text as editors save it.

Whatever is refused is one sentence: the path, what is wrong with it and what to do.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from edge.errors import ConfigError, EdgeError

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def read_text(path: Path, error: type[EdgeError] = ConfigError, limit: int | None = None) -> str:
    """A text file in UTF-8, with or without a byte order mark, of at most `limit` bytes; line ends as they are.

    Raises: `error`, naming the file, if it cannot be read, is larger or is not UTF-8.
    """
    return decode_text(read_bytes(path, error, limit), path, error)


def read_bytes(path: Path, error: type[EdgeError] = ConfigError, limit: int | None = None) -> bytes:
    """A file of at most `limit` bytes. Raises: `error`, naming the file, if it cannot be read or is larger."""
    try:
        with path.open("rb") as file:
            data = file.read(-1 if limit is None else limit + 1)
    except OSError as cause:
        raise error(sentence_of(cause, path)) from cause
    if limit is not None and len(data) > limit:
        raise error(f"{path} is larger than {limit >> 10} KiB: it is not the file that belongs here, check the path")
    return data


def decode_text(data: bytes, path: Path, error: type[EdgeError] = ConfigError) -> str:
    """UTF-8 text without its byte order mark; `path` names it in errors. Raises: `error` for any other encoding."""
    plain = without_mark(data, path, error)
    try:
        return plain.decode()
    except UnicodeDecodeError as cause:
        raise error(f"{path} is not text in UTF-8 (byte {cause.start}): save it as UTF-8, or check the path") from cause


def without_mark(data: bytes, path: Path, error: type[EdgeError] = ConfigError) -> bytes:
    """UTF-8's byte order mark removed; `path` names the bytes in errors. Raises: `error` where they are UTF-16."""
    if data.startswith(UTF16):
        raise error(f"{path} is saved as UTF-16: save it as UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


def sentence_of(error: OSError, path: Path | None = None) -> str:
    """What the operating system refused, where, and what to do. path: instead of the one that the error names."""
    where = path if path is not None else error.filename
    if error.errno in DISK_FULL:
        at = f" for {where}" if where else ""
        return f"no space left on the disk{at}: free some and give the same command again"
    what, remedy = {
        errno.ENOENT: ("does not exist", "check the path"),
        errno.EISDIR: ("is a folder where a file is needed", "check the path"),
        errno.ENOTDIR: ("cannot be reached, a file stands where a folder is needed", "check the path"),
        errno.EEXIST: ("exists already, as something else than is needed", "name another path"),
        errno.EACCES: ("cannot be used, permission denied", "check its owner and mode, or use another account"),
        errno.EPERM: ("cannot be changed, not permitted", "check its owner and attributes, or use another account"),
        errno.EROFS: ("cannot be written, its disk is mounted read-only", "mount it writable, or name another folder"),
    }.get(error.errno or 0, (f"cannot be used ({error.strerror or error})", "check the path and the disk"))
    return f"{where} {what}: {remedy}"


def require_folder_target(path: Path, option: str = "") -> None:
    """See that `path` is a folder that can be written, or can become one; nothing is made. option: that named it.

    Raises: ConfigError naming the file that stands in the way, or what cannot be written.
    """
    _require_place(path, path, option)


def require_file_target(path: Path, option: str = "") -> None:
    """See that `path` can be written as a file, in a folder that may have to be made; nothing is made.

    Raises: ConfigError naming what stands in the way.
    """
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a folder where a file is needed: name the file to write".lstrip())
    _require_place(path.parent, path, option)


def _require_place(folder: Path, path: Path, option: str) -> None:
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    named = f"{option} {path}".lstrip()
    what = named if place == path else f"{named}: {place}"
    if not place.is_dir():
        raise ConfigError(f"{what} is a file where a folder is needed: name another path")
    if not os.access(place, os.W_OK | os.X_OK):
        raise ConfigError(f"{what} cannot be written: check its owner and mode, and that its disk is not mounted "
                          "read-only, or name another path")


def sync_directory(folder: Path) -> None:
    """Make renames and new names inside `folder` durable (fsync of a directory)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data`: after a power cut it holds the old bytes or the new ones, never a part.

    Raises: OSError, with the path as its filename, if the disk does not take it.
    """
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)  # temporary files start as 0600: root installs, user edge reads
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException as error:
            Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = str(path)
            raise
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically; NaN and infinities are refused with ValueError."""
    write_atomically(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def link_atomically(link: Path, target: str) -> None:
    """Point the symbolic link `link` at `target` (a relative path) in one step."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_directory(link.parent)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
