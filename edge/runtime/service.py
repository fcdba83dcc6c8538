"""`edge run` from its lock to its end; edge/runtime/at_work.py is what works in between."""

from __future__ import annotations

from edge.config import EdgeConfig
from edge.runtime.active import EngineLoader
from edge.runtime.at_work import AtWork
from edge.runtime.capture import CameraMaker
from edge.runtime.health import STALL_S, Health
from edge.runtime.notify import Notifier
from edge.runtime.plan import RunPlan
from edge.runtime.power_check import note_power
from edge.runtime.progress import Progress
from edge.runtime.starting import open_first
from edge.runtime.status_file import forget_status
from edge.runtime.stopping import StopRequest, StopSignals
from edge.station.lock import RUN, locked
from edge.station.store import Store


class Service:
    """One run of one station.

    `run` returns when it was asked to stop, the source has ended, or max_parts were decided.
    """

    def __init__(
        self,
        store: Store,
        config: EdgeConfig,
        load_engine: EngineLoader,
        make_camera: CameraMaker,
        plan: RunPlan,
        notifier: Notifier | None = None,
        progress: Progress | None = None,
        signals: StopSignals | None = None,
    ) -> None:
        """progress: that the process of the camera makes steps of, too.

        signals: that ask this run to stop; None: only `stop` does.
        """
        self._store, self._config, self._plan = store, config, plan
        self._load_engine, self._make_camera = load_engine, make_camera
        self._notifier = notifier or Notifier()
        self._stop = StopRequest(signals)
        self.progress = progress or Progress()
        self.health = Health(None if plan.lossless else STALL_S)
        self.at_work: AtWork | None = None  # once the first engine is open; also after the end

    def stop(self) -> None:
        """End soon. Callable from any thread, not from a signal handler: see StopSignals."""
        self._stop.event.set()

    def run(self) -> int:
        """Judge parts. Returns how many were decided: none if it was stopped before it had an
        engine.

        Raises: BusyError if another process runs this root; BundleError, EngineError or ConfigError
            if there is nothing to judge with; StorageError if the outbox cannot be opened;
            DataError if a file to play cannot be read.
        """
        with locked(self._store.data, RUN, "edge run"):
            forget_status(self._store.root)
            first = open_first(self._store, self._load_engine, self._notifier, self._stop.is_asked)
            if first is None:
                self._notifier.stopping()
                return 0
            self.at_work = work = AtWork(
                self._store,
                self._config,
                self._load_engine,
                self._make_camera,
                self._plan,
                first,
                self.health,
                self.progress,
                self._notifier,
                self._stop,
            )
            note_power(self._store.root, self.health)
            work.start()
            try:
                work.watch()
            finally:
                work.shut_down()
        if work.failure is not None:
            raise work.failure
        return self.health.parts
