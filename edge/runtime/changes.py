"""A new bundle or new site state beside the running one: noticed and resolved here, taken up
between two parts.

Resolving may mean building an engine, which takes minutes: it is done in a thread, so that the main
loop never waits for it. TensorRT's builder lets go of the interpreter, the station judges on with
what it has.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future

from edge.background import in_background
from edge.engine.protocol import Engine, one_line
from edge.errors import EdgeError
from edge.install.proven import ProvenEngine
from edge.runtime.active import (
    ActiveStation,
    EngineLoader,
    Fingerprint,
    fingerprint_of,
    resolve_station,
)
from edge.station.store import Installed, Store

log = logging.getLogger(__name__)

OPEN_LIMIT_S = 3600.0  # an engine that takes longer to open or build is taken to hang


class Changes:
    """What is to judge next.

    The main loop calls `follow`, the engine thread `are_waiting` and `take`.
    """

    def __init__(self, store: Store, load_engine: EngineLoader, running: ActiveStation) -> None:
        """running: what judges now."""
        self._store, self._load_engine = store, load_engine
        self._running = self._latest = running  # latest: the running one, or the one that waits
        self._next: ActiveStation | None = None
        self._lock = threading.Lock()  # over _running and _next
        self._opening: Future[ActiveStation] | None = None
        self._wanted: Fingerprint = running.fingerprint
        self._overdue_s = 0.0  # on the monotonic clock: when the opening is taken to hang
        self.refused = running.refused  # why what is active is not what judges; empty where it is

    @property
    def are_waiting(self) -> bool:
        """Whether a resolved change is to be taken."""
        return self._next is not None

    def take(self) -> ActiveStation:
        """What judges from now on: the change that waits, else what judged before.

        Only the engine thread takes.
        """
        with self._lock:
            self._running, self._next = self._next or self._running, None
            return self._running

    def follow(self) -> None:
        """Begin to resolve a change, or see to the one begun; returns at once."""
        if self._opening is not None:
            self._see_to(self._opening)
            return
        now, latest = fingerprint_of(self._store), self._latest
        if now == latest.fingerprint:
            return
        self._wanted, self._overdue_s = now, time.monotonic() + OPEN_LIMIT_S
        self._opening = in_background(
            "opening",
            lambda: resolve_station(self._store, lambda new: self._engine_for(new, latest)),
        )

    def _engine_for(self, installed: Installed, latest: ActiveStation) -> ProvenEngine:
        """New site state alone keeps the engine."""
        same = (
            installed.product == latest.installed.product
            and installed.digest == latest.installed.digest
        )
        return latest.proven if same else self._load_engine(installed)

    def _see_to(self, opening: Future[ActiveStation]) -> None:
        if not opening.done():
            if time.monotonic() > self._overdue_s:
                log.error(
                    "an engine is not open after %.0f s, the station goes on as it was: restart it",
                    OPEN_LIMIT_S,
                )
                self._overdue_s = float("inf")  # said once
            return
        self._opening = None
        try:
            self._offer(opening.result())
            self.refused = ""
        except EdgeError as error:
            self._refuse(str(error))
        except Exception as error:  # no bundle ends the station that judges with another
            log.debug("what is active cannot be opened", exc_info=True)
            self._refuse(f"{type(error).__name__}: {one_line(error)}")

    def _refuse(self, why: str) -> None:
        log.error("the change is not taken up, the station goes on as it was: %s", why)
        self.refused = why
        self._latest.fingerprint = self._wanted

    def _offer(self, station: ActiveStation) -> None:
        with self._lock:
            unused, self._next, running = self._next, station, self._running
        self._latest = station
        if (
            unused is not None
            and unused.engine is not running.engine
            and unused.engine is not station.engine
        ):
            close_engine(unused.engine)


def close_engine(engine: Engine) -> None:
    """Give an engine's memory back; one that fails at that is said and left."""
    try:
        engine.close()
    except Exception as error:  # noqa: BLE001  a binding raises what it likes
        log.warning(
            "%s %s: its memory is not given back: %s",
            engine.name,
            engine.precision,
            one_line(error),
        )
