"""Cameras that play files without librealsense's syncer: any folder of images, and recordings
(.db3).
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import cast

from edge.camera.protocol import EndOfFrames, Pace
from edge.errors import CameraLost, DataError
from edge.frames.camera_info import CameraInfo, unnamed_serial
from edge.frames.dataset import Dataset, open_images
from edge.frames.reading import AS_IS, Reading
from edge.types import Frame


def as_live(frame: Frame, serial: str, number: int) -> Frame:
    """The frame as if this camera had captured it now, with this number."""
    return replace(
        frame,
        serial=serial,
        frame_number=number,
        captured_mono_ns=time.monotonic_ns(),
        clock_domain="file",
    )


class FolderCamera:
    """Plays every image of a data set that edge.frames can read, as if it were captured now.

    Frames are numbered from 1 and dated when they are delivered, as live frames are; clock_domain
    is "file". fps None: as fast as consumed. serial None: the serial in the files. reading: how the
    product's images are read.
    """

    def __init__(
        self,
        path: Path,
        fps: float | None = None,
        loop: bool = False,
        serial: str | None = None,
        reading: Reading = AS_IS,
    ) -> None:
        self.path, self._loop, self._serial, self._reading = path, loop, serial, reading
        self._pace = Pace(fps)
        self._dataset: Dataset | None = None
        self._next, self._delivered = 0, 0

    @property
    def serial(self) -> str:
        """The camera that took the images."""
        return self._serial or self.info.serial or unnamed_serial(self.path.name)

    @property
    def info(self) -> CameraInfo:
        """The camera's data from the files."""
        return self._opened().camera

    def open(self) -> None:
        """Find the images. Raises: DataError."""
        self._dataset, self._next = open_images(self.path, self._reading), 0

    def next_frame(self, timeout_s: float) -> Frame:
        """The next image, when it is due. Raises: EndOfFrames, FrameOverdue, DataError."""
        samples = self._opened().samples
        if self._next == len(samples):
            if not self._loop:
                raise EndOfFrames(f"{self.path} has been played to its end, {len(samples)} frames")
            self._next = 0
        self._pace.wait(timeout_s)
        frame = samples[self._next].load()
        self._next, self._delivered = self._next + 1, self._delivered + 1
        return as_live(frame, self.serial, self._delivered)

    def close(self) -> None:
        """Forget the images."""
        self._dataset = None

    def _opened(self) -> Dataset:
        if self._dataset is None:
            raise CameraLost(f"{self.path} is not open")
        return self._dataset


class RecordingCamera:
    """Plays a .db3 recording in order through librealsense's own reader and align, with at most one
    frame in memory.

    Frames are numbered and dated as by FolderCamera.
    """

    def __init__(
        self, path: Path, fps: float | None = None, loop: bool = False, serial: str | None = None
    ) -> None:
        self.path, self._loop = path, loop
        self._serial = serial or unnamed_serial(path.stem)
        self._pace = Pace(fps)
        self._frames: Generator[Frame, None, None] | None = None
        self._ahead: Frame | None = None
        self._info: CameraInfo | None = None
        self._delivered = 0

    @property
    def serial(self) -> str:
        """The name that geometry is stored under: a recording has no serial number."""
        return self._serial

    @property
    def info(self) -> CameraInfo:
        """The camera's data from the first frame."""
        if self._info is None:
            raise CameraLost(f"{self.path} is not open")
        return self._info

    def open(self) -> None:
        """Start playing, and read the first frame.

        Raises: DataError if librealsense cannot, or there is none.
        """
        self._start()
        if self._ahead is None:
            raise DataError(
                f"{self.path} holds no color frames: it is damaged, or record it with color and"
                " depth"
            )
        first, i = self._ahead, self._ahead.intrinsics
        self._info = CameraInfo(
            model="recording",
            serial=self._serial,
            width=i.width,
            height=i.height,
            unit=None if first.depth is None else first.unit,
            intrinsics=(i.fx, i.fy, i.cx, i.cy),
        )

    def next_frame(self, timeout_s: float) -> Frame:
        """The next recorded frame set with color. Raises: EndOfFrames after the last."""
        if self._frames is None:
            raise CameraLost(f"{self.path} is not open")
        self._pace.wait(timeout_s)
        frame = self._ahead or next(self._frames, None)
        if frame is None and self._loop:
            self._start()
            frame = self._ahead
        self._ahead = None
        if frame is None:
            raise EndOfFrames(f"{self.path} has been played to its end, {self._delivered} frames")
        self._delivered += 1
        return as_live(frame, self._serial, self._delivered)

    def close(self) -> None:
        """Stop the player."""
        frames, self._frames, self._ahead = self._frames, None, None
        if frames is not None:
            frames.close()  # stops its pipeline

    def _start(self) -> None:
        from edge.frames.recording import play

        self.close()
        self._frames = cast("Generator[Frame, None, None]", play(self.path))
        self._ahead = next(self._frames, None)
