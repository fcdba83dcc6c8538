"""The latency that the camera's own process adds: from a frame that the driver has completed until
the station holds it, 1280x720 color and depth at 30 frames/s, live.

    python tests/benchmarks/camera_latency.py --frames 600

Two cameras, each in this process and in its own, in turns of 60 frames within one run:
    memory     a frame from memory, dated when it is complete: the crossing and nothing else
    virtual    librealsense's software device, dated when it arrives: with syncer, align and copy
Prints milliseconds at the median and the 99th percentile, and the difference and ratio of the two.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera import child, process
from edge.camera.protocol import Camera, NewImage, Pace, opened
from edge.camera.supervised import supervised_camera
from edge.camera.virtual import VirtualCamera
from edge.frames.camera_info import CameraInfo
from edge.sections import CameraConfig
from edge.types import Frame, Intrinsics

HEIGHT, WIDTH, FPS = 720, 1280, 30
PINHOLE = Intrinsics(WIDTH, HEIGHT, 900.0, 900.0, 639.5, 359.5)
TURN = 60  # frames of one camera before the other's turn
FIRST = 10  # frames of a turn that are not counted
AS_CHILD = "--as-camera"


class MemoryCamera:
    """Four frames in turn, each with memory of its own, as a driver's copy."""

    serial, info = "memory", CameraInfo(width=WIDTH, height=HEIGHT)

    def __init__(self) -> None:
        self._pace, self._number = Pace(FPS), 0
        noise = np.random.default_rng(0)
        self._colors = noise.integers(0, 256, (4, HEIGHT, WIDTH, 3)).astype(np.uint8)
        self._depths = noise.integers(4000, 4200, (4, HEIGHT, WIDTH)).astype(np.uint16)
        self._new_image: NewImage = np.empty

    def copy_into(self, new_image: NewImage) -> None:
        self._new_image = new_image

    def open(self) -> None:
        pass

    def next_frame(self, timeout_s: float) -> Frame:
        self._pace.wait(timeout_s)
        self._number += 1
        color, depth = (
            self._copy(images[self._number % 4]) for images in (self._colors, self._depths)
        )
        now_ns = time.monotonic_ns()
        return Frame(color, depth, 0.001, PINHOLE, self.serial, self._number, now_ns)

    def _copy(self, image: NDArray[Any]) -> NDArray[Any]:
        copied = self._new_image(image.shape, image.dtype)
        np.copyto(copied, image)
        return copied

    def close(self) -> None:
        pass


def write_belt(folder: Path) -> None:
    """Images without compression: decoding them is not what is measured."""
    folder.mkdir()
    source = MemoryCamera()
    for number in range(4):
        frame = source.next_frame(1.0)
        fast = [cv2.IMWRITE_PNG_COMPRESSION, 0]
        cv2.imwrite(str(folder / f"{number:04d}_color.png"), frame.color, fast)
        cv2.imwrite(str(folder / f"{number:04d}_depth.png"), frame.depth, fast)
    (folder / "intrinsics.json").write_text(
        f'{{"width": {WIDTH}, "height": {HEIGHT}, "fx": 900, "fy": 900, "cx": 639.5, "cy": 359.5,'
        ' "depth_unit_m": 0.001}'
    )


def turn(camera: Camera) -> list[float]:
    """Milliseconds from the date of each frame until it is here."""
    ages_ms = []
    with opened(camera):
        for number in range(FIRST + TURN):
            frame = camera.next_frame(60.0)
            if number >= FIRST:
                ages_ms.append((time.monotonic_ns() - frame.captured_mono_ns) / 1e6)
    return ages_ms


def compare(
    name: str, inside: Callable[[], Camera], outside: Callable[[], Camera], frames: int
) -> None:
    ages_ms: tuple[list[float], list[float]] = ([], [])
    while len(ages_ms[1]) < frames:
        for make, ages in zip((inside, outside), ages_ms, strict=True):
            ages.extend(turn(make()))
    (in50, in99), (out50, out99) = (np.percentile(ages, [50, 99]) for ages in ages_ms)
    print(
        f"{name:<8} in this process p50 {in50:.3f} p99 {in99:.3f} ms; in its own p50 {out50:.3f}"
        f" p99 {out99:.3f} ms\n         added p50 {out50 - in50:+.3f} p99 {out99 - in99:+.3f} ms;"
        f" ratio p50 {out50 / in50:.2f} p99 {out99 / in99:.2f} ({len(ages_ms[1])} frames each)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=600)
    frames = parser.parse_args().frames
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    with tempfile.TemporaryDirectory() as folder:
        root, usual = Path(folder), process.CHILD
        write_belt(root / "belt")
        config = CameraConfig(kind="virtual", path="belt", fps=FPS)

        def outside() -> Camera:
            return supervised_camera(config, root, loop=True, live=True)

        process.CHILD = (str(Path(__file__).resolve()), AS_CHILD)
        compare("memory", MemoryCamera, outside, frames)
        process.CHILD = usual
        compare("virtual", lambda: VirtualCamera(root / "belt", FPS, loop=True), outside, frames)
    print(f"load {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    if AS_CHILD in sys.argv:  # the camera's process: `memory` in the place of what was ordered
        sys.argv.remove(AS_CHILD)
        child.make_camera = lambda *_, **__: MemoryCamera()
        child.main()
    main()
