"""Locks of a root.

A lock belongs to an open file: the kernel releases it when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BusyError, StorageError
from edge.files import make_folder, sentence_of

CHANGE = "change.lock"  # held by whoever changes what is installed, trusted or calibrated
RUN = "run.lock"  # held by `edge run`; a change does not need it, it takes effect between parts


@contextmanager
def locked(folder: Path, name: str, who: str) -> Iterator[None]:
    """Hold the lock `name` in `folder` (made if missing) for `who`, for example "edge install".

    The file stays empty and is never written: a refused command leaves no trace.
    Raises: BusyError naming the process that holds it, StorageError if this account cannot write
    there.
    """
    path = folder / name
    try:
        make_folder(folder)
        descriptor = _open(path)
    except OSError as error:
        raise StorageError(sentence_of(error)) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            what = f"{who}: {path} is held by {_holder(descriptor)}"
            raise BusyError(f"{what}: wait until it has finished, or stop it first") from error
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """The lock's file, made if missing.

    A link or anything else in its place is refused and not waited for.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
        os.fchmod(descriptor, 0o644)
    except FileExistsError:
        descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StorageError(f"{path} is no plain file: remove it, the command makes its own")
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a process holds this lock. It is looked up in the kernel's list, since trying to take
    the lock would keep others from it.
    """
    try:
        return _holder_of(path.stat().st_ino) is not None
    except OSError:  # the file is not there, or /proc is hidden
        return False


def _holder(descriptor: int) -> str:
    """The process that holds the lock; "another process" where the kernel does not tell."""
    try:
        if (process := _holder_of(os.fstat(descriptor).st_ino)) is not None:
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            return f"process {process} ({b' '.join(words).decode('utf-8', 'replace').strip()})"
    except OSError:  # the process has just ended, or /proc is hidden
        pass
    return "another process"


def _holder_of(inode: int) -> str | None:
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].split(":")[-1] == str(inode):
            return fields[4]
    return None
