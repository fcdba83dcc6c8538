"""`edge capture`: frames of the station's camera become a data set."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.camera.contract import CameraContract
from edge.camera.protocol import Camera, EndOfFrames, opened
from edge.errors import BundleError
from edge.frames.writing import FrameWriter
from edge.station.store import Store
from edge.types import Frame

FRAME_S = 10.0  # for one frame of a camera
SETTLE_FRAMES = 5  # a camera's first frames are taken while its exposure settles


@dataclass(frozen=True)
class Wanted:
    """What is recorded: `count` frames, or those of `seconds`; None: without this limit.

    every_s: least time between two frames. is_live: the camera sees what happens now.
    """

    count: int | None
    seconds: float | None
    every_s: float
    is_live: bool


def settings_of(root: Path) -> CameraContract | None:
    """The camera's settings of the active bundle, so that frames are taken as they are judged; None
    where nothing is installed.
    """
    try:
        return Store(root).active().manifest.camera
    except BundleError:
        return None


def record_frames(
    camera: Camera,
    writer: FrameWriter,
    wanted: Wanted,
    ask: Callable[[int], object] | None,
    written: Callable[[Path], object],
) -> int:
    """Write frames as they come; returns how many. Files that are played may have fewer.

    Args:
        camera: not open yet; it is closed at the end. ask: is called with the number of each frame
            and returns when it may be taken; None: nobody is asked. written: is told each file.
    Raises: CameraError, DataError. What was written stays.
    """
    count = 0
    with opened(camera):
        for _ in range(SETTLE_FRAMES if wanted.is_live else 0):
            camera.next_frame(FRAME_S)
        started = last = time.monotonic()
        while _goes_on(wanted, count, started):
            if ask is not None:
                ask(count)
                last = time.monotonic()
            try:
                frame = _next(camera, wanted, last)
            except EndOfFrames:
                break
            last = max(time.monotonic(), last) + wanted.every_s
            written(writer.write(frame, camera.info))
            count += 1
    return count


def _goes_on(wanted: Wanted, count: int, started: float) -> bool:
    if wanted.count is not None and count >= wanted.count:
        return False
    return wanted.seconds is None or time.monotonic() < started + wanted.seconds


def _next(camera: Camera, wanted: Wanted, since_s: float) -> Frame:
    """The next frame that was taken after `since_s` of the monotonic clock; of files that are
    played without `every_s` the next one.
    """
    takes_all = not wanted.is_live and not wanted.every_s
    while True:
        frame = camera.next_frame(FRAME_S)
        if takes_all or frame.captured_mono_ns >= since_s * 1e9:
            return frame
