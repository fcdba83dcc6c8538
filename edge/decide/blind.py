"""Whether a camera that delivers on time sees anything: a lamp that failed, a covered lens, a
picture that never changes.

A frame on which nothing can be seen shows no part, and a station that waits for parts would take
that for an empty belt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from edge.types import Frame

STEP = 8  # every eighth row and column is looked at
DARK_LEVEL = 16  # of 255: in a black picture no more than DARK_SHARE of the pixels is above
DARK_SHARE = 0.001
LEAST_READ = 0.001  # of the pixels of a depth image: fewer readings are noise
FROZEN_FRAMES = 15  # identical frames, which no sensor's noise allows twice


@dataclass
class Sight:
    """Watches the frames of one camera, one after the other."""

    _digest: int = field(default=0, init=False)
    _repeats: int = field(default=0, init=False)

    def find_blindness(self, frame: Frame) -> str | None:
        """Why nothing can be seen in this frame, in one sentence with what to do; None if something
        may be.
        """
        if frame.depth is not None and np.count_nonzero(
            frame.depth[::STEP, ::STEP]
        ) < LEAST_READ * _looked_at(frame):
            return "the depth image has no reading: is the projector off, or the lens covered?"
        if (frame.color[::STEP, ::STEP].max(axis=2) > DARK_LEVEL).mean() <= DARK_SHARE:
            return "the picture is black: look at lamp, lens and exposure"
        return None

    def find_freeze(self, frame: Frame) -> str | None:
        """Why this frame is no new picture, though its number is new; None if it is one."""
        digest = crc32(np.ascontiguousarray(frame.color[::STEP]).data)
        if frame.depth is not None:
            digest = crc32(np.ascontiguousarray(frame.depth[::STEP]).data, digest)
        self._repeats = self._repeats + 1 if digest == self._digest else 0
        self._digest = digest
        if self._repeats < FROZEN_FRAMES:
            return None
        return (
            f"the last {self._repeats + 1} frames are one and the same picture: the camera stands"
            " still, restart it"
        )


def _looked_at(frame: Frame) -> int:
    height, width = map(int, frame.color.shape[:2])
    return math.ceil(height / STEP) * math.ceil(width / STEP)
