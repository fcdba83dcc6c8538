"""Frames that a calibration has scored by the engine that judges: in the engine thread, between two
frames of the camera.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from edge.errors import CalibrationError
from edge.runtime.active import ActiveBundle
from edge.runtime.pipeline import SiteState, run_graph
from edge.types import Frame

WORK_S = 0.2  # between two frames of the camera: these may wait so long, which makes none stale

Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class _Job:
    window: Frame
    site: SiteState
    done: Future[Outputs] = field(default_factory=Future)


class Scoring:
    """What waits to be scored. Thread-safe; how much waits is bounded by who asks: one request of
    one session at a time.
    """

    def __init__(self) -> None:
        """Nothing waits."""
        self._lock = threading.Lock()
        self._jobs: deque[_Job] = deque()

    @property
    def has_work(self) -> bool:
        """Whether a frame waits."""
        return bool(self._jobs)

    def ask(self, window: Frame, site: SiteState) -> Future[Outputs]:
        """Have a cropped frame scored under these site inputs; the future may get any exception of
        the engine.
        """
        job = _Job(window, site)
        with self._lock:
            self._jobs.append(job)
        return job.done

    def drop_all(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            jobs, self._jobs = list(self._jobs), deque()
        for job in jobs:
            job.done.set_exception(CalibrationError("the calibration has ended: repeat it"))

    def work(self, active: ActiveBundle) -> None:
        """Score what waits, for at most WORK_S and the frame that is at work then. For the engine
        thread: no exception leaves this.
        """
        if not self._jobs:
            return
        end_s = time.monotonic() + WORK_S
        while time.monotonic() < end_s:
            with self._lock:
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job.done.set_result(run_graph(job.window, job.site, active.engine))
            except Exception as error:  # noqa: BLE001  carried to the client's thread
                job.done.set_exception(error)
