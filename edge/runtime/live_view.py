"""What a running station sees and says at this moment, for everybody who looks at it.

The decision thread only leaves the newest frame here, one reference. The picture is drawn and
encoded in the thread of a client, when one asks, and at most PER_SECOND times a second for all of
them together: in between everybody gets the same.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ConfigError
from edge.overlay import outline_above
from edge.runtime.parts import JudgedFrame
from edge.runtime.recent import RecentVerdicts
from edge.types import Code, Frame

PER_SECOND = 5.0
WIDTH = 640  # pixels, at most
QUALITY = 80

Said = Mapping[str, Any]


class LiveView:
    """Thread-safe."""

    def __init__(
        self, state: Callable[[], Said], recent: RecentVerdicts, session: Callable[[], Said | None]
    ) -> None:
        """state: flat, JSON types. session: who calibrates; None if nobody does."""
        self._state, self._recent, self._session = state, recent, session
        self._newest: JudgedFrame | None = None
        self._lock = threading.Lock()  # of those who look: guards what follows
        self._made: dict[bool, tuple[float, Said, bytes]] = {}  # of the crop, of the whole image
        self.encoded = 0  # pictures since the start

    def note(self, judged: JudgedFrame) -> None:
        """The newest frame. For the decision thread: it only replaces a reference."""
        self._newest = judged

    def look(self, *, whole: bool = False) -> tuple[Said, bytes]:
        """What there is to say, and the picture as JPEG; empty bytes where there is none yet.

        whole: the picture of the whole color image, without a line, instead of the crop's.
        """
        with self._lock:
            now_s = time.monotonic()
            made = self._made.get(whole)
            if made is None or now_s >= made[0] + 1 / PER_SECOND:
                made = self._made[whole] = (now_s, *self._make(whole))
            return made[1:]

    def _make(self, whole: bool) -> tuple[Said, bytes]:
        judged = self._newest
        picture, jpeg = (None, b"") if judged is None else self._picture(judged, whole)
        said = {
            "state": self._state(),
            "picture": picture,
            "verdicts": self._recent.newest_last(),
            "session": self._session(),
        }
        return said, jpeg

    def _picture(self, judged: JudgedFrame, whole: bool) -> tuple[Said | None, bytes]:
        if judged.frame is None:
            return None, b""
        judgment, frame = judged.judgment, judged.frame
        drawn = _small(frame) if whole else drawn_view(judged, _window(judged, frame))
        self.encoded += 1
        said = {
            "frame": frame.frame_number,
            "age_ms": round((time.monotonic_ns() - frame.captured_mono_ns) / 1e6),
            "width": drawn.shape[1],
            "height": drawn.shape[0],
            "code": int(judgment.code),
            "reason": judgment.reason.value,
            "score": _number(judgment.score),
            "thr": _number(judgment.threshold),
            "area": judgment.area,
            "valid": judgment.valid,
        }
        return said, _jpeg(drawn)


def drawn_view(judged: JudgedFrame, window: Frame) -> NDArray[np.uint8]:
    """The window at most WIDTH pixels wide, (h, w, 3) RGB; where it is NG, a line around what the
    map has above the threshold.
    """
    small, judgment = _small(window), judged.judgment
    if judgment.code is not Code.NG or judgment.map is None or judgment.threshold is None:
        return small
    return outline_above(small, judgment.map, float(judgment.threshold))


def _small(window: Frame) -> NDArray[np.uint8]:
    """Its color, at most WIDTH pixels wide, (h, w, 3) RGB."""
    import cv2

    height, width = window.color.shape[:2]
    scale = min(1.0, WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(window.color, size, interpolation=cv2.INTER_AREA), np.uint8)


def _window(judged: JudgedFrame, frame: Frame) -> Frame:
    """The crop that is judged; the whole frame where there is none in it."""
    try:
        x, y, width, height = judged.active.site(frame.serial).crop
    except ConfigError:  # judging says so
        return frame
    window = frame.cropped(x, y, width, height)
    return window if window.color.shape[:2] == (height, width) else frame


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    import cv2

    swapped = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])


def _number(value: np.float32 | None) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
