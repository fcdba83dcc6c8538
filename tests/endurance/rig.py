"""A whole line in small: a belt, a station under its supervisor, a network, a broker, an archive
and a PLC.

The station is the `edge run` command; nothing here knows what is inside it. It leaves four traces:
its database, its log, what it says over MQTT, and how it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from edge.install.install import install_bundle
from tests.support.brokers import Mosquitto
from tests.support.fakes import committed
from tests.support.patience import HANG_S
from tests.support.plant import Archive, Plc
from tests.support.proxy import Proxy
from tests.support.station import HEIGHT, WIDTH, Shot, StationRoot, belt, make_station, write_belt
from tests.support.supervisor import Supervisor
from tests.support.tiny_bundle import make_tiny_bundle

DISK_MB = 128
FPS = 24
UNKNOWN = 3
CAMERA = "edge-camera"  # what the station's child that captures is called in ps
CLOCK_SOURCE = Path(__file__).resolve().parents[1] / "support/clock.c"
CONFIG = """\
[station]
site = "plant"
line = "north"
station = "cell7"
[broker]
host = "127.0.0.1"
port = {port}
[camera]
kind = "folder"
path = "{belt}"
fps = {fps}
[retention]
min_free_gb = 0.0
gb = 0.01
keep_ok_every = 0
"""


class Belt:
    """The folder that the camera plays, behind a link that can show another one or none."""

    def __init__(self, folder: Path) -> None:
        shots = belt([6, 6, 6, 6], gap=4, bad=[2])
        self.path = folder / "belt"
        self._good = write_belt(folder / "good", shots)
        self._dark = write_belt(folder / "dark", [Shot(holes=1.0)] * len(shots))
        self._show(self._good)

    def show(self) -> None:
        self._show(self._good)

    def darken(self) -> None:
        """From now on no pixel has a depth reading."""
        self._show(self._dark)

    def remove(self) -> None:
        self.path.unlink()

    def _show(self, target: Path) -> None:
        beside = self.path.with_name("belt.new")
        beside.symlink_to(target)
        beside.rename(self.path)


class Disk:
    """A small file system of its own for the station's data; where mounting is not allowed,
    `is_own` is False.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True)
        self.path, self._filler = path, path / "filler"
        words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "station", str(path)]
        may_mount = shutil.which("mount") is not None and os.geteuid() == 0
        self.is_own = may_mount and subprocess.run(words, capture_output=True).returncode == 0

    def fill(self) -> None:
        """To the last block."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)

    def remount(self, how: str) -> bool:
        """how: "ro" or "rw". False where something holds a file open for writing."""
        words = ["mount", "-o", f"remount,{how}", str(self.path)]
        return subprocess.run(words, capture_output=True).returncode == 0

    def release(self) -> None:
        if self.is_own:
            subprocess.run(["umount", "--lazy", str(self.path)], capture_output=True)


class Clock:
    """The station's wall clock, through a library that is preloaded into it; synced and right at
    first.
    """

    def __init__(self, folder: Path) -> None:
        self._file, library = folder / "clock", folder / "clock.so"
        compiler = shutil.which("gcc") or shutil.which("g++")
        words = [
            compiler or "",
            "-x",
            "c",
            "-shared",
            "-fPIC",
            "-O1",
            "-o",
            str(library),
            str(CLOCK_SOURCE),
        ]
        self.works = (
            compiler is not None and subprocess.run(words, capture_output=True).returncode == 0
        )
        self.environment = (
            {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)} if self.works else {}
        )
        self.set(0, synced=True)

    def set(self, added_s: int, synced: bool) -> None:
        beside = self._file.with_name("clock.new")
        beside.write_text(f"{added_s} {int(synced)}\n")
        beside.rename(self._file)


class Rig:
    """Everything, running. dark: spans of UTC seconds in which the camera saw nothing.

    complaints: what was wrong.
    """

    def __init__(self, folder: Path, restart_s: float | None = None) -> None:
        self.folder = folder
        self.disk = Disk(folder / "disk")
        self.station = two_bundles(self.disk.path)
        self.belt, self.clock = Belt(folder), Clock(folder)
        self.broker = Mosquitto(folder / "broker")
        self.broker.start()
        self.proxy = Proxy(self.broker.port)
        self.proxy.start()
        self.archive, self.plc = Archive(self.broker.port), Plc(self.broker.port)
        config = CONFIG.format(port=self.proxy.port, belt=self.belt.path, fps=FPS)
        (self.station.root / "etc/edge/station.toml").write_text(config)
        self.log = folder / "log"
        self.supervisor = Supervisor(
            self.station.root, self.log, environment=self.clock.environment, restart_s=restart_s
        )
        self.dark: list[tuple[float, float]] = []
        self.complaints: list[str] = []

    def edge(self, *words: str) -> None:
        """Another `edge` command on this station's root."""
        command = [sys.executable, "-m", "edge", *words, "--root", str(self.station.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
        assert done.returncode == 0, done.stderr

    def records(self) -> list[dict[str, Any]]:
        return committed(self.station.root)

    def last_seq(self) -> int:
        """The highest number that anybody knows of."""
        told = [acted.verdict["seq"] for acted in [*self.plc.acted, *self.plc.ignored]]
        stored = [record["seq"] for record in self.records()[-1:]]
        return max([0, *told, *stored])

    def camera_process(self) -> psutil.Process | None:
        """The station's child that captures; None where the station has no child."""
        pid = self.supervisor.pid
        children = [] if pid is None else psutil.Process(pid).children()
        return next((child for child in children if child.name() == CAMERA), None)

    def wait(
        self, condition: Callable[[], Any], what: str | Callable[[], str], timeout_s: float = HANG_S
    ) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end_s:
                said = what if isinstance(what, str) else what()
                raise AssertionError(
                    f"{said}; {self.plc.state}; the log's end:\n{self.supervisor.last_words()}"
                )
            time.sleep(0.02)

    def wait_for_part(self, after_s: float) -> None:
        """Until the PLC acts on OK or NG of a part captured after `after_s` (UTC), and the state
        says online.
        """
        self.wait(lambda: self.runs_since(after_s), "the line does not run again")

    def runs_since(self, after_s: float) -> bool:
        """Whether a part captured since then was judged OK or NG; UNKNOWN is what a fault leaves
        behind.
        """
        state, judged = (
            self.plc.state,
            [one.verdict for one in self.plc.acted[-1:] if one.verdict["code"] < UNKNOWN],
        )
        newest = judged[-1]["at"] / 1000.0 if judged else 0.0
        return newest > after_s and state.get("state") == "online" and state["ready"] is True

    def wait_for_archive(self) -> None:
        """Until the archive has every record that is on disk now."""
        numbers = [record["seq"] for record in self.records()]
        missing = set(numbers)

        def is_complete() -> bool:
            missing.difference_update(self.archive.kept)
            return not missing

        self.wait(is_complete, lambda: f"the archive waits for {sorted(missing)[:10]}")

    def stop(self) -> None:
        self.supervisor.stop()
        self.proxy.stop()
        self.plc.stop()
        self.archive.stop()
        self.broker.stop()
        self.disk.release()


@contextmanager
def running_rig(folder: Path, restart_s: float | None = None) -> Iterator[Rig]:
    """A line whose first part was decided."""
    rig = Rig(folder, restart_s)
    try:
        started_s = time.time()
        rig.supervisor.start()
        rig.wait_for_part(started_s)
        yield rig
    finally:
        rig.stop()


def two_bundles(folder: Path) -> StationRoot:
    """Version 2.0.0 is active, 1.0.0 the previous one."""
    station = make_station(folder)
    install_bundle(
        make_tiny_bundle(folder, station.key, version="2.0.0", height=HEIGHT, width=WIDTH),
        station.root,
    )
    return station
