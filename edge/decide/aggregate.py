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

import numpy as np

from edge.types import Judgement, Reason

STATION_FAULTS = (
    Reason.CAMERA_MISMATCH, Reason.UNCALIBRATED, Reason.CAMERA_LOST, Reason.STALE, Reason.ENGINE, Reason.NOT_FINITE,
    Reason.STORAGE, Reason.LATE,
)
Pick = Callable[[Sequence[np.float32]], int]


def median_index(scores: Sequence[np.float32]) -> int:
    """Index of the median, the higher of the two middle ones if n is even. scores: (n,) float32, n >= 1."""
    return int(np.argsort(np.asarray(scores, np.float32), kind="stable")[len(scores) // 2])


def highest_index(scores: Sequence[np.float32]) -> int:
    """Index of the highest score: the strictest choice, for defects that only one view shows. scores: (n,) float32."""
    return int(np.argmax(np.asarray(scores, np.float32)))


def aggregate(frames: Sequence[Judgement], pick: Pick = median_index) -> tuple[Judgement, int]:
    """One judgement for a part, and the index of the frame it rests on.

    Args:
        frames: every frame of the part, oldest first, at least one.
        pick: which of the judged frames decides, by their scores.
    """
    for index, frame in enumerate(frames):
        if frame.reason in STATION_FAULTS:
            return frame, index
    seen = [i for i, frame in enumerate(frames) if frame.reason is not Reason.NO_PART]
    if not seen:
        return frames[0], 0
    judged = [(i, score) for i in seen if (score := frames[i].score) is not None]
    reasons = Counter(frames[i].reason for i in seen if frames[i].score is None)
    if reasons[Reason.TOO_LARGE] > 1:
        return _first(frames, Reason.TOO_LARGE)
    if 2 * len(judged) <= len(seen):
        return _first(frames, reasons.most_common(1)[0][0])
    index = judged[pick([score for _, score in judged])][0]
    return frames[index], index


def _first(frames: Sequence[Judgement], reason: Reason) -> tuple[Judgement, int]:
    index = next(i for i, frame in enumerate(frames) if frame.reason is reason)
    return frames[index], index
