"""Runs `edge run` as systemd does by the shipped unit: restarted whenever it ends, with a
watchdog.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.support.patience import patience_s

UNIT = Path(__file__).resolve().parents[2] / "systemd/edge.service"


def of_unit(key: str) -> float:
    """The value of `key` in the unit file, in seconds."""
    found = re.search(rf"^{key}=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found, f"{UNIT} has no {key}"
    return float(found[1])


class Supervisor:
    """One station's process, again and again.

    exits: what each of them ended with; negative: by that signal.
    """

    def __init__(
        self,
        root: Path,
        log: Path,
        options: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        restart_s: float | None = None,
        module: str = "edge",
    ) -> None:
        """restart_s: instead of the unit's RestartSec. module: whose `run` it is."""
        self.log, self.exits = log, list[int]()
        self._words = [sys.executable, "-m", module, "run", "--root", str(root), *options]
        self._restart_s = of_unit("RestartSec") if restart_s is None else restart_s
        self._watchdog_s = of_unit("WatchdogSec")
        self._notify = log.with_suffix(".notify")
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "NOTIFY_SOCKET": str(self._notify),
            "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6)),
            **(environment or {}),
        }
        self._ending, self._may_run = threading.Event(), threading.Event()
        self._may_run.set()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def signal(self, number: signal.Signals) -> None:
        """To the process that runs now, if there is one."""
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)

    def hold(self) -> None:
        """Do not start it again before release()."""
        self._may_run.clear()

    def release(self) -> None:
        self._may_run.set()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where it does not end."""
        self._ending.set()
        self._may_run.set()
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self._thread.join(patience_s(of_unit("TimeoutStopSec")))
        self.signal(signal.SIGKILL)
        self._thread.join(10)

    def last_words(self, lines: int = 25) -> str:
        """The end of the log, without the parts that were decided as usual."""
        words = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join([line for line in words if "sent=True" not in line][-lines:])

    def _run(self) -> None:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
            self.log.open("ab") as out,
        ):
            notified.bind(str(self._notify))
            notified.settimeout(0.05)
            while not self._ending.is_set():
                self._process = subprocess.Popen(
                    self._words, stdout=out, stderr=out, env=self._environment
                )
                self.exits.append(self._watch(self._process, notified))
                self._ending.wait(self._restart_s)
                self._may_run.wait()

    def _watch(self, process: subprocess.Popen[bytes], notified: socket.socket) -> int:
        """Until it ends.

        As systemd does, one that was ready and says nothing for WatchdogSec is aborted.
        """
        heard_s: float | None = None
        while process.poll() is None:
            try:
                words = notified.recv(4096).decode()
            except TimeoutError:
                words = ""
            if "READY=1" in words or "WATCHDOG=1" in words:
                heard_s = time.monotonic()
            if heard_s is not None and time.monotonic() - heard_s > self._watchdog_s:
                process.send_signal(signal.SIGABRT)
                heard_s = None
        return process.returncode
