"""What `edge opcua` does at the station's socket, without any OPC UA: played by a test."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge.line.json_lines import SOCKET, LineReader, line_of
from tests.support.patience import patience_s


class PlayedGateway:
    """One connection to the socket of a station, in the test's own thread."""

    def __init__(self, root: Path) -> None:
        self._socket, end_s = socket.socket(socket.AF_UNIX), time.monotonic() + patience_s(10)
        while True:
            try:
                self._connect(root / SOCKET)
                break
            except (FileNotFoundError, ConnectionRefusedError):  # it is being made
                assert time.monotonic() < end_s, "no socket"
                time.sleep(0.005)
        self._reader = LineReader()
        self.heard: list[Mapping[str, Any]] = []
        self._seen = 0

    def _connect(self, path: Path) -> None:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            self._socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)

    def say(self, kind: str, /, **said: Any) -> None:
        self._socket.sendall(line_of(kind, **said))

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def next(self, what: str, timeout_s: float = 10) -> Mapping[str, Any]:
        """The next line of that kind; those before it are passed over."""
        end_s = time.monotonic() + patience_s(timeout_s)
        while True:
            while self._seen < len(self.heard):
                self._seen += 1
                if self.heard[self._seen - 1]["t"] == what:
                    return self.heard[self._seen - 1]
            assert self._read(end_s), f"closed without {what}"

    def is_closed(self, timeout_s: float = 10) -> bool:
        """Whether the station closes the connection in that time."""
        end_s = time.monotonic() + patience_s(timeout_s)
        while time.monotonic() < end_s:
            if not self._read(end_s):
                return True
        return False

    def close(self) -> None:
        self._socket.close()

    def _read(self, end_s: float) -> bool:
        self._socket.settimeout(max(0.01, end_s - time.monotonic()))
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            return False
        self.heard += self._reader.feed(data)
        return bool(data)
