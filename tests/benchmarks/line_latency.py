"""The latency of the line: from a PLC's trigger to its verdict, less camera and engine, for every
dialect in which a PLC can be played here.

    python tests/benchmarks/line_latency.py --parts 500

One station in a process of its own, with all dialects on at once, a camera from memory and an
engine that answers at once; the dialects trigger in turns of 25 parts within one run, one part
after the other, at random moments of the camera's period. The station notes when each trigger has
reached it and when each frame was captured, by the clock of the machine: the time from the trigger
to the capture of its frame is the camera's, and is taken off. Everything else counts: the way to
the station, its queues, the records on disk, and the way back, with the broker's for MQTT.
Prints milliseconds at the median and the 99th percentile.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.config import read_config
from edge.line.inbound import Asked, TriggerRequest
from edge.runtime.plan import RunPlan
from edge.runtime.triggering import Triggering
from edge.simulate.link import Acked, PlcLink, StationAddress, Told
from tests.support.broker import Broker
from tests.support.cell_run import DIALECTS, linked, served
from tests.support.fakes import ScriptedEngine
from tests.support.service import new_service
from tests.support.station import GOOD, StationRoot, make_station
from tests.support.triggering import LiveCamera

FPS = 50
TURN = 25  # parts of one dialect before the next one's turn
FIRST = 5  # parts of the first turn that are not counted
DEADLINE_MS = 2000
AS_STATION = "--as-station"


class DatedCamera(LiveCamera):
    """Notes when each of its frames was captured."""

    def __init__(self) -> None:
        super().__init__(GOOD, FPS)
        self.dates_ns: list[int] = []

    def _look(self):
        looked = super()._look()
        self.dates_ns.append(looked[0])
        return looked


def run_station(root: Path, notes: Path) -> None:
    """Until SIGTERM; then what was noted is written."""
    heard_ns: dict[str, int] = {}
    plain = Triggering.hear

    def hear(self: Triggering, asked: Asked) -> None:
        heard_ns.setdefault(asked.request.part, time.monotonic_ns())
        plain(self, asked)

    Triggering.hear = hear
    camera, station = DatedCamera(), StationRoot(root, root)
    engine = ScriptedEngine([{"score": 1.0}])
    service = new_service(
        station, [], engine, RunPlan(), read_config(root), make_camera=lambda _: camera
    )
    signal.signal(signal.SIGTERM, lambda *_: service.stop())
    service.run()
    notes.write_text(json.dumps({"heard_ns": heard_ns, "dates_ns": camera.dates_ns}))


def ask(link: PlcLink, part: str, n: int) -> tuple[int, int] | None:
    """Nanoseconds of a trigger and its verdict; None if it was not judged: on a busy machine a
    camera may miss a window.
    """
    sent_ns = time.monotonic_ns()
    assert link.trigger(TriggerRequest(part, DEADLINE_MS, n)), f"{part}: not connected"
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        for event in link.events():
            if isinstance(event, Acked) and not event.accepted:
                return None
            if isinstance(event, Told) and event.part == part:
                return (sent_ns, round(event.at_s * 1e9)) if event.code == 1 else None
        time.sleep(0.0005)
    raise AssertionError(f"{part}: no verdict")


def measure(links: dict[str, PlcLink], parts: int) -> dict[str, dict[str, tuple[int, int]]]:
    """By dialect and part."""
    chance, number = random.Random(0), 0
    measured: dict[str, dict[str, tuple[int, int]]] = {name: {} for name in links}
    while any(len(times) < parts + FIRST for times in measured.values()):
        for name, link in links.items():
            for _ in range(TURN):
                number += 1
                time.sleep(chance.uniform(2.5, 4.5) / FPS)  # the window before is over
                asked = ask(link, f"P{number}", number)
                if asked is not None:
                    measured[name][f"P{number}"] = asked
    print(f"{number - sum(map(len, measured.values()))} parts were not judged")
    return measured


def wait_ready(link: PlcLink) -> None:
    end_s = time.monotonic() + 60
    while not any(getattr(event, "ready", False) for event in link.events()):
        assert time.monotonic() < end_s, "the station does not become ready"
        time.sleep(0.01)


def table(measured: dict[str, dict[str, tuple[int, int]]], notes: dict) -> None:
    dates = notes["dates_ns"]
    for name, times in measured.items():
        line_ms, whole_ms = [], []
        for part, (sent_ns, told_ns) in list(times.items())[FIRST:]:
            heard_ns = notes["heard_ns"][part]
            camera_ns = dates[bisect.bisect_right(dates, heard_ns)] - heard_ns
            whole_ms.append((told_ns - sent_ns) / 1e6)
            line_ms.append((told_ns - sent_ns - camera_ns) / 1e6)
        p50, p99 = np.percentile(line_ms, [50, 99])
        whole50, whole99 = np.percentile(whole_ms, [50, 99])
        print(
            f"{name:<7} line p50 {p50:6.2f} p99 {p99:6.2f} ms; with the camera p50 {whole50:6.2f}"
            f" p99 {whole99:6.2f} ms ({len(line_ms)} parts)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=500)
    parts = parser.parse_args().parts
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        station, notes = make_station(Path(folder) / "made"), Path(folder) / "notes"
        with Broker(Path(folder) / "broker", "set_tcp_nodelay true\n") as broker:
            dialects = "".join(one.section() for one in DIALECTS.values())
            more = f'fps = {FPS}\n[decision]\nmode = "triggered"\n{dialects}'
            config = station.configure("realsense", None, broker.port, more)
            words = [sys.executable, __file__, AS_STATION, str(station.root), str(notes)]
            with (Path(folder) / "log").open("w") as log:
                child = subprocess.Popen(words, stderr=log)
            address = StationAddress(config, station.root)
            stack.enter_context(served(DIALECTS, station.root))
            links = {name: linked(name, address) for name in DIALECTS}
            try:
                time.sleep(3)
                for link in links.values():
                    link.connect(60)
                    wait_ready(link)
                measured = measure(links, parts)
            finally:
                for link in links.values():
                    link.close()
                child.terminate()
                child.wait(30)
        table(measured, json.loads(notes.read_text()))
    print(f"load {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    if sys.argv[1:2] == [AS_STATION]:
        run_station(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
