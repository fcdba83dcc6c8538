"""A station at work whose socket a test connects to, and what its camera shows."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.config import EdgeConfig
from edge.control.client import ControlClient, find_station
from edge.control.protocol import SOCKET
from edge.engine.protocol import Engine
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from tests.support.broker import wait_until
from tests.support.process import ENVIRONMENT, REPOSITORY
from tests.support.service import NO_BROKER, new_service, running
from tests.support.station import EMPTY, Shot, StationRoot
from tests.support.triggering import LiveCamera

FPS = 100
# a part stays open for as long as it is in view; a busy machine makes no frame stale, no part late
PATIENT = NO_BROKER.model_copy(
    update={
        "camera": NO_BROKER.camera.model_copy(update={"max_age_ms": 60_000}),
        "decision": NO_BROKER.decision.model_copy(
            update={"max_frames": 9999, "deadline_ms": 60_000}
        ),
    }
)
# opens a session and says so, then waits to be killed
HOLDER = """
import sys, time
from pathlib import Path
from calibration.remote import open_remote
station = open_remote(Path(sys.argv[1]), "parts", "anna")
print("open", flush=True)
time.sleep(600)
"""


@dataclass
class Socketed:
    """A station without a PLC, its camera and its socket."""

    root: Path
    camera: LiveCamera
    service: Service

    @property
    def path(self) -> Path:
        return self.root / SOCKET

    @property
    def state(self) -> dict[str, Any]:
        work = self.service.at_work
        assert work is not None
        found: dict[str, Any] = work.report.for_status()
        return found

    def show(self, shot: Shot, frames: int = 5) -> None:
        """Let the camera show this until so many frames of it were judged."""
        self.camera.show = shot
        begun = self.state["frames"] + 1  # one may have been on its way
        wait_until(lambda: self.state["frames"] >= begun + frames, 10, "no frames")

    def pass_part(self, shot: Shot) -> None:
        """One part comes into view and leaves."""
        for one in (EMPTY, shot, EMPTY):
            self.show(one)

    def client(self) -> ControlClient:
        found = find_station(self.root)
        assert found is not None
        return found


@contextmanager
def socketed(
    station: StationRoot,
    show: Shot | None = EMPTY,
    engine: Engine | None = None,
    config: EdgeConfig = PATIENT,
) -> Iterator[Socketed]:
    """A station at work, once its camera has given frames. engine: in place of the bundle's."""
    camera = LiveCamera(show, FPS)
    service = new_service(station, [], engine, RunPlan(), config, make_camera=lambda _: camera)
    cell = Socketed(station.root, camera, service)
    with running(service):
        wait_until(lambda: service.at_work is not None and cell.path.exists(), 20, "no socket")
        wait_until(lambda: show is None or cell.state["frames"] > 3, 20, "no frames")
        yield cell


@contextmanager
def holding_process(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has opened a session; killed at the end."""
    words = [sys.executable, "-c", HOLDER, str(root)]
    process = subprocess.Popen(
        words, cwd=REPOSITORY, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield process
    finally:
        process.kill()
        process.communicate()
