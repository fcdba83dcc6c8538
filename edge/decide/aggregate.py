"""The frames of one part to one judgment.

How frames that could not be judged combine, always towards UNKNOWN:

- A fault of the station (not finite, engine, stale, blind, camera lost, camera mismatch,
  uncalibrated) in any frame makes the part UNKNOWN with that reason: a station that was broken for
  one frame of a part has not seen that part.
- Frames without the whole part (`no_part`: it flickered; `partial`: it was entering or leaving) are
  left out.
- Of the frames that show the part, those that are too large or lack depth were not judged. One such
  frame is flicker as long as most frames were judged; two too large ones are two parts in one view;
  otherwise the judged frames need a strict majority. If not, the part is UNKNOWN with the most
  frequent of those reasons.
- What is left is decided by the frame whose score is the median of the judged ones. With an even
  number the higher of the two middle scores: a score that was measured, with its map, and not a
  mean that no frame ever had.

So a part is OK only if most of its frames were judged and the median of them is at or below the
threshold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.decide.motion import Sighting, is_single_step, jumps, steps_aside
from edge.types import Code, Judgment, Reason

STATION_FAULTS = (
    Reason.CAMERA_MISMATCH,
    Reason.UNCALIBRATED,
    Reason.CAMERA_LOST,
    Reason.BLIND,
    Reason.STALE,
    Reason.ENGINE,
    Reason.NOT_FINITE,
    Reason.STORAGE,
    Reason.LATE,
)
NOT_WHOLE = (Reason.NO_PART, Reason.PARTIAL)  # of frames that do not show the whole part
LEAST_RUN = 3  # frames: as many as open a part
# (n,) scores -> the deciding frame, and the part's score
Combine = Callable[[NDArray[np.float32]], tuple[int, np.float32]]


class Decided(NamedTuple):
    """The judgment on a part. at: index of the frame that it rests on."""

    judgment: Judgment
    at: int


def median_of(scores: NDArray[np.float32]) -> tuple[int, np.float32]:
    """The median frame and its score; of the two middle ones the higher if n is even.

    scores: (n,) float32, n >= 1.
    """
    index = int(np.argsort(scores, kind="stable")[len(scores) // 2])
    return index, scores[index]


def highest_of(scores: NDArray[np.float32]) -> tuple[int, np.float32]:
    """The frame with the highest score: the strictest, for defects that only one view shows.

    scores: (n,) float32.
    """
    index = int(np.argmax(scores))
    return index, scores[index]


def mean_of(scores: NDArray[np.float32]) -> tuple[int, np.float32]:
    """The mean score, and the frame nearest to it to show for it. scores: (n,) float32."""
    mean = np.float32(scores.mean(dtype=np.float64))
    return int(np.argmin(np.abs(scores - mean))), mean


COMBINE: dict[str, Combine] = {"median": median_of, "max": highest_of, "mean": mean_of}


def aggregate(frames: Sequence[Judgment], combine: Combine = median_of) -> Decided:
    """One judgment for a part.

    Args:
        frames: every frame of the part, oldest first, at least one.
        combine: what the scores of the judged frames become.
    """
    fault = _first_with(frames, STATION_FAULTS)
    if fault is not None:
        return fault
    whole = [i for i, frame in enumerate(frames) if frame.reason not in NOT_WHOLE]
    if not whole:
        return _first_with(frames, [Reason.PARTIAL]) or Decided(frames[0], 0)
    judged = [i for i in whole if frames[i].score is not None]
    unjudged = [frames[i].reason for i in whole if frames[i].score is None]
    why_not = _why_not_judged(unjudged, len(judged))
    refused = None if why_not is None else _first_with(frames, [why_not])
    if refused is not None:
        return refused
    position, score = combine(np.array([frames[i].score for i in judged], np.float32))
    index = judged[position]
    return Decided(_with_score(frames[index], score), index)


def shows_two_parts(
    frames: Sequence[Judgment],
    sightings: Sequence[Sighting],
    gaps: Sequence[int],
    combine: Combine = median_of,
) -> bool:
    """Whether these frames show two parts one after the other at nearly the same place, which never
    get the verdict of one of them.

    So it is where the part at rest moves once, and where the verdict changes together with
    something else: the place; a frame without any part between; or the score at a stroke, with
    LEAST_RUN frames of one verdict before and of the other after.

    Args:
        frames, sightings: of every frame of the part, oldest first. gaps: before which of them the
            view was empty.
    """
    judged = [i for i, frame in enumerate(frames) if frame.score is not None]
    places = [sightings[i] for i in judged]
    scores = np.array([frames[i].score for i in judged], np.float64)

    def something_changes(at: int) -> bool:
        shorter = min(at, len(judged) - at)
        return (
            any(judged[at - 1] < gap <= judged[at] for gap in gaps)
            or (shorter > 1 and steps_aside(places, at))
            or (shorter >= LEAST_RUN and jumps(scores, at))
        )

    def verdict_changes(at: int) -> bool:
        before, after = (
            aggregate([frames[i] for i in side], combine).judgment.code
            for side in (judged[:at], judged[at:])
        )
        return before is not after

    return any(
        is_single_step(places, at) or (something_changes(at) and verdict_changes(at))
        for at in range(1, len(judged))
    )


def _first_with(frames: Sequence[Judgment], reasons: Collection[Reason]) -> Decided | None:
    """The first UNKNOWN frame that has one of these reasons."""
    return next(
        (
            Decided(frame, i)
            for i, frame in enumerate(frames)
            if frame.code is Code.UNKNOWN and frame.reason in reasons
        ),
        None,
    )


def _why_not_judged(reasons: Sequence[Reason], judged: int) -> Reason | None:
    """Why a part is UNKNOWN of which `judged` frames were judged and others not, for these reasons;
    None if the judged frames decide.
    """
    counts = Counter(reasons)
    if counts[Reason.TOO_LARGE] > 1:
        return Reason.TOO_LARGE
    return None if judged > len(reasons) else counts.most_common(1)[0][0]


def _with_score(frame: Judgment, score: np.float32) -> Judgment:
    """The frame's judgment under the part's score: the same object unless the score is not its
    own.
    """
    if score == frame.score or frame.threshold is None:
        return frame
    code, reason = (
        (Code.NG, Reason.ANOMALY) if score > frame.threshold else (Code.OK, Reason.NORMAL)
    )
    return replace(frame, code=code, reason=reason, score=score)
