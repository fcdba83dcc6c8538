"""A station that is calibrated while `edge run` is at work on it: camera, gate and engine stay
there, and this process is a client of its socket.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.shown_parts import Sight
from edge.camera.device import NOTHING_TOLD, DeviceFacts
from edge.camera.protocol import FrameOverdue
from edge.control.client import ANSWER_S, ControlClient, find_station
from edge.control.protocol import (
    DATA_LIMIT,
    FRAMES_LIMIT,
    ArrayTold,
    CloseSession,
    FrameTold,
    JudgmentTold,
    Message,
    NextFrames,
    NextPart,
    OpenSession,
    Payload,
    Score,
    StationTold,
    arrays_of,
    bytes_of,
    frame_of,
    judgment_of,
    tell_array,
    tell_frame,
)
from edge.decide.gate import Part
from edge.errors import CameraLost, ControlError
from edge.frames.camera_info import CameraInfo
from edge.schema import Precision
from edge.station.audit import current_user
from edge.types import Frame

FRAME_S = 5.0  # for one frame of a camera
LONGEST_S = 600.0  # for one part
SCORE_S = 60.0  # for one frame to be scored: the slowest engine, and frames of the camera between


class RemoteStation:
    """The members of calibration.station.CalibrationStation, over a session of a running `edge
    run`. For one thread. While it is open no part is judged there: close it.

    serial: of the camera. is_calibrated: whether there is a plane, where the product needs one.
    engine, precision: what looks. product, bundle: whose. crop: x, y, width, height in pixels of
    the whole stream. facts: what the camera tells of itself. problem: why no frame can be judged,
    empty where the site's files are sound.
    missed: parts that passed and were not asked for in time.
    """

    def __init__(self, client: ControlClient, told: StationTold) -> None:
        """As open_remote has made it. client: has opened a session; belongs to this from now on."""
        self._client = client
        self.serial, self.is_calibrated = told.serial, told.is_calibrated
        self.engine = told.engine
        self.precision: Precision = told.precision
        self.product, self.bundle, self.crop = told.product, told.bundle, told.crop
        self.facts: DeviceFacts = told.facts
        self.problem = told.problem
        self.missed = 0
        # by which the station remembers the frames that it has shown
        self._names: weakref.WeakKeyDictionary[Frame, int] = weakref.WeakKeyDictionary()

    def next_part(self, timeout_s: float) -> Part[Sight]:
        """The next part, as the gate of production completes it.

        Raises: FrameOverdue if none is complete in time, CalibrationError if the station has ended
            the session; ControlError.
        """
        request = NextPart(timeout_s=min(timeout_s, LONGEST_S))
        messages = self._client.ask_many(request, timeout_s=timeout_s + ANSWER_S)
        first = next(messages)
        self.missed += int(first.said.get("missed", 0))
        about, problem = first.said.get("part"), str(first.said.get("problem", ""))
        sights = [self._sight_of(message) for message in messages]
        if not isinstance(about, dict):
            why = f": {problem}" if problem else ""
            raise FrameOverdue(f"no further part for {timeout_s:.0f} s{why}")
        gaps = tuple(int(gap) for gap in about["gaps"])
        return Part(tuple(sights), gaps, bool(about["two_parts"]))

    def score(
        self,
        windows: Sequence[Frame],
        tensors: Mapping[str, NDArray[Any]],
        outputs: Collection[str] | None = None,
    ) -> list[dict[str, NDArray[Any]]]:
        """The graph's raw outputs for each cropped frame, under the station's geometry and the
        proposed site inputs: those that are not named have their defaults, whatever judges now.

        Only frames that the station does not remember cross the socket. outputs: those that are
        wanted, as far as the graph has them; None: all. `map` and `features` are large.
        Raises: CalibrationError for an input that the graph does not have; EngineError;
            ControlError.
        """
        found: list[dict[str, NDArray[Any]]] = []
        wanted = None if outputs is None else tuple(sorted(outputs))
        values = {name: np.asarray(value) for name, value in tensors.items()}
        for batch in self._batches(windows, sum(value.nbytes for value in values.values())):
            found += self._scored(batch, values, wanted)
        return found

    def frames(self, count: int, timeout_s: float = FRAME_S) -> list[Frame]:
        """So many fresh frames of the whole stream. timeout_s: for each of them.

        Raises: CameraLost, ControlError.
        """
        request = NextFrames(count=count, timeout_s=timeout_s)
        messages = self._client.ask_many(request, timeout_s=timeout_s + ANSWER_S)
        return [_frame_in(message) for message in messages]

    def close(self) -> None:
        """The station judges parts again when this returns. May be called twice."""
        try:
            self._client.ask(CloseSession())
        except (ControlError, OSError):  # it has ended, and the session with it
            pass
        finally:
            self._client.close()

    def _sight_of(self, message: Message) -> Sight:
        try:
            payload = Payload(message.data)
            told = FrameTold.model_validate(message.said["frame"])
            window = frame_of(told, payload)
            judgment = judgment_of(JudgmentTold.model_validate(message.said["judgment"]), payload)
            payload.require_end()
        except (ValueError, KeyError) as error:
            raise _strange(error) from error
        if told.id is not None:
            self._names[window] = told.id
        return Sight(window, judgment)

    def _batches(self, windows: Sequence[Frame], beside: int) -> Iterator[Sequence[Frame]]:
        """As many as one request may hold. beside: bytes of the tensors that come with each."""
        batch: list[Frame] = []
        size = beside
        for window in windows:
            own = 0 if window in self._names else _bytes_in(window)
            if batch and (len(batch) == FRAMES_LIMIT or size + own > DATA_LIMIT):
                yield batch
                batch, size = [], beside
            batch.append(window)
            size += own
        if batch:
            yield batch

    def _scored(
        self,
        batch: Sequence[Frame],
        tensors: Mapping[str, NDArray[Any]],
        wanted: tuple[str, ...] | None,
    ) -> Iterator[dict[str, NDArray[Any]]]:
        frames: list[int | FrameTold] = []
        pieces: list[memoryview] = []
        for window in batch:
            name = self._names.get(window)
            if name is None:
                told, pixels = tell_frame(window)
                frames.append(told)
                pieces += pixels
            else:
                frames.append(name)
        told_tensors = {name: tell_array(value) for name, value in tensors.items()}
        pieces += [bytes_of(value) for value in tensors.values()]
        request = Score(frames=tuple(frames), tensors=told_tensors, outputs=wanted)
        for message in self._client.ask_many(request, pieces, SCORE_S):
            yield _outputs_in(message)


class RemoteCamera:
    """The camera of a running `edge run`, for what measures on its frames alone: see
    edge.camera.protocol.Camera.

    While it is open the station judges no part.
    """

    def __init__(self, root: Path, what: str, who: str | None = None) -> None:
        """what: is measured, for the station's state and its audit table. who: as open_remote."""
        self._root, self._what, self._who = root, what, who
        self._station: RemoteStation | None = None
        self._info: CameraInfo | None = None
        self.serial = ""
        self.facts: DeviceFacts = NOTHING_TOLD

    @property
    def info(self) -> CameraInfo:
        """Serial and stream size; known once open. Raises: CameraLost before."""
        if self._info is None:
            raise CameraLost("the camera of `edge run` is not open")
        return self._info

    def open(self) -> None:
        """Open a session. Raises: CameraLost if no frame comes, or `edge run` has ended meanwhile;
        BusyError if a part, or another session, is open there.
        """
        station = self._station = open_remote(self._root, self._what, self._who)
        if station is None:
            raise CameraLost("`edge run` has ended meanwhile: repeat the command")
        self.serial, self.facts = station.serial, station.facts
        lens = self.next_frame(FRAME_S).intrinsics
        self._info = CameraInfo(serial=self.serial, width=lens.width, height=lens.height)

    def next_frame(self, timeout_s: float) -> Frame:
        """A fresh frame of the whole stream."""
        if self._station is None:
            raise CameraLost(f"camera {self.serial} is not open")
        try:
            (frame,) = self._station.frames(1, timeout_s)
        except CameraLost as error:
            raise FrameOverdue(str(error)) from error
        return frame

    def close(self) -> None:
        """End the session."""
        station, self._station = self._station, None
        if station is not None:
            station.close()


def find_camera(root: Path, what: str, who: str | None = None) -> RemoteCamera | None:
    """The camera of the `edge run` that is at work on this root, not open yet; None if there is
    none. what, who: as RemoteCamera. Raises: ControlError.
    """
    client = find_station(root)
    if client is None:
        return None
    client.close()
    return RemoteCamera(root, what, who)


def open_remote(root: Path, what: str, who: str | None = None) -> RemoteStation | None:
    """A session of the `edge run` that is at work on this root; None if there is none.

    Args:
        what: is calibrated. who: for whom, by default the account of this process.
    Raises: BusyError if a part, or another session, is open there; CameraLost if the camera has
        given no frame yet; ControlError.
    """
    client = find_station(root)
    if client is None:
        return None
    try:
        request = OpenSession(who=_label(who or current_user()), what=_label(what))
        told = StationTold.model_validate(client.ask(request).said["station"])
    except (ValueError, KeyError) as error:
        client.close()
        raise _strange(error) from error
    except BaseException:
        client.close()
        raise
    return RemoteStation(client, told)


def _label(text: str) -> str:
    return "".join(one if " " <= one <= "~" else "_" for one in text)[:64] or "_"


def _bytes_in(frame: Frame) -> int:
    return frame.color.nbytes + (0 if frame.depth is None else frame.depth.nbytes)


def _frame_in(message: Message) -> Frame:
    try:
        payload = Payload(message.data)
        frame = frame_of(FrameTold.model_validate(message.said["frame"]), payload)
        payload.require_end()
    except (ValueError, KeyError) as error:
        raise _strange(error) from error
    return frame


def _outputs_in(message: Message) -> dict[str, NDArray[Any]]:
    try:
        told = {
            name: ArrayTold.model_validate(one) for name, one in message.said["outputs"].items()
        }
        return arrays_of(told, Payload(message.data))
    except (ValueError, KeyError, AttributeError) as error:
        raise _strange(error) from error


def _strange(error: Exception) -> ControlError:
    return ControlError(
        f"`edge run` has said something strange ({type(error).__name__}): install the same version"
        " for both"
    )
