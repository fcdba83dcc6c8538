"""A camera in a process of its own (edge/camera/child.py), behind the protocol of every camera.

Every failure of the driver becomes one sentence here: an error, a crash (with the signal's name), a
call that never returns (the process is killed), an invalid message. Each opening starts a new
process, so that leaks and half-done work of a driver end with the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from edge.camera.contract import CameraContract
from edge.camera.device import NOTHING_TOLD
from edge.camera.process import CameraProcess, Patience
from edge.camera.protocol import FrameOverdue
from edge.camera.ring import RingReader
from edge.camera.wire import (
    Device,
    Failed,
    Filled,
    FromCamera,
    Hello,
    Next,
    Opened,
    Order,
    Packet,
    Returned,
    RingMade,
)
from edge.errors import CameraLost
from edge.frames.camera_info import CameraInfo
from edge.sections import CameraConfig
from edge.types import Frame, Intrinsics

HELLO_S = 20.0  # limit without progress while a new process loads its libraries
OPEN_S = 20.0  # limit for a driver to open its camera
CLOSE_S = 1.0  # limit for a driver to stop its camera
LOOK_S = 0.25  # between two checks whether a process still works
AS_FILES = (
    "folder",
    "recording",
)  # no device that could hang: they may be slow as long as they work

Expected = TypeVar("Expected", bound=Packet)


class SupervisedCamera:
    """Runs the camera that `order` names in a process of its own, and copies its frames out.

    moved: called when opening makes progress, for a watchdog that detects a standstill.
    """

    def __init__(self, order: Order, moved: Callable[[], None] = lambda: None) -> None:
        self._order, self._moved = order, moved
        self._process: CameraProcess | None = None
        self._opened: Opened | None = None
        self._ring: RingReader | None = None
        # the message after the last frame, kept until that frame was returned
        self._end: Exception | None = None
        self._is_asked = False
        self._is_given_up = (
            False  # the process is then killed at once, without time to close its camera
        )
        self._as_files = order.config.kind in AS_FILES
        self._passed_over = self._not_taken = 0
        self.facts = NOTHING_TOLD  # what the device told last of itself, also after it was lost

    @property
    def serial(self) -> str:
        """As the camera in the other process tells it."""
        return self._told().serial

    @property
    def info(self) -> CameraInfo:
        """As the camera in the other process tells it."""
        return self._told().info

    @property
    def pid(self) -> int | None:
        """The process that holds the camera, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def dropped(self) -> int:
        """Frames since the opening that newer ones replaced before they were read."""
        return self._passed_over + self._not_taken

    def open(self) -> None:
        """Start the process and open the camera in it; an open camera is closed first.

        Raises: what the camera raises there; CameraLost if opening makes no progress; CameraError
            if no process can be started.
        """
        self.close()
        self._end, self._is_asked, self._is_given_up = None, False, False
        self._passed_over = self._not_taken = 0
        self._process = CameraProcess(self._order)
        try:
            self._expect(Hello, HELLO_S, watched=True)
            opened = self._expect(Opened, OPEN_S, watched=not self._order.config.is_live)
            self._opened, self.facts = opened, opened.facts
        except Exception:
            self._is_given_up = True
            self.close()
            raise

    def next_frame(self, timeout_s: float) -> Frame:
        """The next frame; from a live camera the newest one. It owns its bytes.

        For files the time limit counts only while the process makes no progress: a large image may
        take long to read.

        Raises: EndOfFrames, FrameOverdue, CameraLost, or another error of the camera in its
            process.
        """
        process = self._running()
        if not self._order.live and not self._is_asked and self._end is None:
            process.send(Next())
            self._is_asked = True
        frame = None if self._end is not None else self._await_frame(process, timeout_s)
        if frame is not None:
            self._is_asked = self._is_given_up = False
            return frame
        if self._end is not None:
            raise self._end
        self._is_given_up = True
        raise FrameOverdue(f"{self._name()}: no frame within {timeout_s:g} s: {self._remedy()}")

    def close(self) -> None:
        """End the process, even in the middle of a driver's call."""
        process, self._process, self._opened, self._ring = self._process, None, None, None
        if process is not None:
            process.end(0.0 if self._is_given_up else CLOSE_S)
            self._moved()

    def kill(self) -> None:
        """Kill the process at once without waiting; from any thread, when the thread that uses the
        camera does not return.
        """
        process = self._process
        if process is not None:
            process.kill()

    def _await_frame(self, process: CameraProcess, timeout_s: float) -> Frame | None:
        """The newest frame; None if none came in time, or at the end, whose reason is in `_end`."""
        patience = Patience(process, timeout_s, self._as_files)
        newest: tuple[RingReader, Filled] | None = None
        try:
            newest = self._take_filled(process, 0.0)
            while newest is None and self._end is None and not patience.is_over():
                newest = self._take_filled(process, min(LOOK_S, patience.remaining_s))
            while newest is not None and (newer := self._take_filled(process, 0.0)) is not None:
                self._give_back(process, newest[1])
                self._passed_over += 1
                newest = newer
            return None if newest is None else self._copied(process, *newest)
        except CameraLost as error:
            self._end, self._is_given_up = error, True
        return None

    def _take_filled(
        self, process: CameraProcess, timeout_s: float
    ) -> tuple[RingReader, Filled] | None:
        """A frame and its memory; None without a frame, or at the end, whose reason is in
        `_end`.
        """
        while self._end is None:
            message = self._take(process, timeout_s)
            if isinstance(message, Failed):
                self._end = message.exception()
            elif isinstance(message, Filled):
                if self._ring is None or message.ring != self._ring.number:
                    raise CameraLost(
                        f"{self._name()}: its process names a frame in memory that it never handed"
                        " over"
                    )
                self._not_taken = message.dropped
                return self._ring, message
            elif message is None:
                return None
            elif isinstance(message, Device):
                self.facts = message.facts
            elif not isinstance(message, RingMade):
                raise CameraLost(f"{self._name()}: its process speaks out of turn")
        return None

    def _take(self, process: CameraProcess, timeout_s: float) -> FromCamera | None:
        """The next message; announced memory is mapped first. Raises: CameraLost."""
        received = process.receive(timeout_s)
        if received is None:
            return None
        message, fds = received
        if isinstance(message, RingMade):
            self._ring = RingReader(fds[0], message.number, message.slots, message.slot_bytes)
        return message

    def _copied(self, process: CameraProcess, ring: RingReader, filled: Filled) -> Frame:
        color, depth = ring.read(filled.slot, filled.color, filled.depth)
        self._give_back(process, filled)
        return Frame(
            color,
            depth,
            filled.unit,
            Intrinsics(*filled.pinhole),
            filled.serial,
            filled.frame_number,
            filled.captured_mono_ns,
            filled.clock_domain,
            filled.exposure_us,
            filled.gain,
        )

    def _give_back(self, process: CameraProcess, filled: Filled) -> None:
        process.send(Returned(ring=filled.ring, slot=filled.slot))

    def _expect(self, kind: type[Expected], limit_s: float, watched: bool) -> Expected:
        """The message that must come next.

        watched: the limit counts only while the process makes no progress.
        """
        process = self._running()
        patience = Patience(process, limit_s, watched)
        while True:
            message = self._take(process, min(LOOK_S, patience.remaining_s))
            if isinstance(message, Failed):
                raise message.exception()
            if isinstance(message, kind):
                self._moved()
                return message
            if message is not None:
                raise CameraLost(f"{self._name()}: its process speaks out of turn")
            if patience.is_over():
                if process.is_stopped():
                    raise CameraLost(f"{self._name()}: its process was stopped by a signal")
                raise CameraLost(
                    f"{self._name()} is not open after {limit_s:g} s: {self._remedy()}"
                )
            if patience.has_worked:
                self._moved()

    def _running(self) -> CameraProcess:
        if self._process is None:
            raise CameraLost(f"{self._name()} is not open")
        return self._process

    def _told(self) -> Opened:
        if self._opened is None:
            raise CameraLost(f"{self._name()} is not open")
        return self._opened

    def _remedy(self) -> str:
        if self._order.config.is_live:
            return "check the USB 3 cable, or unplug the camera and plug it in again"
        return "check the disk that it lies on"

    def _name(self) -> str:
        config = self._order.config
        return f"camera {config.serial or '(any)'}" if config.is_live else f"camera {config.path}"


def supervised_camera(
    config: CameraConfig,
    root: Path,
    contract: CameraContract | None = None,
    *,
    empty: bool = False,
    loop: bool = False,
    live: bool = False,
    moved: Callable[[], None] = lambda: None,
) -> SupervisedCamera:
    """The camera that station.toml names, in a process of its own, not yet open.

    Args: as make_camera takes them.
        live: frames that are not taken in time are dropped (always so for a live camera).
        moved: as SupervisedCamera takes it.
    """
    order = Order(
        config=config,
        root=str(root.absolute()),
        contract=contract,
        empty=empty,
        loop=loop,
        live=live or config.is_live,
    )
    return SupervisedCamera(order, moved)
