"""Whether the engine keeps up with the camera: what share of its frames is judged."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

WINDOW = 30  # judged frames
LEAST_SHARE = 0.5  # of the camera's frames: with fewer, a part may pass in too few judged ones


@dataclass
class FramePace:
    """Counts by the camera's own frame numbers, so that it needs no clock."""

    _numbers: deque[int] = field(default_factory=lambda: deque(maxlen=WINDOW), init=False)

    def keeps_up(self, number: int) -> bool:
        """Take the number of a judged frame; False once fewer than half of the camera's frames are
        judged.
        """
        if self._numbers and number <= self._numbers[-1]:
            self._numbers.clear()  # another camera, or the same one opened again
        self._numbers.append(number)
        delivered = self._numbers[-1] - self._numbers[0]
        return len(self._numbers) < WINDOW or LEAST_SHARE * delivered <= WINDOW - 1
