"""One protocol for every camera."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraLost
from edge.frames.camera_info import CameraInfo
from edge.types import Frame

# memory for an image of this shape and type
NewImage = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


class EndOfFrames(CameraLost):
    """A camera that plays files has played its last frame."""


class FrameOverdue(CameraLost):
    """No frame came within the time limit. The camera is still open and can be asked again."""


class Camera(Protocol):
    """A source of frames.

    Used from one thread; `close` may be called from another and more than once.
    """

    @property
    def serial(self) -> str:
        """The serial number, under which geometry is stored; known once open."""
        ...

    @property
    def info(self) -> CameraInfo:
        """Model, stream size, unit, intrinsics and settings as read back; known once open."""
        ...

    def open(self) -> None:
        """Start delivering.

        Raises: CameraError, CameraMismatch or DataError, each saying what to do.
        """
        ...

    def next_frame(self, timeout_s: float) -> Frame:
        """The next frame of the whole stream, depth aligned to color. It owns its bytes.

        Raises: EndOfFrames after the last one of a file; FrameOverdue if none arrives within
        timeout_s; CameraLost.
        """
        ...

    def close(self) -> None:
        """Stop and release the device. Never raises a CameraError."""
        ...


@runtime_checkable
class CopiesOut(Protocol):
    """A camera that copies every image out of its driver's memory, and can be told where to."""

    def copy_into(self, new_image: NewImage) -> None:
        """Ask this for the memory of each image from now on: of a frame's color, then of its depth.
        The memory is the frame's own until the next frame is asked for.
        """
        ...


CameraType = TypeVar("CameraType", bound=Camera)


@contextmanager
def opened(camera: CameraType) -> Iterator[CameraType]:
    """Open the camera, and close it whatever happens."""
    try:
        camera.open()
        yield camera
    finally:
        camera.close()


class Pace:
    """Slows a replay down to real time. fps None: as fast as it is consumed."""

    def __init__(
        self,
        fps: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s = 1.0 / fps if fps else 0.0
        self._clock, self._sleep = clock, sleep
        self._due_s = -math.inf

    def wait(self, timeout_s: float) -> None:
        """Sleep until the next frame is due. After a slow consumer the pace starts anew, so that
        frames never come in bursts.

        Raises: FrameOverdue, after timeout_s, if it is not due by then.
        """
        now_s = self._clock()
        ahead_s = max(0.0, self._due_s - now_s)
        if ahead_s > timeout_s:
            self._sleep(timeout_s)
            raise FrameOverdue(
                f"no frame within {timeout_s:g} s: at this rate the next is due in {ahead_s:.3f} s"
            )
        if ahead_s > 0:
            self._sleep(ahead_s)
        self._due_s = now_s + ahead_s + self._interval_s
