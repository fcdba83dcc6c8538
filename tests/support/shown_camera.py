"""The camera's process with what another process wants to be seen: put in its place as
edge.camera.process.CHILD.

The folder that the environment variable SHOWN names holds the pictures, and the number of the one
that is in view as a single byte.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge.camera import child
from edge.camera.protocol import Pace
from edge.frames.camera_info import CameraInfo
from edge.types import Frame, Intrinsics

PICTURES, IN_VIEW = "pictures.npz", "in_view"
SHARP_NS = 2_000_000
FPS = 100


class View:
    """The byte that says what is in view, as both processes see it."""

    def __init__(self, folder: Path) -> None:
        path = folder / IN_VIEW
        if not path.exists():
            path.write_bytes(b"\0")
        with path.open("r+b") as file:
            self._byte = mmap.mmap(file.fileno(), 1)

    def show(self, number: int) -> None:
        self._byte[0] = number

    def look(self) -> tuple[int, int]:
        """A moment, and what is in view then: a busy machine may not make one older than the
        other.
        """
        while True:
            now_ns, number = time.monotonic_ns(), self._byte[0]
            if time.monotonic_ns() - now_ns < SHARP_NS:
                return now_ns, number


class ShownCamera:
    """Live: a frame of what is in view, FPS times a second."""

    def __init__(self, folder: Path) -> None:
        self._view, self._pace = View(folder), Pace(FPS)
        with np.load(folder / PICTURES) as read:
            self._colors, self._depths = read["colors"], read["depths"]
            self._lens, self._unit = read["lens"].tolist(), float(read["unit"])
            self.serial = str(read["serial"])
        height, width = self._depths.shape[1:]
        self.info = CameraInfo(width=width, height=height)
        self._number = 0

    def open(self) -> None:
        pass

    def next_frame(self, timeout_s: float) -> Frame:
        self._pace.wait(timeout_s)
        self._number += 1
        now_ns, shown = self._view.look()
        color = self._colors[shown].copy()
        color[0, 0] = self._number % 256  # no two pictures in a row are the same
        height, width = color.shape[:2]
        pinhole = Intrinsics(width, height, *self._lens)
        depth = self._depths[shown].copy()
        return Frame(color, depth, self._unit, pinhole, self.serial, self._number, now_ns)

    def close(self) -> None:
        pass


def make_shown(*_: Any, **__: Any) -> ShownCamera:
    return ShownCamera(Path(os.environ["SHOWN"]))


if __name__ == "__main__":
    child.make_camera = make_shown
    child.main()
