"""The camera's process with a fault on request: put in its place as edge.camera.process.CHILD.

VirtualCamera plays as ever, through librealsense's software device. Before each frame the file
named by the environment variable FAULT is looked for: it holds the name of a fault, and is removed
before that is done. With FAULT_OPENING its name is the fault of the next opening.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge.camera import child
from edge.camera.virtual import VirtualCamera
from edge.types import Frame, Intrinsics

FOREVER_MS = 1_000_000_000
play, start = VirtualCamera.next_frame, VirtualCamera.open


def block(camera: VirtualCamera) -> None:
    """In librealsense, which waits for frames that nobody pushes."""
    camera._camera._syncer.try_wait_for_frames(FOREVER_MS)


def segfault(_: VirtualCamera) -> None:
    ctypes.string_at(0)


def stop(_: VirtualCamera) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


BEFORE: dict[str, Callable[[VirtualCamera], None]] = {
    "block": block,
    "segfault": segfault,
    "stop": stop,
}


def halved(frame: Frame) -> Frame:
    """Another resolution, as a driver that was set anew delivers it."""
    i = frame.intrinsics
    small = Intrinsics(i.width // 2, i.height // 2, i.fx / 2, i.fy / 2, i.cx / 2, i.cy / 2)
    return replace(
        frame, color=frame.color[::2, ::2], depth=frame.depth[::2, ::2], intrinsics=small
    )


FRAMES: dict[str, Callable[[Frame], Frame]] = {
    "another resolution": halved,
    # its size is not that of its pixels
    "cut short": lambda frame: replace(frame, depth=frame.depth[: len(frame.depth) // 2]),
    "four channels": lambda frame: replace(frame, color=np.dstack([frame.color, frame.depth])),
    "no content": lambda frame: replace(
        frame, color=np.zeros_like(frame.color), depth=np.zeros_like(frame.depth)
    ),
    "no unit": lambda frame: replace(frame, unit=float("nan")),
    "from the past": lambda frame: replace(
        frame, captured_mono_ns=frame.captured_mono_ns - 10_000_000_000
    ),
    "no number": lambda frame: replace(frame, frame_number=0),
}
LASTS_S = 1.0  # a driver does not deliver a single wrong frame
wrong_until: dict[str, float] = {}


def take(variable: str) -> str:
    path = Path(os.environ.get(variable, "/nowhere"))
    try:
        name = path.read_text()
        path.unlink()
    except OSError:
        return ""
    return name


def next_frame(camera: VirtualCamera, timeout_s: float) -> Frame:
    name = take("FAULT")
    if name in BEFORE:
        BEFORE[name](camera)
    elif name:
        wrong_until[name] = time.monotonic() + LASTS_S
    frame = play(camera, timeout_s)
    for wrong, until_s in wrong_until.items():
        if time.monotonic() < until_s:
            frame = FRAMES[wrong](frame)
    return frame


def open_(camera: VirtualCamera) -> None:
    if take("FAULT_OPENING"):
        time.sleep(FOREVER_MS)
    start(camera)


if __name__ == "__main__":
    VirtualCamera.next_frame, VirtualCamera.open = next_frame, open_
    child.main()
