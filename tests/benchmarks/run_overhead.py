"""What `edge run` adds to the engine: from an aligned 640x480 frame to the published verdict,
commit included.

    python tests/benchmarks/run_overhead.py model/fp32.onnx

The whole service at work: capture, engine, decision and line in their threads, commits with fsync
in the folder given by --folder, a real mosquitto. The engine is the given graph in onnxruntime with
2 threads; only its area output is replaced, so that the gate opens and closes on a belt of the tiny
bundle's drawings. Per part: the time from the capture of the frame that completes it to the return
of the publication (both messages handed to the socket), less the engine's time on that frame. The
limit is half of the engine's time at the median.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from edge.camera.protocol import EndOfFrames, Pace
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.frames.camera_info import CameraInfo
from edge.line.mqtt import MqttLine
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from edge.types import Frame, Geometry, Intrinsics
from tests.benchmarks.figures import how, write_entry
from tests.benchmarks.graph_speed import example_input
from tests.support.broker import Broker
from tests.support.service import taken_as_proven
from tests.support.station import StationRoot
from tests.support.tiny_bundle import (
    FOCAL,
    PLANE,
    UNIT,
    draw_part,
    make_key,
    make_tiny_bundle,
    tiny_graph,
)

HEIGHT, WIDTH, THREADS = 480, 640, 2
INTRINSICS = Intrinsics(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
SERIAL = "virtual-washer"
SEEN, GAP = 8, 5
LIMIT = 0.5


@dataclass
class TimedEngine:
    """The graph, timed; says that a part is in view for SEEN frames of every SEEN + GAP, and that
    each fifth is bad.
    """

    model: Path
    times_ns: list[int] = field(default_factory=list)
    last_ns: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        self._engine = OnnxCpuEngine(self.model, threads=THREADS)
        self.name = self._engine.name
        contract = tiny_graph(HEIGHT, WIDTH)
        self.inputs = {one.name: ((), np.dtype(np.float32)) for one in contract.graph.input}
        generator = np.random.default_rng(0)
        self._feeds = {
            one.name: example_input(one, generator) for one in self._engine._session.get_inputs()
        }

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        matching = {
            name: feeds[name] if name in feeds and feeds[name].shape == value.shape else value
            for name, value in self._feeds.items()
        }
        started_ns = time.perf_counter_ns()
        outputs = self._engine.run(matching)
        self.last_ns = time.perf_counter_ns() - started_ns
        number = len(self.times_ns)
        self.times_ns.append(self.last_ns)
        area = 0.3 if number % (SEEN + GAP) < SEEN else 0.0
        score = 60.0 if number // (SEEN + GAP) % 5 == 4 else 2.0
        scalars = {"area": area, "valid": 1.0, "score": score}
        replaced = {name: np.array([value], np.float32) for name, value in scalars.items()}
        return {"map": outputs["map"], "place": outputs["place"], **replaced}

    def close(self) -> None:
        self._engine.close()


class Belt:
    """Aligned 640x480 frames at 30 per second, `count` of them."""

    serial, info = SERIAL, CameraInfo(width=WIDTH, height=HEIGHT)

    def __init__(self, count: int) -> None:
        drawn = [draw_part(HEIGHT, WIDTH, seed=seed) for seed in range(4)]
        self._frames = [
            Frame(color, depth, UNIT, INTRINSICS, SERIAL, 0, 0) for color, depth in drawn
        ]
        self._count, self._next, self._pace = count, 0, Pace(30)

    def open(self) -> None:
        """Frames are there."""

    def next_frame(self, timeout_s: float) -> Frame:
        if self._next == self._count:
            raise EndOfFrames("over")
        self._pace.wait(timeout_s)
        self._next += 1
        frame = self._frames[self._next % len(self._frames)]
        copied = replace(
            frame,
            color=frame.color.copy(),
            depth=None if frame.depth is None else frame.depth.copy(),
        )
        return replace(copied, frame_number=self._next, captured_mono_ns=time.monotonic_ns())

    def close(self) -> None:
        """Nothing to let go of."""


def measure(model: Path, folder: Path, parts: int) -> tuple[list[float], list[float], float]:
    """(engine ms per frame, added ms per part, resident megabytes)."""
    station = make_station_640(folder)
    broker = Broker(folder / "broker")
    engine = TimedEngine(model)
    broker.start()
    added_ms: list[float] = []
    publish = MqttLine.publish_verdict

    def timed_publish(line: MqttLine, fields: Mapping[str, Any], deadline_mono_ns: int) -> bool:
        sent = publish(line, fields, deadline_mono_ns)
        captured_ns = deadline_mono_ns - config.decision.deadline_ms * 1_000_000
        if sent:
            added_ms.append((time.monotonic_ns() - captured_ns - engine.last_ns) / 1e6)
        return sent

    config = station.configure("folder", None, broker.port)
    # the clock goes where the call is
    MqttLine.publish_verdict = timed_publish  # type: ignore[method-assign]
    belt = Belt(parts * (SEEN + GAP))
    service = Service(
        station.store, config, lambda one: taken_as_proven(engine, one), lambda _: belt, RunPlan()
    )
    try:
        service.run()
    finally:
        broker.stop()
    return (
        [value / 1e6 for value in engine.times_ns[20:]],
        added_ms[2:],
        psutil.Process().memory_info().rss / 1e6,
    )


def make_station_640(folder: Path) -> StationRoot:
    """The tiny bundle at full size, installed and calibrated."""
    from edge.install.install import install_bundle
    from edge.station.trust import trust

    key = make_key(folder)
    bundle = make_tiny_bundle(folder, key, height=HEIGHT, width=WIDTH)
    station = StationRoot(folder / "root", key.private)
    trust(station.store, key.public)
    install_bundle(bundle, station.root)
    station.store.save_geometry(
        "washer", SERIAL, Geometry(PLANE, 0, 0), INTRINSICS, frames=30, who="benchmark"
    )
    return station


def main() -> None:
    """Print both medians and their ratio; exit code 1 above the limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="model/fp32.onnx of a bundle")
    parser.add_argument("--parts", type=int, default=60)
    parser.add_argument(
        "--folder", type=Path, help="where the database lies: its disk is part of the measurement"
    )
    parser.add_argument("--write", action="store_true", help="into docs/figures/results.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        engine_ms, added_ms, resident_mb = measure(
            arguments.model, Path(temporary), arguments.parts
        )
    (e50, e99), (a50, a99) = np.percentile(engine_ms, [50, 99]), np.percentile(added_ms, [50, 99])
    print(
        f"engine p50 {e50:.2f} ms p99 {e99:.2f} ms; added per part p50 {a50:.2f} ms p99 {a99:.2f}"
        f" ms; ratio at p50 {a50 / e50:.2f} (limit {LIMIT}); {len(added_ms)} parts;"
        f" {resident_mb:.0f} MB resident"
    )
    if arguments.write:
        values = {"engine p50, ms": e50, "added per part p50, ms": a50, "ratio": a50 / e50}
        write_entry("results.json", "overhead", {**how(), "values": values})
    sys.exit(int(a50 / e50 > LIMIT))


if __name__ == "__main__":
    main()
