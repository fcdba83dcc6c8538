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
from collections.abc import Callable, Sequence
from dataclasses import replace

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
LEAST_RUN = 3  # frames: as many as open a part
Combine = Callable[
    [NDArray[np.float32]], tuple[int, np.float32]
]  # (n,) scores -> deciding frame, the part's score


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


def aggregate(frames: Sequence[Judgment], combine: Combine = median_of) -> tuple[Judgment, int]:
    """One judgment for a part, and the index of the frame it rests on.

    Args:
        frames: every frame of the part, oldest first, at least one.
        combine: what the judged frames' scores become.
    """
    for index, frame in enumerate(frames):
        if frame.reason in STATION_FAULTS:
            return frame, index
    seen = [
        i for i, frame in enumerate(frames) if frame.reason not in (Reason.NO_PART, Reason.PARTIAL)
    ]
    if not seen:
        index = next((i for i, frame in enumerate(frames) if frame.reason is Reason.PARTIAL), 0)
        return frames[index], index
    judged = [i for i in seen if frames[i].score is not None]
    reasons = Counter(frames[i].reason for i in seen if frames[i].score is None)
    if reasons[Reason.TOO_LARGE] > 1:
        return _first(frames, Reason.TOO_LARGE)
    if 2 * len(judged) <= len(seen):
        return _first(frames, reasons.most_common(1)[0][0])
    position, score = combine(np.array([frames[i].score for i in judged], np.float32))
    index = judged[position]
    return _with_score(frames[index], score), index


def shows_two_parts(
    frames: Sequence[Judgment],
    sightings: Sequence[Sighting],
    gaps: Sequence[int],
    combine: Combine = median_of,
) -> bool:
    """Whether the part at rest moves once, or the verdict changes within the part where something
    else changes too.

    Its place; a frame without any part; or its score at a stroke, with LEAST_RUN frames of one
    verdict before and of the other after. So two parts that follow each other at nearly the same
    place never get the verdict of one of them.

    Args:
        frames, sightings: of every frame of the part, oldest first. gaps: before which of them the
            view was empty.
    """
    judged = [i for i, frame in enumerate(frames) if frame.score is not None]
    places = [sightings[i] for i in judged]
    scores = np.array([frames[i].score for i in judged], np.float64)
    for at in range(1, len(judged)):
        if is_single_step(places, at):
            return True
        before, after = judged[:at], judged[at:]
        empty_between = any(before[-1] < gap <= after[0] for gap in gaps)
        shorter = min(at, len(judged) - at)
        elsewhere = shorter > 1 and steps_aside(places, at)
        if not (empty_between or elsewhere or (shorter >= LEAST_RUN and jumps(scores, at))):
            continue
        sides = [aggregate([frames[i] for i in side], combine)[0].code for side in (before, after)]
        if sides[0] is not sides[1]:
            return True
    return False


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


def _first(frames: Sequence[Judgment], reason: Reason) -> tuple[Judgment, int]:
    index = next(
        i for i, frame in enumerate(frames) if frame.reason is reason and frame.code is Code.UNKNOWN
    )
    return frames[index], index
