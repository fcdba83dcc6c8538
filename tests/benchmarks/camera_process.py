"""What it costs that the camera lives in a process of its own: 1280x720 color and depth, the same
frames both ways.

    python tests/benchmarks/camera_process.py --frames 120

Prints milliseconds per frame, median and 99th percentile: a data set played in this process, and
through the other process; and the crossing alone (written to the ring, read from it) as the share
that it has of a frame at 30 frames/s.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from edge.camera.factory import make_camera
from edge.camera.protocol import Camera, opened
from edge.camera.ring import RingReader, RingWriter, bytes_of, padded
from edge.camera.supervised import supervised_camera
from edge.sections import CameraConfig

HEIGHT, WIDTH = 720, 1280
PERIOD_MS = 1000 / 30
CONFIG = CameraConfig(kind="folder", path="belt", fps=120)


def write_belt(folder: Path) -> None:
    folder.mkdir()
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    for number in range(4):
        color = np.dstack([(u + 40 * number) % 256, v % 256, (u + v) % 256]).astype(np.uint8)
        cv2.imwrite(str(folder / f"{number:04d}_color.png"), color)
        cv2.imwrite(
            str(folder / f"{number:04d}_depth.png"),
            (4000 + (u + v + number) % 200).astype(np.uint16),
        )
    lens = {
        "width": WIDTH,
        "height": HEIGHT,
        "fx": 900,
        "fy": 900,
        "cx": 640,
        "cy": 360,
        "depth_unit_m": 0.0001,
    }
    (folder / "intrinsics.json").write_text(json.dumps(lens))


def milliseconds(call: Callable[[], object], repeats: int, warm_up: int = 10) -> np.ndarray:
    for _ in range(warm_up):
        call()
    times = np.zeros(repeats)
    for index in range(repeats):
        start_ns = time.perf_counter_ns()
        call()
        times[index] = (time.perf_counter_ns() - start_ns) / 1e6
    return times


def told(name: str, times: np.ndarray) -> str:
    p50, p99 = np.percentile(times, [50, 99])
    return f"{name:<24} {p50:7.2f} ms   p99 {p99:7.2f} ms"


def played(camera: Camera, frames: int) -> np.ndarray:
    with opened(camera):
        return milliseconds(lambda: camera.next_frame(60.0), frames)


def crossed(frames: int) -> np.ndarray:
    color, depth = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.uint16)
    size = padded(bytes_of((HEIGHT, WIDTH, 3), (HEIGHT, WIDTH)))
    writer = RingWriter(0, 1, size)
    reader = RingReader(os.dup(writer.fd), 0, 1, size)

    def cross() -> None:
        writer.write(0, color, depth)
        reader.read(0, (HEIGHT, WIDTH, 3), (HEIGHT, WIDTH))

    return milliseconds(cross, frames)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=120)
    frames = parser.parse_args().frames
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_belt(root / "belt")
        inside = played(make_camera(CONFIG, root, loop=True), frames)
        outside = played(supervised_camera(CONFIG, root, loop=True), frames)
    alone = crossed(frames)
    print(told("in this process", inside))
    print(told("in a process of its own", outside))
    print(told("the crossing alone", alone))
    print(
        f"ratio {np.median(outside) / np.median(inside):.3f}; the crossing is"
        f" {np.median(alone) / PERIOD_MS:.1%} of a frame at 30 frames/s; {os.cpu_count()} cores,"
        f" load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
