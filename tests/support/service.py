"""A service over a scripted camera, without a broker, in the test's own process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edge.config import EdgeConfig
from edge.engine.protocol import Engine
from edge.install.proven import ProvenEngine, open_proven_engine
from edge.runtime.active import EngineLoader
from edge.runtime.capture import CameraMaker
from edge.runtime.notify import Notifier
from edge.runtime.plan import RunPlan
from edge.runtime.progress import Progress
from edge.runtime.service import Service
from edge.station.store import Installed
from tests.support.fakes import ScriptedCamera, Step
from tests.support.station import StationRoot

NO_BROKER = EdgeConfig.model_validate({"broker": {"enabled": False}, "station": {"station": "s1"}})


ALIVE, READY, STOPPING = "WATCHDOG=1", "READY=1", "STOPPING=1"


class Listener(Notifier):
    """Notes the messages to systemd and their times."""

    def __init__(self) -> None:
        super().__init__("")
        self.heard: list[tuple[float, str]] = []

    def _send(self, message: str) -> None:
        self.heard.append((time.monotonic(), message))

    def times_of(self, message: str, since_s: float, until_s: float) -> list[float]:
        return [
            at_s
            for at_s, said in list(self.heard)
            if said.startswith(message) and since_s <= at_s <= until_s
        ]


def taken_as_proven(engine: Engine, installed: Installed) -> ProvenEngine:
    """An engine that never saw the bundle's frames, with the threshold that the bundle expects."""
    return ProvenEngine(engine, installed.manifest.thresholds["fp32"])


def new_service(
    station: StationRoot,
    script: Sequence[Step],
    engine: Engine | None = None,
    plan: RunPlan | None = None,
    config: EdgeConfig = NO_BROKER,
    notifier: Notifier | None = None,
    make_camera: CameraMaker | None = None,
    progress: Progress | None = None,
    load_engine: EngineLoader | None = None,
) -> Service:
    """engine: judges in place of the installed bundle's. load_engine: opens it in place of the
    product's own way. plan: by default every frame of the script is judged.

    script: may be filled until the service runs, so that its steps can refer to the service.
    make_camera: gives the frames instead of the script.
    """
    camera = ScriptedCamera(script)

    def load(installed: Installed) -> ProvenEngine:
        return (
            open_proven_engine(station.store, installed)
            if engine is None
            else taken_as_proven(engine, installed)
        )

    return Service(
        station.store,
        config,
        load_engine or load,
        make_camera or (lambda _: camera),
        plan or RunPlan(lossless=True),
        notifier,
        progress,
    )


def in_thread(service: Service) -> tuple[threading.Thread, list[int]]:
    """Run it in a thread; the list gets what `run` returns."""
    parts: list[int] = []
    thread = threading.Thread(target=lambda: parts.append(service.run()))
    thread.start()
    return thread, parts


@contextmanager
def running(service: Service) -> Iterator[list[int]]:
    """Run it in a thread and stop it at the end; the list gets what `run` returns."""
    thread, parts = in_thread(service)
    try:
        yield parts
    finally:
        service.stop()
        thread.join(60)
        assert not thread.is_alive()
