"""The control socket of a station, played: answers `live` with what a test has set."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.page.station_source import SOCKET
from edge.station.lock import RUN, locked

READY = {
    "state": "online", "reason": "", "ready": True, "why": "", "product": "washer",
    "bundle": "1.4.0-0123456789ab", "engine": "onnxruntime 1.23", "precision": "int8",
    "ok": 1284, "ng": 17, "unknown": 3, "uptime_s": 5400, "frames": 91_000, "frames_dropped": 2,
    "records_waiting": 0, "gate_ms": 0.8, "engine_ms": 21.5, "pid": 4711,
}  # fmt: skip
OK = {"seq": 1303, "part": "A1303", "code": 1, "reason": "normal", "score": 3.25, "thr": 9.5,
      "judged_at": "2026-11-30T16:00:00.000Z"}  # fmt: skip
NG = {**OK, "seq": 1304, "part": "A1304", "code": 2, "reason": "anomaly", "score": 13.25}
UNKNOWN = {**OK, "seq": 1305, "part": "A1305", "code": 3, "reason": "no_depth", "score": None,
           "thr": None}  # fmt: skip


class PlayedStation:
    """What it sees and says. asked: how many times it was asked."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = dict(READY)
        self.verdicts: list[dict[str, Any]] = []
        self.jpeg = b""
        self.asked = 0

    def answer(self) -> bytes:
        self.asked += 1
        picture = {"frame": 1} if self.jpeg else None
        said = {"state": self.state, "verdicts": self.verdicts, "picture": picture, "session": None}
        if self.jpeg:
            said["bytes"] = len(self.jpeg)
        return json.dumps(said).encode() + b"\n" + self.jpeg

    def show(self, verdict: dict[str, Any], jpeg: bytes | None = None) -> None:
        self.verdicts.append(verdict)
        self.jpeg = self.jpeg if jpeg is None else jpeg


@contextmanager
def played_station(root: Path) -> Iterator[PlayedStation]:
    """A station that holds the lock of `edge run` and answers at its socket, until the end."""
    station = PlayedStation()
    path = root / SOCKET
    path.parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folder = os.open(path.parent, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)
    listener.listen()
    open_ones: list[socket.socket] = []
    thread = threading.Thread(target=_accept, args=(listener, station, open_ones), daemon=True)
    thread.start()
    try:
        with locked(root / "var/lib/edge", RUN, "edge run"):
            yield station
    finally:
        for one in (listener, *open_ones):
            one.shutdown(socket.SHUT_RDWR)
            one.close()
        path.unlink()
        thread.join(5)


def _accept(
    listener: socket.socket, station: PlayedStation, open_ones: list[socket.socket]
) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        open_ones.append(connection)
        threading.Thread(target=_serve, args=(connection, station), daemon=True).start()


def _serve(connection: socket.socket, station: PlayedStation) -> None:
    try:
        with connection.makefile("rb") as lines:
            for line in lines:
                assert json.loads(line)["do"] == "live"
                connection.sendall(station.answer())
    except OSError:
        return
