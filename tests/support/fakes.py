"""A camera that plays a script, and engines whose outputs a test sets."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.camera.protocol import EndOfFrames
from edge.errors import EngineError
from edge.frames.camera_info import CameraInfo
from edge.schema import Precision
from edge.types import Frame, Intrinsics
from tests.support.station import HEIGHT, INTRINSICS, SERIAL, WIDTH, Shot, draw_shot
from tests.support.tiny_bundle import UNIT

Step = Frame | Exception | Callable[[], object]
# the place of a round part in the middle, away from the border
WHOLE = (WIDTH / 2, HEIGHT / 2, 100.0, 100.0, 0.0, 0.0)


def frame_of(shot: Shot, number: int, **changes: Any) -> Frame:
    color, depth = draw_shot(shot, number % 4)
    return replace(Frame(color, depth, UNIT, INTRINSICS, SERIAL, number, 0), **changes)


def frames_of(shots: Sequence[Shot], first: int = 1, **changes: Any) -> list[Frame]:
    """One frame of each shot, numbered from `first` on."""
    return [frame_of(shot, number, **changes) for number, shot in enumerate(shots, first)]


@dataclass
class ScriptedCamera:
    """Plays frames, raises exceptions and calls functions in order, then ends. Frames are dated
    when they are delivered, unless they have a date of their own.
    """

    script: Sequence[Step]
    interval_s: float = 0.004
    serial: str = SERIAL
    info: CameraInfo = field(default_factory=lambda: CameraInfo(width=WIDTH, height=HEIGHT))
    opened: int = 0
    _next: int = 0

    def open(self) -> None:
        self.opened += 1

    def next_frame(self, timeout_s: float) -> Frame:
        time.sleep(self.interval_s)
        while self._next < len(self.script):
            step = self.script[self._next]
            self._next += 1
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Frame):
                return (
                    step
                    if step.captured_mono_ns
                    else replace(step, captured_mono_ns=time.monotonic_ns())
                )
            step()
        raise EndOfFrames("the script is over")

    def close(self) -> None:
        pass


@dataclass
class ScriptedEngine:
    """Answers with these outputs (place: six numbers); an EngineError instead of one is raised.

    The last one stays.
    """

    answers: Sequence[Mapping[str, float | Sequence[float]] | Exception]
    name: str = "scripted"
    precision: Precision = "fp32"
    delay_s: float = 0.0
    runs: int = 0

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        return {"color": ((1, HEIGHT, WIDTH, 3), np.dtype(np.uint8))}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        time.sleep(self.delay_s)
        answer = self.answers[min(self.runs, len(self.answers) - 1)]
        self.runs += 1
        if isinstance(answer, Exception):
            raise answer
        values = {"score": 1.0, "area": 0.3, "valid": 1.0, "place": WHOLE, **answer}
        cells = np.full((1, 1, 12, 16), values.pop("cell", 0.5), np.float32)
        return {
            "map": cells,
            **{name: np.array([value], np.float32) for name, value in values.items()},
        }

    def close(self) -> None:
        pass


FAILED = EngineError("the device fell off the bus")


def other_lens(frame: Frame) -> Frame:
    i = frame.intrinsics
    return replace(
        frame, intrinsics=Intrinsics(i.width, i.height, i.fx * 1.04, i.fy * 1.04, i.cx, i.cy)
    )


def committed(root: Path) -> list[dict[str, Any]]:
    """Every record in the outbox of a station, by number; none before it was ever run."""
    path = root / "var/lib/edge/line.sqlite"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as reader:
        if not reader.execute("SELECT 1 FROM sqlite_master WHERE name = 'records'").fetchone():
            return []
        return [
            json.loads(row[0]) for row in reader.execute("SELECT fields FROM records ORDER BY seq")
        ]
