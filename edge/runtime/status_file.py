"""The file in which a running station says what it does, for `edge status`, which does not listen
to the line.

    run/edge/status.json    the state message, and what it has no room for (edge/runtime/report.py);
                            written each second by `edge run`

It lies on a file system in memory where the system has one there, is never synced, and is worth
nothing once the process that wrote it is gone, which `edge status` sees by the lock of `edge run`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge.background import Repeated
from edge.clock import boot_time_s
from edge.errors import EdgeError
from edge.files import make_folder, opened_folder, read_bytes
from edge.runtime.status import FILE, Live
from edge.station.lock import RUN, is_held
from edge.station.store import Store
from edge.trouble import Trouble

log = logging.getLogger(__name__)

LIMIT = 64 << 10  # bytes
TEXTS = ("why", "camera", "link", "drift")
NUMBERS = (
    "uptime_s",
    "frames",
    "frames_dropped",
    "records_waiting",
    "records_dropped",
    "images_dropped",
    "powered_on_s",
    "parts_watched",
)
COUNTS = ("ok", "ng", "unknown")  # of parts
LARGEST = 2**53  # of numbers: up to here a float is exact
PID_LIMIT = 1 << 22  # PID_MAX_LIMIT of Linux
REASON_LIMIT = 64  # characters, as a trial's record keeps it
PASS_S = 1.0


class StatusFile:
    """Written by the running station, in a thread of its own: a disk that hangs holds up nothing
    else.
    """

    def __init__(self, root: Path, say: Callable[[], Mapping[str, Any]]) -> None:
        """say: gives what is written, JSON types; called in this thread. Nothing is written before
        start().
        """
        self._root, self._path, self._say = root, root / FILE, say
        self._complaint = Trouble(log, f"{self._path} is written again")
        self._writes = Repeated("status", log, self.write, PASS_S)

    def start(self) -> None:
        """Write now, and each second."""
        self._writes.start()

    def stop(self, timeout_s: float) -> None:
        """The station ends: remove the file."""
        self._writes.stop(timeout_s)
        forget_status(self._root)

    def write(self) -> None:
        """Replace the file once.

        Where the disk does not take it, that is logged when it begins and when it ends.
        """
        content = {**self._say(), "pid": os.getpid(), "boottime_s": boot_time_s()}
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            make_folder(self._path.parent)
            temporary.unlink(missing_ok=True)
            # never what a link leads to
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o644), "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(json.dumps(content, allow_nan=False))
            temporary.replace(self._path)
            self._complaint.ended()
        except OSError as error:
            self._complaint.happened(
                f"{self._path} cannot be written ({error.strerror}): `edge status` shows less"
            )


def forget_status(root: Path) -> None:
    """Remove what an earlier process has left: it does not speak for this one."""
    with contextlib.suppress(OSError):
        (root / FILE).unlink(missing_ok=True)


def make_place(store: Store) -> None:
    """Make the file's folder, for the account that the station works as, where systemd has not
    made it.

    To be called by whoever starts the station, before it takes that account's rights. Where the
    folder cannot be made, writing the file says so.
    """
    folder = (store.root / FILE).parent
    with contextlib.suppress(OSError), store.inside(FILE.parent.parent):
        if not folder.exists():
            make_folder(folder)
            owner = store.data.stat()
            with opened_folder(folder) as descriptor:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)


def read_live(store: Store) -> Live | None:
    """What the running station said last; None if no `edge run` is at work on this root."""
    if not is_held(store.data / RUN):
        return None
    try:
        said = json.loads(read_bytes(store.root / FILE, limit=LIMIT))
        if not _is_sound(said):
            return Live({}, 0.0)
        return Live(said, max(0.0, boot_time_s() - said["boottime_s"]))
    except (EdgeError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return Live({}, 0.0)


def _is_sound(said: Mapping[str, Any]) -> bool:
    """Whether every field has the type and the range that readers rely on, root among them: the
    file belongs to the account of the service, which may write anything. Raises: KeyError for a
    field that is missing.
    """
    texts = [said["state"], said["reason"], *(said.get(key) or "" for key in TEXTS)]
    numbers = [said["boottime_s"], *(said.get(key) or 0 for key in (*NUMBERS, *COUNTS))]
    return (
        isinstance(said["ready"], bool)
        and all(isinstance(text, str) and (not text or text.isprintable()) for text in texts)
        and len(said["reason"]) <= REASON_LIMIT
        and all(type(number) in (int, float) and 0 <= number <= LARGEST for number in numbers)
        and type(said["pid"]) is int
        and 0 < said["pid"] <= PID_LIMIT
    )
