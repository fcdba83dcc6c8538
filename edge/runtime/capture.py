"""The capture thread: camera to mailbox, and the camera opened again for as long as the station
runs.

    0.5 s without a frame   counted as a gap
    1.5 s                   the state says camera_lost (told by the main loop, which also sees a
                            call that hangs)
    2 s                     the camera is closed, which kills its process, and opened again in a new
                            one; what is done where that does not help: healing.py

Progress, which feeds the watchdog, is a judged frame, a loss that was found and passed on, or a
step of the camera's process (started, opened, reaped). Each of them is bounded in time, so a camera
that is unplugged makes progress every few seconds, forever, and systemd leaves the station alone. A
call that never returns makes none: a camera with a process of its own is killed in time, before the
next process is started. Where even that fails (a driver that hangs in the kernel) no step is made
any more, and the watchdog restarts the station.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge.backoff import backoff_s
from edge.camera.contract import CameraContract
from edge.camera.device import NOTHING_TOLD, DeviceFacts
from edge.camera.protocol import Camera, EndOfFrames, FrameOverdue
from edge.camera.supervised import SupervisedCamera
from edge.camera.wire import ProcessFailed
from edge.errors import CameraError, CameraLost, CameraMismatch, ConfigError
from edge.runtime.active import ActiveBundle
from edge.runtime.healing import Healing
from edge.runtime.mailbox import Ended, Lost, Mailbox, Reopened
from edge.trouble import Trouble
from edge.types import Frame

log = logging.getLogger(__name__)

FIRST_FRAME_S = 10.0  # a camera may need seconds after it was opened
GAP_S, SILENT_S, LOST_S = 0.5, 1.5, 2.0
RELEASE_S = 15.0  # for the camera to be closed where another process needs it
LOOK_S = 0.05  # between two looks whether it is given back
RETRY_S = 2.0  # at most between two tries: a camera that is plugged in again is found within 5 s
USUAL_FPS = 4.0  # a camera that is slower is given more time, by as much as it is slower

CameraMaker = Callable[[ActiveBundle], Camera]


class Capture:
    """What the capture thread does.

    Every attribute is written by this thread alone, as one number or reference, so any thread may
    read the counters, `is_open` and `is_silent`, and the main loop may call `abandon`.
    """

    def __init__(
        self,
        make_camera: CameraMaker,
        active: Callable[[], ActiveBundle],
        mailbox: Mailbox,
        stopping: threading.Event,
        fps: float = 30.0,
        healing: Healing | None = None,
    ) -> None:
        """active: gives what judges now; the camera is set to its contract. fps: of the camera, at
        least. healing: what is done besides starting the camera again; None: nothing.
        """
        self.healing = healing or Healing()
        self._make_camera, self._active = make_camera, active
        self._mailbox, self._stopping = mailbox, stopping
        self._patience = max(1.0, USUAL_FPS / fps)
        self._tries = 0  # to get a frame, in vain, since the last one
        self._loss = Trouble(log, "camera: frames again")
        self._due_s: float | None = None  # when what the camera was asked for is late
        self._dropped_before = 0
        self._camera: Camera | None = None
        # set by the thread of the commands: to be opened anew, needed elsewhere. By this: closed
        self._is_to_reopen, self._is_lent = threading.Event(), threading.Event()
        self._is_released = threading.Event()
        self.starts = 0  # how often frames began to come after the camera was opened
        self.is_open = False  # whether there is a camera to close in good order
        self.gaps = 0  # of more than GAP_S between two frames, since the start
        self.restarts = 0  # how often the camera was closed and opened again, since the start

    @property
    def dropped(self) -> int:
        """Frames that newer ones replaced before they were taken out of the camera's process."""
        return self._dropped_before + _dropped_by(self._camera)

    @property
    def device(self) -> DeviceFacts:
        """What the camera tells of itself; of a lost one what it told last."""
        facts = _facts_of(self._camera)
        return self.healing.told if facts is NOTHING_TOLD else facts

    def is_silent(self, last_progress_s: float) -> bool:
        """Whether the camera keeps the station waiting longer than a healthy one does.

        last_progress_s: when the station last made progress (monotonic); a large file that is being
        read is some.
        """
        due_s, now_s = self._due_s, time.monotonic()
        return due_s is not None and now_s > max(due_s, last_progress_s + self._patience * SILENT_S)

    def run(self) -> None:
        """Until the station stops.

        Raises: DataError, ConfigError, MissingDependency: nothing that time would mend.
        """
        while not self._stopping.is_set():
            if self._is_lent.is_set():
                self._is_released.set()
                self._stopping.wait(LOOK_S)
                continue
            self._is_to_reopen.clear()
            try:
                self._open_and_play()
            except EndOfFrames:
                self._mailbox.put(Ended())
                self._stopping.wait()
                return
            if self._stopping.is_set():
                return
            if not self._tries:
                self.restarts += self._is_to_reopen.is_set()
                self._mailbox.put(Reopened())
            elif not self._is_lent.is_set():
                self.restarts += 1
                self.healing.act()
                self._stopping.wait(min(RETRY_S, backoff_s(self._tries - 1, 1.0)))

    def reopen(self) -> None:
        """Close the camera and open it in a process of its own anew, as soon as its next frame has
        come or is given up. For any thread; `starts` tells when frames come again.
        """
        self._is_to_reopen.set()

    @property
    def is_reopening(self) -> bool:
        """Whether what `reopen` has asked for is still to be done."""
        return self._is_to_reopen.is_set()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Leave the camera to another process meanwhile. For the thread of the commands.

        Raises: CameraLost if it is not released in time.
        """
        self._is_released.clear()
        self._is_lent.set()
        self._is_to_reopen.set()
        try:
            if not self._is_released.wait(RELEASE_S):
                raise CameraLost(f"the camera was not released within {RELEASE_S:g} s")
            yield
        finally:
            self._is_lent.clear()

    def abandon(self) -> None:
        """The station ends and this thread does not: leave no process of the camera behind."""
        camera = self._camera
        if isinstance(camera, SupervisedCamera):
            camera.kill()

    def _open_and_play(self) -> None:
        """One camera from its opening to its end. Raises: EndOfFrames, and as `run`."""
        active = self._active()
        camera = self._camera = self._make_camera(active)
        try:
            self._play(camera, active.manifest.camera)
        except EndOfFrames:
            raise
        except (CameraError, ProcessFailed) as error:
            if not self._stopping.is_set():  # afterwards it is the station that ends the camera
                self._lose(error)
        finally:
            self._due_s = None
            self._dropped_before, self.healing.told, self._camera = self.dropped, self.device, None
            camera.close()
            self.is_open = False

    def _lose(self, error: CameraError | ProcessFailed) -> None:
        self._tries += 1
        if isinstance(error, ProcessFailed):  # a driver may raise anything
            *_, last = str(error).strip().splitlines()
            log.error("%s", error)
            error = CameraLost(f"its process failed ({last}), the log has the traceback: report it")
        self._loss.happened(f"camera: {error} (trying again until it comes back)")
        self._mailbox.put(Lost(self.healing.climb(error)))

    def _play(self, camera: Camera, contract: CameraContract) -> None:
        """Frames into the mailbox, until another product wants the camera set up anew.

        Raises: CameraError.
        """
        if not self._tries:
            self._due_s = time.monotonic() + FIRST_FRAME_S
        camera.open()
        self.is_open = True
        require_calibration(self._active(), camera.serial, _facts_of(camera))
        frame = self._next_frame(camera, FIRST_FRAME_S)
        self.starts += 1
        while not self._stopping.is_set():
            self._due_s = None
            self._tries = 0
            self.healing.frame_came()
            self._loss.ended()
            self._mailbox.put(frame)
            if self._active().manifest.camera != contract or self._is_to_reopen.is_set():
                return
            frame = self._next_frame(camera, self._patience * LOST_S)

    def _next_frame(self, camera: Camera, lost_s: float) -> Frame:
        """Raises: CameraError, after lost_s at the latest if the camera keeps to its timeouts."""
        self._due_s = time.monotonic() + self._patience * SILENT_S
        gap_s = self._patience * GAP_S
        try:
            return camera.next_frame(gap_s)
        except FrameOverdue:
            self.gaps += lost_s != FIRST_FRAME_S  # the first one after opening is not late yet
        return camera.next_frame(lost_s - gap_s)


def require_calibration(active: ActiveBundle, serial: str, told: DeviceFacts) -> None:
    """Refuse a camera that was calibrated anew since its plane was measured: its depth is another.

    Where the camera or the geometry names no calibration, nothing is compared.
    Raises: CameraMismatch.
    """
    if told.calibration is None:
        return
    try:
        record = active.store.geometry_record(active.installed.product, serial)
    except ConfigError:
        return  # judging says so with each frame
    if record is None or record.calibration in (None, told.calibration):
        return
    raise CameraMismatch(
        f"camera {serial}: its calibration table is {told.calibration[:12]}, it was"
        f" {record.calibration[:12]} when the plane was measured: run `edge calibrate plane` on the"
        " empty table"
    )


def _facts_of(camera: Camera | None) -> DeviceFacts:
    return camera.facts if isinstance(camera, SupervisedCamera) else NOTHING_TOLD


def _dropped_by(camera: Camera | None) -> int:
    return camera.dropped if isinstance(camera, SupervisedCamera) else 0
