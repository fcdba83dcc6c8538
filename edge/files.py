"""Files that survive a pulled plug (written beside, synced, renamed, folder synced), and text as
editors save it.

Every refusal is one sentence: the path, what is wrong with it and what to do.
"""

from __future__ import annotations

import codecs
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from edge.errors import ConfigError, EdgeError, StorageError

UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FOLDER_MODE = 0o755  # root writes, the service's account reads
KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_text(path: Path, error: type[EdgeError] = ConfigError, limit: int | None = None) -> str:
    """The text of a UTF-8 file of at most `limit` bytes, with or without a byte order mark; line
    ends stay as they are.

    Raises: `error`, naming the file, if it cannot be read, is larger or is not UTF-8.
    """
    return decode_text(read_bytes(path, error, limit), path, error)


def read_bytes(path: Path, error: type[EdgeError] = ConfigError, limit: int | None = None) -> bytes:
    """The content of a plain file of at most `limit` bytes.

    Raises: `error`, naming the file, if it is not a plain file, is larger or cannot be read.
    """
    try:
        with os.fdopen(open_plain(path, error), "rb") as file:
            data = file.read(-1 if limit is None else limit + 1)
    except OSError as cause:
        raise error(sentence_of(cause, path)) from cause
    if limit is not None and len(data) > limit:
        raise error(
            f"{path} is larger than {limit >> 10} KiB: it is not the file that belongs here, check"
            " the path"
        )
    return data


def open_plain(path: Path, error: type[EdgeError] = ConfigError, follow: bool = True) -> int:
    """A descriptor for reading a plain file. Pipes, sockets and devices are refused without waiting
    for them, whoever put them there; follow False: a link too.

    Raises: `error` for a pipe, socket or device, OSError if it cannot be opened.
    """
    # before opening: some devices act on being opened
    _require_plain(path, path.stat(follow_symlinks=follow).st_mode, error)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    try:
        _require_plain(path, os.fstat(descriptor).st_mode, error)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_plain(path: Path, mode: int, error: type[EdgeError]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "something else")
        raise error(f"{path} is {kind} where a file is needed: check the path")


def decode_text(data: bytes, path: Path, error: type[EdgeError] = ConfigError) -> str:
    """UTF-8 text without its byte order mark; `path` names it in errors.

    Raises: `error` for any other encoding.
    """
    plain = without_mark(data, path, error)
    try:
        return plain.decode()
    except UnicodeDecodeError as cause:
        raise error(
            f"{path} is not text in UTF-8 (byte {cause.start}): save it as UTF-8, or check the path"
        ) from cause


def without_mark(data: bytes, path: Path, error: type[EdgeError] = ConfigError) -> bytes:
    """UTF-8's byte order mark removed; `path` names the bytes in errors.

    Raises: `error` for UTF-16.
    """
    if data.startswith(UTF16):
        raise error(f"{path} is saved as UTF-16: save it as UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


def sentence_of(error: OSError, path: Path | None = None) -> str:
    """One sentence for an error of the operating system: what was refused, where, and what to do.

    path: named instead of the error's own path.
    """
    where = path if path is not None else error.filename
    if isinstance(where, int):  # a descriptor's number means nothing to an operator
        where = None
    if error.errno in DISK_FULL:
        at = f" for {where}" if where else ""
        return f"no space left on the disk{at}: free some and give the same command again"
    unknown = (f"cannot be used ({error.strerror or error})", "check the path and the disk")
    what, remedy = SENTENCES.get(error.errno or 0, unknown)
    return f"{where or 'a file or device'} {what}: {remedy}"


SENTENCES = {  # by the error number: what is wrong, and what to do
    errno.ENOENT: ("does not exist", "check the path"),
    errno.EISDIR: ("is a folder where a file is needed", "check the path"),
    errno.ENOTDIR: ("cannot be reached, a file stands where a folder is needed", "check the path"),
    errno.EEXIST: ("exists already, as something else than is needed", "name another path"),
    errno.ELOOP: (
        "cannot be reached, its links lead in a circle or a link stands where none may",
        "check the path",
    ),
    errno.ENAMETOOLONG: ("is too long a name for this disk", "choose a shorter one"),
    errno.EACCES: (
        "cannot be used, permission denied",
        "check its owner and mode, or use another account",
    ),
    errno.EPERM: (
        "cannot be changed, not permitted",
        "check its owner and attributes, or use another account",
    ),
    errno.EROFS: (
        "cannot be written, its disk is mounted read-only",
        "mount it writable, or name another folder",
    ),
    errno.EMFILE: ("cannot be opened, too many files are open", "raise the limit with `ulimit -n`"),
    errno.ENFILE: (
        "cannot be opened, too many files are open on this machine",
        "stop what holds them",
    ),
    errno.EBUSY: ("is in use", "stop what uses it, or unmount it"),
}


def require_folder_target(path: Path, option: str = "") -> None:
    """Require that `path` is a writable folder or can be made one; nothing is made here.

    option: the option of the command line that named `path`.
    Raises: ConfigError naming the file that stands in the way, or the folder that cannot be
    written.
    """
    _require_place(path, path, option)


def require_file_target(path: Path, option: str = "") -> None:
    """Require that `path` can be written as a file, in a folder that may not exist yet; nothing is
    made here.

    Raises: ConfigError naming what stands in the way.
    """
    if path.is_dir():
        raise ConfigError(
            f"{option} {path} is a folder where a file is needed: name the file to write".lstrip()
        )
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
        raise ConfigError(
            f"{what} cannot be written: check its owner and mode, and that its disk is not mounted "
            "read-only, or name another path"
        )


def is_there(path: Path) -> bool:
    """Whether anything exists at `path`, including a dangling link.

    Raises: OSError if the path cannot be examined.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def make_folder(folder: Path, mode: int = FOLDER_MODE) -> None:
    """Make `folder` and the missing folders above it, each with this mode whatever the umask;
    existing folders stay as they are.

    Raises: OSError if it cannot be made, or something other than a folder is there.
    """
    if folder.is_dir():
        return
    if not is_there(folder.parent):
        make_folder(folder.parent, mode)
    try:
        folder.mkdir(mode)
    except FileExistsError:
        if folder.is_dir():  # another process was first
            return
        raise
    with opened_folder(folder) as descriptor:
        os.fchmod(descriptor, mode)
    sync_directory(folder.parent)


@contextmanager
def opened_folder(folder: Path) -> Iterator[int]:
    """A descriptor of a folder, closed at the end.

    Raises: OSError if `folder` is not a folder, or is a link.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_directory(folder: Path) -> None:
    """Make new and changed names inside `folder` durable (fsync of a directory)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replaced(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file to write into; `path` has its content when the body ends, and is untouched if that
    raises. After a power cut it is entirely old or entirely new.

    Raises: OSError, with the path as its filename, if the disk refuses.
    """
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=f".{path.name}.", delete=False
    ) as file:
        try:
            yield file
            file.flush()
            # temporary files start as 0600: root installs, user edge reads
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException as error:
            Path(file.name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = str(path)
            raise
    sync_directory(path.parent)


def write_atomically(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace the content of `path` by `data`: after a power cut it is entirely old or entirely
    new.

    Raises: OSError, with the path as its filename, if the disk refuses.
    """
    with replaced(path, mode) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented UTF-8 JSON.

    Raises: ValueError for NaN and infinities.
    """
    write_atomically(
        path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    )


def link_atomically(link: Path, target: str) -> None:
    """Point the symbolic link `link` at `target` (a relative path) in one step."""
    temporary = link.with_name(f".{link.name}.new")
    remove_tree(temporary)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync_directory(link.parent)


def remove_tree(path: Path) -> None:
    """Remove a folder with its content, or a file or link; does nothing if nothing is there.

    Links are removed and never followed, even if they appear meanwhile (shutil.rmtree walks by
    descriptors).
    Raises: OSError if something cannot be removed, StorageError if its folders are nested too
        deeply.
    """
    try:
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
    except RecursionError as error:
        raise StorageError(
            f"{path} holds folders nested too deeply: remove it by hand (rm -r)"
        ) from error


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with os.fdopen(open_plain(path), "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
