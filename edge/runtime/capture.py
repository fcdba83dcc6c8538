"""The capture thread: camera to mailbox, and the camera opened again for as long as the station
runs.

    0.5 s without a frame   counted as a gap
    1.5 s                   the state says camera_lost (told by the main loop, which also sees a
                            call that hangs)
    2 s                     the camera is closed, which kills its process, and opened again in a new
                            one

Progress, which is what the watchdog wants to see, is a judged frame, a loss that was found and
passed on, or a step of the camera's process (started, opened, reaped). Each of them is bounded in
time, so a camera that is unplugged makes progress every few seconds, for ever, and systemd leaves
the station alone. A call that never returns makes none: where the camera has a process of its own
it is killed in time, before the next is started, and where even that fails (a driver that hangs in
the kernel) nothing moves any more and the watchdog starts the station anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edge.backoff import backoff_s
from edge.camera.contract import CameraContract
from edge.camera.protocol import Camera, EndOfFrames, FrameOverdue
from edge.camera.supervised import SupervisedCamera
from edge.errors import CameraError
from edge.runtime.active import ActiveBundle
from edge.runtime.mailbox import Ended, Lost, Mailbox
from edge.types import Frame

log = logging.getLogger(__name__)

FIRST_FRAME_S = 10.0  # a camera may need seconds after it was opened
GAP_S, SILENT_S, LOST_S = 0.5, 1.5, 2.0
RETRY_S = 2.0  # at most between two tries: a camera that is plugged in again is found within 5 s
USUAL_FPS = 4.0  # a camera that is slower is given more time, by as much as it is slower

CameraMaker = Callable[[ActiveBundle], Camera]


class Capture:
    """What the capture thread does. The counters and `is_silent` may be read from any thread.

    station: what is active now; its camera contract is what the camera is set to. fps: of the
    camera, at least.
    """

    def __init__(
        self, make_camera: CameraMaker, station: Callable[[], ActiveBundle], mailbox: Mailbox,
        stopping: threading.Event, fps: float = 30.0,
    ) -> None:  # fmt: skip
        self._make_camera, self._station = make_camera, station
        self._mailbox, self._stopping = mailbox, stopping
        self._patience = max(1.0, USUAL_FPS / fps)
        self._losses = _Losses()
        self._due_s: float | None = None  # when what the camera was asked for is late
        self._dropped_before = 0
        self._camera: Camera | None = None
        self.is_open = False  # whether there is a camera to close in good order
        self.gaps = self.restarts = (
            0  # since the start: of more than 0.5 s; camera closed and opened again
        )

    @property
    def dropped(self) -> int:
        """Frames that newer ones replaced before they were taken out of the camera's process."""
        return self._dropped_before + _dropped_by(self._camera)

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
            try:
                self._open_and_play()
            except EndOfFrames:
                self._mailbox.put(Ended())
                self._stopping.wait()
                return
            if self._losses.count:
                self.restarts += 1
                self._stopping.wait(min(RETRY_S, backoff_s(self._losses.count - 1, 1.0)))

    def abandon(self) -> None:
        """The station ends and this thread does not: leave no process of the camera behind."""
        camera = self._camera
        if isinstance(camera, SupervisedCamera):
            camera.kill()

    def _open_and_play(self) -> None:
        """One camera from its opening to its end. Raises: EndOfFrames, and as `run`."""
        station = self._station()
        camera = self._camera = self._make_camera(station)
        try:
            self._play(camera, station.manifest.camera)
        except EndOfFrames:
            raise
        except CameraError as error:
            if not self._stopping.is_set():  # afterwards it is the station that ends the camera
                self._losses.begin(error)
                self._mailbox.put(Lost(error))
        finally:
            self._due_s = None
            self._dropped_before, self._camera = self.dropped, None
            camera.close()
            self.is_open = False

    def _play(self, camera: Camera, contract: CameraContract) -> None:
        """Frames into the mailbox, until another product wants the camera set up anew.

        Raises: CameraError.
        """
        if not self._losses.count:
            self._due_s = time.monotonic() + FIRST_FRAME_S
        camera.open()
        self.is_open = True
        frame = self._next_frame(camera, FIRST_FRAME_S)
        while not self._stopping.is_set():
            self._due_s = None
            self._losses.end()
            self._mailbox.put(frame)
            if self._station().manifest.camera != contract:
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


class _Losses:
    """Says when the camera is lost, when for another reason, and when it is back; not every try in
    between.
    """

    def __init__(self) -> None:
        self.count = 0  # tries since the last frame
        self._said, self._since_s = set[str](), 0.0

    def begin(self, error: CameraError) -> None:
        if not self.count:
            self._since_s, self._said = time.monotonic(), set()
        self.count += 1
        if str(error) not in self._said:
            self._said.add(str(error))
            log.error("camera: %s (trying again until it comes back)", error)

    def end(self) -> None:
        if self.count:
            log.warning(
                "camera: frames again after %.1f s, %d tries",
                time.monotonic() - self._since_s,
                self.count,
            )
        self.count = 0


def _dropped_by(camera: Camera | None) -> int:
    return camera.dropped if isinstance(camera, SupervisedCamera) else 0
