"""The parts that are shown to a station, one after the other, as production would see each of them:
through the same engine, rule and gate.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from edge.camera.contract import CameraContract, find_staleness, require_match
from edge.camera.protocol import Camera, EndOfFrames, FrameOverdue
from edge.decide.aggregate import aggregate, shows_two_parts
from edge.decide.gate import Gate, Part
from edge.decide.motion import Sighting
from edge.decide.verdict import DecisionRule
from edge.engine.protocol import Engine
from edge.errors import CalibrationError, CameraLost
from edge.runtime.pipeline import SiteState, inspect
from edge.types import Code, Frame, Judgment, Reason

FRAME_TIMEOUT_S = 5.0
PART_TIMEOUT_S = 120.0  # of a live camera without a new part
# what a technician does about a part that was not seen as one whole part
REMEDIES = {
    Reason.NO_PART: "no part is in view: lay it into the view of the camera",
    Reason.TOO_LARGE: "more than one part is in view, or a hand: show one part at a time",
    Reason.TWO_PARTS: "two parts followed each other too closely: leave a gap between them",
    Reason.PARTIAL: "it touches the border of the view: lay it where production has it",
    Reason.NO_DEPTH: "too few of its pixels have a depth reading: check distance, laser, exposure",
}


class PartRefused(CalibrationError):
    """A part that is not taken; another one may be shown in its place.

    why: a reason of edge.types.Reason, "repeated", "defective" or "implausible". numbers: of the
    parts that it is about, the one of the picture first. picture: JPEG.
    """

    def __init__(self, sentence: str, why: str, numbers: Sequence[int], picture: bytes) -> None:
        super().__init__(sentence)
        self.why, self.numbers, self.picture = why, tuple(numbers), picture


@dataclass(frozen=True, eq=False)
class Sight:
    """One frame of a part, cropped, and what the station makes of it."""

    window: Frame
    judgment: Judgment

    @property
    def sighting(self) -> Sighting:
        """Where its foreground lies."""
        u, v, var_u, var_v, both, border = self.judgment.place
        spread = (var_u, var_v, both)
        return Sighting(self.window.frame_number, self.judgment.area, u, v, spread, border)


class Viewer:
    """Looks at frames as the station that judges them would."""

    def __init__(
        self, engine: Engine, rule: DecisionRule, site: SiteState, contract: CameraContract
    ) -> None:
        """rule: of the engine; site: for the camera that gives the frames."""
        self.rule, self.site, self.contract = rule, site, contract
        self._engine = engine

    def look(self, frame: Frame) -> Sight:
        """The frame's crop, which owns its bytes, and its judgment.

        Raises: CalibrationError if the crop leaves the image, or the engine fails.
        """
        judgment = inspect(frame, self.site, self._engine, self.rule)
        if judgment.reason in (Reason.ENGINE, Reason.NOT_FINITE):
            raise CalibrationError(
                f"frame {frame.frame_number} was not judged ({judgment.reason.value}): run `edge"
                " verify`"
            )
        if judgment.reason is Reason.CAMERA_MISMATCH:
            raise CalibrationError(
                "the crop leaves the image: run `edge calibrate plane` with --crop-x and --crop-y"
            )
        return Sight(_owned(frame.cropped(*self.site.crop)), judgment)


def _owned(window: Frame) -> Frame:
    """Without the rest of the image behind it, which would stay in memory for as long."""
    depth = window.depth
    return replace(
        window,
        color=np.ascontiguousarray(window.color),
        depth=None if depth is None else np.ascontiguousarray(depth),
    )


class PartSource:
    """The parts in front of a camera, one after the other, as a gate completes them."""

    def __init__(self, camera: Camera, viewer: Viewer, gate: Gate[Sight]) -> None:
        """camera: open. gate: of this viewer's rule."""
        self._camera, self._viewer, self._gate = camera, viewer, gate
        self._last: Frame | None = None
        self._complete: deque[Part[Sight]] = deque()
        self._has_ended = False

    def next_part(self, timeout_s: float) -> Part[Sight]:
        """The next part. A live camera is waited for, files come to an end.

        Raises: EndOfFrames after the last part of a file, FrameOverdue if none was complete in
            time; CameraError, CalibrationError as Viewer.look.
        """
        end_s = time.monotonic() + timeout_s
        while not self._complete:
            if self._has_ended:
                raise EndOfFrames("no further part was shown")
            if time.monotonic() > end_s:
                raise FrameOverdue(f"no further part for {timeout_s:.0f} s")
            self._look()
        return self._complete.popleft()

    def _look(self) -> None:
        """Take one more frame."""
        try:
            frame = self._camera.next_frame(FRAME_TIMEOUT_S)
        except EndOfFrames:
            self._has_ended = True
            self._complete.extend(self._gate.close())
            return
        except FrameOverdue as error:  # of the camera, not of a part
            raise CameraLost(f"{error}: check the USB 3 cable, then repeat") from error
        require_fresh(self._last, frame, self._viewer.contract)
        self._last = frame
        sight = self._viewer.look(frame)
        self._complete.extend(self._gate.feed(sight.sighting, sight))


class TakesParts(Protocol):
    """Whatever gives one part after the other."""

    def next_part(self, timeout_s: float) -> Part[Sight]:
        """As PartSource.next_part."""
        ...


def next_of(source: TakesParts, shown: int, count: int) -> Part[Sight]:
    """The next of `count` parts, of which `shown` were seen.

    Raises: CalibrationError, saying what to do, if none comes any more.
    """
    try:
        return source.next_part(PART_TIMEOUT_S)
    except FrameOverdue as error:
        raise CalibrationError(
            f"{error}, {count} are needed: lay one after the other into the view, and leave it"
            " empty between them"
        ) from error
    except EndOfFrames as error:
        if not shown:
            raise CalibrationError(f"part 1: {REMEDIES[Reason.NO_PART]}") from error
        raise CalibrationError(
            f"only {shown} parts were shown, {count} are needed: ask for --count {shown} or show"
            " more"
        ) from error


def best_sight(part: Part[Sight]) -> Sight:
    """The frame that shows the part whole and nearest to where it lay in most of its frames: not
    while it is laid down or taken away. At least one of its frames was judged.
    """
    whole = judged_of(part)
    centers = np.array([(one.sighting.u, one.sighting.v) for one in whole])
    off = np.linalg.norm(centers - np.median(centers, axis=0), axis=1)
    areas = np.array([one.sighting.area for one in whole])
    return whole[int(np.lexsort((-areas, off))[0])]


def judged_of(part: Part[Sight]) -> list[Sight]:
    """Its frames that were judged, oldest first."""
    return [one for one in part.frames if one.judgment.code is not Code.UNKNOWN]


def find_obstacle(part: Part[Sight]) -> Reason | None:
    """Why production would not judge this as one whole part; None for a part that it would."""
    frames = [one.judgment for one in part.frames]
    reason = aggregate(frames)[0].reason
    if part.two_parts or shows_two_parts(frames, [one.sighting for one in part.frames], part.gaps):
        reason = Reason.TWO_PARTS
    return None if reason in (Reason.NORMAL, Reason.ANOMALY) else reason


def remedy_of(reason: Reason) -> str:
    """What a technician does about a part that was not judged."""
    return REMEDIES.get(reason, f"it was not judged ({reason.value})")


def why_not_judged(part: Part[Sight]) -> str | None:
    """What a technician does about a part that production would not judge as one whole part; None
    for a part that it would.
    """
    reason = find_obstacle(part)
    return None if reason is None else remedy_of(reason)


def require_fresh(previous: Frame | None, frame: Frame, contract: CameraContract) -> None:
    """The frame is as the contract says, and newer than the one before it.

    Raises: CameraMismatch, CameraLost.
    """
    require_match(frame, contract)
    stale = find_staleness(previous, frame, time.monotonic_ns(), 1000 * FRAME_TIMEOUT_S)
    if stale is not None:
        raise CameraLost(f"camera {frame.serial}: {stale}: check the USB 3 cable, then repeat")
