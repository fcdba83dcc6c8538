"""The frames of one part to one judgement.

How frames that could not be judged combine, always towards UNKNOWN:

- A fault of the station (not finite, engine, stale, camera lost, camera mismatch, uncalibrated) in any frame makes
  the part UNKNOWN with that reason: a station that was broken for one frame of a part has not seen that part.
- Frames without the part (`no_part`: it was just entering or leaving, or flickered) are left out.
- Of the frames that show the part, those that are too large or lack depth were not judged. One such frame is flicker
  as long as most frames were judged; two too large ones are two parts in one view; otherwise the judged frames need
  a strict majority. If not, the part is UNKNOWN with the most frequent of those reasons.
- What is left is decided by the frame whose score is the median of the judged ones. With an even number the higher
  of the two middle scores: a score that was measured, with its map, and not a mean that no frame ever had.

So a part is OK only if most of its frames were judged and the median of them is at or below the threshold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge.types import Code, Judgement, Reason

STATION_FAULTS = (
    Reason.CAMERA_MISMATCH, Reason.UNCALIBRATED, Reason.CAMERA_LOST, Reason.STALE, Reason.ENGINE, Reason.NOT_FINITE,
    Reason.STORAGE, Reason.LATE,
)
Combine = Callable[[NDArray[np.float32]], tuple[int, np.float32]]   # (n,) scores -> deciding frame, the part's score


def median_of(scores: NDArray[np.float32]) -> tuple[int, np.float32]:
    """The median frame and its score; of the two middle ones the higher if n is even. scores: (n,) float32, n >= 1."""
    index = int(np.argsort(scores, kind="stable")[len(scores) // 2])
    return index, scores[index]


def highest_of(scores: NDArray[np.float32]) -> tuple[int, np.float32]:
    """The frame with the highest score: the strictest, for defects that only one view shows. scores: (n,) float32."""
    index = int(np.argmax(scores))
    return index, scores[index]


def mean_of(scores: NDArray[np.float32]) -> tuple[int, np.float32]:
    """The mean score, and the frame nearest to it to show for it. scores: (n,) float32."""
    mean = np.float32(scores.mean(dtype=np.float64))
    return int(np.argmin(np.abs(scores - mean))), mean


COMBINE: dict[str, Combine] = {"median": median_of, "max": highest_of, "mean": mean_of}


def aggregate(frames: Sequence[Judgement], combine: Combine = median_of) -> tuple[Judgement, int]:
    """One judgement for a part, and the index of the frame it rests on.

    Args:
        frames: every frame of the part, oldest first, at least one.
        combine: what the judged frames' scores become.
    """
    for index, frame in enumerate(frames):
        if frame.reason in STATION_FAULTS:
            return frame, index
    seen = [i for i, frame in enumerate(frames) if frame.reason is not Reason.NO_PART]
    if not seen:
        return frames[0], 0
    judged = [i for i in seen if frames[i].score is not None]
    reasons = Counter(frames[i].reason for i in seen if frames[i].score is None)
    if reasons[Reason.TOO_LARGE] > 1:
        return _first(frames, Reason.TOO_LARGE)
    if 2 * len(judged) <= len(seen):
        return _first(frames, reasons.most_common(1)[0][0])
    position, score = combine(np.array([frames[i].score for i in judged], np.float32))
    index = judged[position]
    return _with_score(frames[index], score), index


def _with_score(frame: Judgement, score: np.float32) -> Judgement:
    """The frame's judgement under the part's score: the same object unless the score is not its own."""
    if score == frame.score or frame.threshold is None:
        return frame
    code, reason = (Code.NG, Reason.ANOMALY) if score > frame.threshold else (Code.OK, Reason.NORMAL)
    return replace(frame, code=code, reason=reason, score=score)


def _first(frames: Sequence[Judgement], reason: Reason) -> tuple[Judgement, int]:
    index = next(i for i, frame in enumerate(frames) if frame.reason is reason and frame.code is Code.UNKNOWN)
    return frames[index], index
