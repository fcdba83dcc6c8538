"""What a running station says of itself, for `edge status`, which has no part in the line's
traffic.

    run/edge/status.json    the state message, with what it has no room for; written each second by
                            `edge run`

It lies on a file system in memory where the system has one there, is never synced, and is worth
nothing once the process that wrote it is gone: `edge status` sees by the lock of `edge run` whether
it is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.background import Repeated
from edge.clock import boot_time_s, is_clock_synced
from edge.config import PLACE, EdgeConfig, read_config
from edge.errors import EdgeError
from edge.files import make_folder, opened_folder, read_bytes
from edge.station.lock import RUN, is_held
from edge.station.store import Store
from edge.trouble import Trouble
from edge.types import Code

log = logging.getLogger(__name__)

FILE = Path("run/edge/status.json")
LIMIT = 64 << 10  # bytes
TEXTS = ("why", "camera", "link")
NUMBERS = (
    "uptime_s",
    "frames",
    "frames_dropped",
    "records_waiting",
    "records_dropped",
    "images_dropped",
    "powered_on_s",
)
PASS_S = 1.0
SILENT_S = 5.0  # a station that runs writes each second; after so long something holds it up


class StatusFile:
    """Written by the running station, in a thread of its own: a disk that hangs holds up nothing
    else.
    """

    def __init__(self, root: Path, say: Callable[[], Mapping[str, Any]]) -> None:
        """say: what there is to say now; JSON types. Nothing is written before start()."""
        self._path, self._say = root / FILE, say
        self._complaint = Trouble(log, f"{self._path} is written again")
        self._writes = Repeated("status", log, self.write, PASS_S)

    def start(self) -> None:
        """Write now, and each second."""
        self._writes.start()

    def stop(self, timeout_s: float) -> None:
        """The station ends: remove the file."""
        self._writes.stop(timeout_s)
        self.forget()

    def write(self) -> None:
        """Replace the file once.

        Where the disk does not take it, that is logged when it begins and when it ends.
        """
        content = {**self._say(), "pid": os.getpid(), "boottime_s": boot_time_s()}
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            make_folder(self._path.parent)
            temporary.unlink(missing_ok=True)
            flags = (
                os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            )  # never what a link leads to
            with os.fdopen(os.open(temporary, flags, 0o644), "w", encoding="ascii") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(json.dumps(content, allow_nan=False))
            temporary.replace(self._path)
            self._complaint.ended()
        except OSError as error:
            self._complaint.happened(
                f"{self._path} cannot be written ({error.strerror}): `edge status` shows less"
            )

    def forget(self) -> None:
        """Remove what an earlier process has left: it does not speak for this one."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def make_place(store: Store) -> None:
    """The folder of the file, for the account that the station works as, where no service manager
    has made it.

    To be called by whoever starts the station, before it takes that account's rights. Where it
    cannot be made, writing the file says so.
    """
    folder = (store.root / FILE).parent
    with contextlib.suppress(OSError), store.inside(FILE.parent.parent):
        if not folder.exists():
            make_folder(folder)
            owner = store.data.stat()
            with opened_folder(folder) as descriptor:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)


@dataclass(frozen=True)
class Live:
    """What the process that holds the root's lock said last.

    age_s: how long ago; said: empty if it said nothing.
    """

    said: Mapping[str, Any]
    age_s: float


def read_live(store: Store) -> Live | None:
    """None if no `edge run` is at work on this root."""
    if not is_held(store.data / RUN):
        return None
    try:
        said = json.loads(read_bytes(store.root / FILE, limit=LIMIT))
        age_s = max(0.0, boot_time_s() - float(said["boottime_s"]))
        return Live(said, age_s) if _is_sound(said) else Live({}, 0.0)
    except (EdgeError, OSError, ValueError, TypeError, KeyError, RecursionError):
        return Live({}, 0.0)


def _is_sound(said: Mapping[str, Any]) -> bool:
    """Whether it says what a station says: the file belongs to the service's account, which may
    write anything.
    """
    texts = [said["state"], said["reason"], *(said.get(key) or "" for key in TEXTS)]
    numbers = [said["pid"], *(said.get(key) or 0 for key in NUMBERS)]
    return (
        isinstance(said["ready"], bool)
        and all(isinstance(text, str) and (not text or text.isprintable()) for text in texts)
        and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
    )


def live_lines(store: Store) -> list[str]:
    """Station, camera, broker, disk, clock, last verdict: one line each. Raises: ConfigError."""
    config, live = read_config(store.root), read_live(store)
    return [
        f"station      {_station(live)}",
        f"camera       {_camera(config, live)}",
        f"broker       {_broker(config, live)}",
        f"disk         {_disk(store, config, live)}",
        f"clock        {_clock(live)}",
        f"last verdict {_last_verdict(store)}",
    ]


def _station(live: Live | None) -> str:
    if live is None:
        return "not running: `edge run` (or `systemctl start edge`) starts it"
    said = live.said
    if not said:
        return (
            f"running, not yet judging: it opens its engine, or cannot write {FILE} (then its log"
            " says so)"
        )
    if live.age_s > SILENT_S:
        return (
            f"process {said['pid']} has said nothing for {live.age_s:.0f} s: see its log, or"
            " restart it"
        )
    state = str(said["state"]) + (f" ({said['reason']})" if said["reason"] else "")
    ready = "ready" if said["ready"] else "not ready"
    why = f": {said['why']}" if said.get("why") else ""
    return f"{state}, {ready}, process {said['pid']}, up {_duration(said.get('uptime_s', 0))}{why}"


def _camera(config: EdgeConfig, live: Live | None) -> str:
    camera = config.camera
    name = f"{camera.kind} {camera.serial or camera.path}".rstrip()
    if live is None or not live.said:
        return f"{name}, not open"
    said = live.said
    told = f"{name}, serial {said['camera']}" if said.get("camera") else name
    frames = f"{said['frames']} frames" if "frames" in said else "frames not counted"
    return f"{told}: {frames}, {said.get('frames_dropped', 0)} dropped for newer ones"


def _broker(config: EdgeConfig, live: Live | None) -> str:
    broker = config.broker
    if not broker.enabled:
        return f"none: broker.enabled is false in {PLACE}, verdicts are only stored"
    where = f"{broker.host}:{broker.port}{' with TLS' if broker.tls else ''}"
    if live is None or not live.said:
        return f"{where}, not connected"
    problem = live.said.get("link")
    return f"{where}: {problem}" if problem else f"{where}, connected"


def _disk(store: Store, config: EdgeConfig, live: Live | None) -> str:
    try:
        free = shutil.disk_usage(store.data).free / 1e9
    except OSError as error:
        return f"{store.data} cannot be looked at ({error.strerror})"
    said = {} if live is None else live.said
    waiting = said.get("records_waiting")
    records = "" if waiting is None else f", {waiting} records wait for the broker"
    lost = "".join(
        f", {said[key]} {what}"
        for key, what in (
            ("records_dropped", "unsent records dropped by the bound"),
            ("images_dropped", "parts' images not kept"),
        )
        if said.get(key)
    )
    return (
        f"{free:.1f} GB free, bound {config.retention.gb:g} GB or {config.retention.days}"
        f" days{records}{lost}"
    )


def _clock(live: Live | None) -> str:
    synced = (
        "synchronized" if is_clock_synced() else "not synchronized: dates in records may be wrong"
    )
    powered = None if live is None else live.said.get("powered_on_s")
    return synced if powered is None else f"{synced}; powered on for {_duration(powered)} in all"


def _last_verdict(store: Store) -> str:
    try:
        fields = _last_record(store.data / "line.sqlite")
        return "none yet" if fields is None else _verdict_line(fields)
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        return (
            "not known, line.sqlite cannot be read:"
            f" {' '.join(str(error).split()) or type(error).__name__}"
        )


def _verdict_line(fields: Mapping[str, Any]) -> str:
    score = (
        ""
        if fields["score"] is None
        else f", score {fields['score']:.6g} (limit {fields['thr']:.6g})"
    )
    return (
        f"{fields['part']} {Code(fields['code']).name} {fields['reason']}{score}, judged"
        f" {fields['judged_at']}"
    )


def _last_record(path: Path) -> dict[str, Any] | None:
    """Read without leaving a file beside the database, which belongs to `edge run`.

    Raises: sqlite3.Error, ValueError if it cannot be read.
    """
    if not path.is_file():
        return None
    log_file = path.with_name(f"{path.name}-wal")
    at_rest = (
        not log_file.exists() or log_file.stat().st_size == 0
    )  # SQLite would make its index file anew
    name = f"{path.absolute().as_uri()}?{'immutable=1' if at_rest else 'mode=ro'}"
    with contextlib.closing(sqlite3.connect(name, uri=True, timeout=1.0)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone():
            return None  # so far only the audit's
        row = connection.execute("SELECT fields FROM records ORDER BY seq DESC LIMIT 1").fetchone()
    found: dict[str, Any] | None = None if row is None else json.loads(row[0])
    return found


def _duration(seconds: float) -> str:
    """1 d 3 h, 3 h 5 min, 5 min, 12 s."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{int(seconds)} s"
