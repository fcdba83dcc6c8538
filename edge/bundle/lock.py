"""Locks of a root. They belong to the open file: the kernel lets go of them when the process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BusyError

CHANGE = "change.lock"   # held by whoever changes what is installed, trusted or calibrated
RUN = "run.lock"         # held by `edge run`; a change does not need it, it takes effect between parts


@contextmanager
def locked(folder: Path, name: str, who: str) -> Iterator[None]:
    """Hold the lock `name` in `folder` (made if missing) for `who`, for example "edge install".

    Raises: BusyError naming the process that holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip() or "another process"
            raise BusyError(f"{path} is held by {holder}: wait until it has finished, or stop it first") from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{who} (process {os.getpid()})\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
