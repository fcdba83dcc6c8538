"""The parts that are shown to a station, one after the other, as production would see each of them:
through the same engine, rule and gate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge.camera.contract import CameraContract, find_staleness, require_match
from edge.camera.protocol import Camera, EndOfFrames
from edge.decide.aggregate import aggregate, shows_two_parts
from edge.decide.gate import Gate, Part
from edge.decide.gate_factory import new_gate
from edge.decide.motion import Sighting
from edge.decide.verdict import DecisionRule
from edge.engine.protocol import Engine
from edge.errors import CalibrationError, CameraLost
from edge.runtime.pipeline import SiteState, inspect
from edge.sections import DecisionConfig
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
        """A rule that knows no limit for the border is given the strictest one: a part that reaches
        it is not shown whole.
        """
        limit = rule.max_border if rule.max_border < 1.0 else 0.0
        self.rule = DecisionRule(
            rule.threshold, rule.min_area, rule.max_area, rule.min_valid, limit
        )
        self.site, self.contract = site, contract
        self._engine = engine

    def look(self, frame: Frame) -> Sight:
        """The frame's crop and its judgment.

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
        return Sight(frame.cropped(*self.site.crop), judgment)


def shown_parts(
    camera: Camera,
    viewer: Viewer,
    decision: DecisionConfig,
    count: int,
    each_frame: bool,
    tell: Callable[[str], None],
) -> list[Frame]:
    """The crop of one frame of each of `count` parts.

    Args:
        camera: open. each_frame: every image is a part.
        tell: is given one line for each part.
    Raises: CalibrationError if a part is not seen whole and alone, or fewer than count come;
        CameraError.
    """
    gate: Gate[Sight] = new_gate(viewer.rule, decision, each_frame, starts_unsure=False)
    found: list[Frame] = []
    for part in _parts(camera, viewer, gate, count):
        number = len(found) + 1
        found.append(best_view(part, number))
        tell(f"part {number} of {count}: frame {found[-1].frame_number}")
        if len(found) == count:
            return found
    if not found:
        raise CalibrationError(f"part 1: {REMEDIES[Reason.NO_PART]}")
    raise CalibrationError(
        f"only {len(found)} parts were shown, {count} are needed: ask for --count {len(found)} or"
        " show more"
    )


def best_view(part: Part[Sight], number: int) -> Frame:
    """The frame that shows the part whole and nearest to where it lay in most of its frames: not
    while it is laid down or taken away.

    number: of the part, for a refusal.
    Raises: CalibrationError if production would not judge it as one whole part.
    """
    frames = [one.judgment for one in part.frames]
    reason = aggregate(frames)[0].reason
    if part.two_parts or shows_two_parts(frames, [one.sighting for one in part.frames], part.gaps):
        reason = Reason.TWO_PARTS
    if reason not in (Reason.NORMAL, Reason.ANOMALY):
        raise CalibrationError(
            f"part {number}: {REMEDIES.get(reason, f'it was not judged ({reason.value})')}, and"
            " repeat"
        )
    whole = [one for one in part.frames if one.judgment.code is not Code.UNKNOWN]
    centers = np.array([(one.sighting.u, one.sighting.v) for one in whole])
    off = np.linalg.norm(centers - np.median(centers, axis=0), axis=1)
    areas = np.array([one.sighting.area for one in whole])
    return whole[int(np.lexsort((-areas, off))[0])].window


def _parts(camera: Camera, viewer: Viewer, gate: Gate[Sight], count: int) -> Iterator[Part[Sight]]:
    """The parts as the gate completes them; a live camera is waited for, files come to an end."""
    last_s = time.monotonic()
    for frame in _fresh_frames(camera, viewer.contract):
        sight = viewer.look(frame)
        for part in gate.feed(sight.sighting, sight):
            last_s = time.monotonic()
            yield part
        if time.monotonic() - last_s > PART_TIMEOUT_S:
            raise CalibrationError(
                f"no further part for {PART_TIMEOUT_S:.0f} s, {count} are needed: lay one after the"
                " other into the view, and leave it empty between them"
            )
    yield from gate.close()


def _fresh_frames(camera: Camera, contract: CameraContract) -> Iterator[Frame]:
    """Frames of the whole stream until the source ends, each as the contract says.

    Raises: CameraError.
    """
    previous = None
    while True:
        try:
            frame = camera.next_frame(FRAME_TIMEOUT_S)
        except EndOfFrames:
            return
        require_fresh(previous, frame, contract)
        previous = frame
        yield frame


def require_fresh(previous: Frame | None, frame: Frame, contract: CameraContract) -> None:
    """The frame is as the contract says, and newer than the one before it.

    Raises: CameraMismatch, CameraLost.
    """
    require_match(frame, contract)
    stale = find_staleness(previous, frame, time.monotonic_ns(), 1000 * FRAME_TIMEOUT_S)
    if stale is not None:
        raise CameraLost(f"camera {frame.serial}: {stale}: check the USB 3 cable, then repeat")
