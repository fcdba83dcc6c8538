"""What clients of the socket cost a verdict: the latency of a triggered station's line with nobody
connected, with one live view, and under a flood, in one run.

    python tests/benchmarks/socket_flood.py --parts 200

One station in a process of its own, with a camera from memory (640x480) and the tiny bundle's graph
on onnxruntime; triggered by MQTT through a real mosquitto, one part after the other, at random
moments of the camera's period. The three conditions take turns of 20 parts, so that what else
happens on this machine meets all of them. Per part: the time from the capture of its frame to the
arrival of its verdict at the PLC. The flood, in a process of its own: 8 connections that send 200
requests for the live view at once, again and again, of which half never read; connections beyond
the eighth that come and go; garbage; halves of messages.

Prints p50 and p99 of each, and their ratios to those with nobody connected. What the flood's own
process takes of the machine's cores is part of its ratio.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.config import read_config
from edge.control.client import find_station
from edge.control.protocol import SOCKET
from edge.control.stream import connected_socket
from edge.runtime.plan import RunPlan
from edge.simulate.link import PlcLink, StationAddress
from tests.benchmarks.line_latency import DatedCamera, ask, wait_ready
from tests.support.broker import Broker
from tests.support.cell_run import linked
from tests.support.service import new_service
from tests.support.station import StationRoot, make_station

FPS = 50
TURN = 20  # parts under one condition before the next one's turn
FIRST = 5  # parts of each turn that are not counted
SETTLE_S = 0.5
CONDITIONS = ("nobody", "live view", "flood")
AS_STATION, AS_LIVE, AS_FLOOD = "--as-station", "--as-live", "--as-flood"


def run_station(root: Path, notes: Path) -> None:
    """Until SIGTERM; then the dates of the frames are written."""
    camera, station = DatedCamera(), StationRoot(root, root)
    service = new_service(
        station, [], None, RunPlan(), read_config(root), make_camera=lambda _: camera
    )
    signal.signal(signal.SIGTERM, lambda *_: service.stop())
    service.run()
    notes.write_text(json.dumps(camera.dates_ns))


def look(root: Path) -> None:
    """One page that shows five pictures a second, until it is killed."""
    client = find_station(root)
    assert client is not None
    while True:
        client.live()
        time.sleep(0.2)


def flood(root: Path) -> None:
    """Until it is killed."""
    path, asked = root / SOCKET, b'{"do":"live"}\n' * 200
    kept: list[socket.socket] = []
    for number in range(1 << 30):
        with contextlib.suppress(OSError):
            one = connected_socket(path, 1)
            one.setblocking(False)
            kept.append(one)
        for index, one in enumerate(list(kept)):
            try:
                one.send((asked, asked, b"\xff\n", b'{"do":"li')[number % 4])
                if index % 2:
                    one.recv(1 << 20)
            except BlockingIOError:
                continue
            except OSError:
                kept.remove(one)
                one.close()
        for one in kept[12:]:
            one.close()
        del kept[12:]
        time.sleep(0.001)


@contextmanager
def under(condition: str, root: Path) -> Iterator[None]:
    """That many clients, in a process of their own."""
    words = {"live view": AS_LIVE, "flood": AS_FLOOD}
    if condition not in words:
        yield
        return
    child = subprocess.Popen([sys.executable, __file__, words[condition], str(root)])
    try:
        time.sleep(2.0)  # until it has begun
        yield
    finally:
        assert child.poll() is None, f"{condition} has ended"
        child.kill()
        child.wait()
        time.sleep(SETTLE_S)


def measure(link: PlcLink, root: Path, parts: int) -> dict[str, list[tuple[int, int]]]:
    """(sent, told) of each part, nanoseconds, by condition."""
    chance, number = random.Random(0), 0
    measured: dict[str, list[tuple[int, int]]] = {name: [] for name in CONDITIONS}
    unjudged = 0
    while any(len(times) < parts for times in measured.values()):
        for condition, times in measured.items():
            with under(condition, root):
                for index in range(TURN + FIRST):
                    number += 1
                    time.sleep(chance.uniform(2.5, 4.5) / FPS)
                    asked = ask(link, f"P{number}", number)
                    unjudged += asked is None
                    if asked is not None and index >= FIRST:
                        times.append(asked)
    print(f"{unjudged} parts were not judged")
    return measured


def latencies(times: list[tuple[int, int]], dates: list[int]) -> list[float]:
    """Milliseconds from the capture of the frame to the verdict at the PLC."""
    found = []
    for sent_ns, told_ns in times:
        captured_ns = dates[bisect.bisect_right(dates, sent_ns)]
        found.append((told_ns - captured_ns) / 1e6)
    return found


def report(by_condition: dict[str, list[float]]) -> None:
    """Printed."""
    base = np.percentile(by_condition["nobody"], [50, 99])
    for name, times in by_condition.items():
        p50, p99 = np.percentile(times, [50, 99])
        print(
            f"{name:<10} p50 {p50:6.2f} p99 {p99:6.2f} ms; ratio to nobody p50 {p50 / base[0]:.2f}"
            f" p99 {p99 / base[1]:.2f} ({len(times)} parts)"
        )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", type=int, default=200)
    parts = parser.parse_args().parts
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as folder:
        station, notes = make_station(Path(folder) / "made"), Path(folder) / "notes"
        with Broker(Path(folder) / "broker", "set_tcp_nodelay true\n") as broker:
            more = f'fps = {FPS}\n[decision]\nmode = "triggered"\n'
            config = station.configure("realsense", None, broker.port, more)
            words = [sys.executable, __file__, AS_STATION, str(station.root), str(notes)]
            with (Path(folder) / "log").open("w") as log:
                child = subprocess.Popen(words, stderr=log)
            link = linked("mqtt", StationAddress(config, station.root))
            try:
                time.sleep(3)
                link.connect(60)
                wait_ready(link)
                measured = measure(link, station.root, parts)
            finally:
                link.close()
                child.terminate()
                child.wait(30)
        dates = json.loads(notes.read_text())
    report({name: latencies(times, dates) for name, times in measured.items()})
    print(f"load {os.getloadavg()[0]:.1f} after")


MODES = {AS_LIVE: look, AS_FLOOD: flood}

if __name__ == "__main__":
    if sys.argv[1:2] == [AS_STATION]:
        run_station(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1:] and sys.argv[1] in MODES:
        MODES[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
