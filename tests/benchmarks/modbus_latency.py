"""Trigger to verdict over Modbus TCP, less camera and engine: the PLC is another process that polls
every 2 ms.

    python tests/benchmarks/modbus_latency.py --parts 500

The whole service at work, commits with fsync in the folder given by --folder, an engine that judges
at once, a camera of 50 frames/s that dates each frame at its delivery. Per part, in milliseconds at
the median and the 99th percentile:
    answer     from the PLC's write of the trigger until it has read the answer
    verdict    from that write until the trigger is heard, and from the capture of the part's frame
               until the PLC has read the verdict: the wait for the frame is the camera's
and the resident memory of the station's process, and what the dialect's modules add to those of
`edge run`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.line.modbus import ModbusLine
from edge.line.modbus_map import Status, Tells
from edge.runtime.plan import RunPlan
from tests.support.broker import free_port, wait_until
from tests.support.fakes import ScriptedEngine
from tests.support.modbus import ModbusPlc
from tests.support.service import new_service, running
from tests.support.station import GOOD, make_station
from tests.support.triggering import FPS, LiveCamera

POLL_S = 0.002
AS_PLC = "--as-plc"
WEIGH = """
import psutil, edge.runtime.run, edge.line.mqtt
before = psutil.Process().memory_info().rss
import edge.line.modbus
added = psutil.Process().memory_info().rss - before
print(f"modules of edge run {before / 2**20:.1f} MB, of the dialect {added / 2**20:.1f} MB more")
"""
GAP_S = 3 / FPS  # from a verdict to the next trigger, and a share of a frame that goes round


def main() -> int:
    """Run it and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--parts", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="of the station; by default a temporary one")
    parser.add_argument(AS_PLC, type=int, default=0, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_plc:
        print(json.dumps(play_plc(options.as_plc, options.parts)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options.parts)
    return 0


def play_plc(port: int, parts: int) -> list[tuple[int, int, int, int]]:
    """n, and when its trigger was written, its answer and its verdict read: monotonic ns."""
    plc, found = ModbusPlc(port), []
    plc.arm()
    wanted = Status.READY | Status.ARMED | Status.TRIGGERED
    wait_until(lambda: plc.get(Tells.STATUS) == wanted, 20, "not ready")
    for n in range(1, parts + 1):
        sent_ns = time.monotonic_ns()
        plc.trigger(f"P{n}", 2000, N=n)
        answered_ns = _poll_until(plc, Tells.TRIGGER.address, plc.toggle)
        told_ns = _poll_until(plc, Tells.N.address + 1, n & 0xFFFF)
        found.append((n, sent_ns, answered_ns, told_ns))
        time.sleep(GAP_S + (n % 20) / 20 / FPS)
    plc.close()
    return found


def _poll_until(plc: ModbusPlc, address: int, word: int) -> int:
    """When this word was read, the whole block being read every 2 ms."""
    while True:
        begun_s = time.monotonic()
        words = plc.poll().words
        if words[address] == word:
            return time.monotonic_ns()
        time.sleep(max(0.0, begun_s + POLL_S - time.monotonic()))


def measure(folder: Path, parts: int) -> None:
    """Start the station and its PLC, and print what both have seen."""
    station, port = make_station(folder / "made"), free_port()
    more = f'fps = {FPS}\n[decision]\nmode = "triggered"\n[modbus]\nenabled = true\nport = {port}\n'
    config = station.configure("realsense", None, 0, more)
    camera = LiveCamera(GOOD)
    engine = ScriptedEngine([{"score": 1.0}])
    heard: dict[int, int] = {}
    captured: dict[int, int] = {}
    service = new_service(station, [], engine, RunPlan(), config, make_camera=lambda _: camera)
    with running(service):
        wait_until(lambda: service.at_work is not None, 20, "the station does not start")
        assert service.at_work is not None
        line = service.at_work._line
        assert isinstance(line, ModbusLine)
        wait_until(lambda: "no Modbus client" in str(line.verdict_problem), 20, "no server")
        _listen(line, heard, captured)
        command = [sys.executable, __file__, AS_PLC, str(port), "--parts", str(parts)]
        played = subprocess.run(command, capture_output=True, text=True, check=True)
        memory_mb = psutil.Process().memory_info().rss / 2**20
    seen = json.loads(played.stdout)
    answers = [(answered - sent) / 1e6 for _, sent, answered, _ in seen]
    verdicts = [
        (heard[n] - sent + told - captured[n]) / 1e6 for n, sent, _, told in seen if n in captured
    ]
    print(f"{len(verdicts)} of {len(seen)} parts, polled every {POLL_S * 1e3:g} ms")
    for name, values in (("answer", answers), ("verdict", verdicts)):
        p50, p99 = np.percentile(values, [50, 99])
        print(f"{name:8} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   max {max(values):6.2f} ms")
    weighed = subprocess.run(
        [sys.executable, "-c", WEIGH], capture_output=True, text=True, check=True
    )
    print(f"memory   {memory_mb:.0f} MB with this benchmark; {weighed.stdout}", end="")


def _listen(line: object, heard: dict[int, int], captured: dict[int, int]) -> None:
    """Note when each trigger is heard, and when the frame of each verdict was captured."""
    hear, answer = line._triggered, line.answer  # type: ignore[attr-defined]

    def note_trigger(asked: object) -> None:
        heard[asked.request.n] = time.monotonic_ns()  # type: ignore[attr-defined]
        hear(asked)

    def note_verdict(fields: dict[str, int], deadline: int, completed: int, reply: object) -> bool:
        captured[fields["n"]] = completed
        return bool(answer(fields, deadline, completed, reply))

    line._triggered, line.answer = note_trigger, note_verdict  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
