"""One head for each folder: two would hand out the same jobs.

Two guards. A lock of the kernel (flock): it is gone when its process is, however that ended. It
also works between machines where the folder's file system passes locks on: NFS version 4 and CephFS
do, Lustre where it is mounted with `-o flock`. Where it does not, a file that the head writes anew
every few seconds tells a head on another machine that this one is alive. Clocks are not compared:
who finds such a file waits and looks whether it changes.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.errors import BusyError
from edge.files import write_json
from edge.station.lock import locked

LOCK, SIGN = "head.lock", "head.json"
BEAT_S = 5.0
# longer than a file system of the network may show an old file (NFS: 60 s unless mounted otherwise)
LEASE_S = 90.0


@contextmanager
def only_head(out: Path, who: str, lease_s: float = LEASE_S) -> Iterator[None]:
    """Be the one head of the folder `out`. who: the command.

    Raises: BusyError if there is another one. To find out takes `lease_s` where a head on another
    machine has left its sign of life, else no time.
    """
    with locked(out, LOCK, who):
        sign = out / SIGN
        _require_dead(sign, who, lease_s)
        ended = threading.Event()
        beating = threading.Thread(target=_beat, args=(sign, ended), daemon=True)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            sign.unlink(missing_ok=True)


def _beat(sign: Path, ended: threading.Event) -> None:
    number = 0
    while True:
        number += 1
        with suppress(OSError):  # a disk that is full for a moment costs no campaign
            write_json(sign, {"machine": _here(), "process": os.getpid(), "beat": number})
        if ended.wait(BEAT_S):
            return


def _require_dead(sign: Path, who: str, lease_s: float) -> None:
    """Raises: BusyError if the sign is another machine's and changes."""
    first = _read(sign)
    if first is None or first.get("machine") == _here():  # its lock would have refused us
        return
    deadline_s = time.monotonic() + lease_s
    while time.monotonic() < deadline_s:
        time.sleep(min(BEAT_S, lease_s) / 5)
        now = _read(sign)
        if now is not None and now != first:
            raise BusyError(
                f"{who}: {sign.parent} is in the hands of process {now.get('process')} on"
                f" {str(now.get('machine')).partition(' ')[0]}: wait until it has finished, or stop"
                " it first"
            )


def _read(sign: Path) -> dict[str, object] | None:
    try:
        found = json.loads(sign.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _here() -> str:
    """This machine since it was started: the kernel that keeps its locks."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        boot = ""
    return f"{platform.node()} {boot}".strip()
