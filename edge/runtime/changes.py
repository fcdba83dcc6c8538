"""A new bundle or new site state beside the one that judges: noticed and resolved here, taken up
between two parts.

Resolving may mean building an engine, which takes minutes: it is done in a thread, so that the main
loop never waits for it. TensorRT's builder releases the interpreter's lock, and the station goes on
judging with what it has.

    Settled  --another fingerprint-->  Opening  --resolved: offered, or refused-->  Settled

The two states are values that are replaced, never changed, and belong to the main loop. What is
resolved is handed over to the engine thread in edge.runtime.current.CurrentBundle.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from dataclasses import dataclass, replace

from edge.background import in_background
from edge.engine.protocol import Engine, one_line
from edge.errors import EdgeError
from edge.install.proven import ProvenEngine
from edge.runtime.active import (
    OPEN_LIMIT_S,
    ActiveBundle,
    EngineLoader,
    Fingerprint,
    fingerprint_of,
    resolve_active,
)
from edge.runtime.current import CurrentBundle
from edge.station.store import Installed, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """Nothing is to be opened.

    seen: the fingerprint that was dealt with last: its bundle judges, waits, or was refused.
    refused: why what is active is not what judges; empty where it is, or waits.
    """

    seen: Fingerprint
    refused: str = ""


@dataclass(frozen=True)
class Opening:
    """A change is being resolved.

    wanted: its fingerprint. overdue_s: on the monotonic clock, when it is assumed to hang; infinite
    once that was logged. refused: as in Settled, until the end of this.
    """

    wanted: Fingerprint
    result: Future[ActiveBundle]
    overdue_s: float
    refused: str


State = Settled | Opening


class Changes:
    """What is to judge next. Used by the main loop, except where a member says so."""

    def __init__(self, store: Store, load_engine: EngineLoader, current: CurrentBundle) -> None:
        """current: gets what is resolved here."""
        self._store, self._load_engine, self._current = store, load_engine, current
        running = current.get()
        self._state: State = Settled(running.fingerprint, running.refused)

    @property
    def is_opening(self) -> bool:
        """Whether a change is being resolved."""
        return isinstance(self._state, Opening)

    @property
    def refused(self) -> str:
        """Why what is active is not what judges; empty where it is, or will be."""
        return self._state.refused

    def refusal_of(self, wanted: Fingerprint) -> str | None:
        """Why what is active with this fingerprint is not taken up; empty where it judges, or
        waits; None where it is not dealt with yet. Any thread may ask: it reads one reference.
        """
        state = self._state
        return state.refused if isinstance(state, Settled) and state.seen == wanted else None

    @property
    def is_settled(self) -> bool:
        """Whether what was saved last judges, or is refused: until another change, nothing else is
        to judge. Any thread may ask.
        """
        is_known = self.refusal_of(fingerprint_of(self._store)) is not None
        return is_known and not self._current.is_waited_for

    def follow(self) -> None:
        """Begin to resolve a change, or look after the one that was begun; returns at once."""
        state = self._state
        if isinstance(state, Settled):
            self._state = self._look_for_change(state)
        elif state.result.done():
            self._state = self._finish(state)
        elif time.monotonic() > state.overdue_s:
            log.error(
                "an engine is not open after %.0f s, the station goes on as it was: restart it",
                OPEN_LIMIT_S,
            )
            self._state = replace(state, overdue_s=float("inf"))

    def _look_for_change(self, state: Settled) -> State:
        wanted, latest = fingerprint_of(self._store), self._current.latest
        if wanted == state.seen:
            return state
        result = in_background(
            "opening",
            lambda: resolve_active(self._store, lambda new: self._engine_for(new, latest)),
        )
        return Opening(wanted, result, time.monotonic() + OPEN_LIMIT_S, state.refused)

    def _engine_for(self, installed: Installed, latest: ActiveBundle) -> ProvenEngine:
        """New site state alone keeps the engine."""
        same = (
            installed.product == latest.installed.product
            and installed.digest == latest.installed.digest
        )
        return latest.proven if same else self._load_engine(installed)

    def _finish(self, opening: Opening) -> Settled:
        try:
            new = opening.result.result()
        except EdgeError as error:
            why = str(error)
        except Exception as error:  # no bundle ends the station that judges with another
            log.debug("what is active cannot be opened", exc_info=True)
            why = f"{type(error).__name__}: {one_line(error)}"
        else:
            unused = self._current.offer(new)
            if unused is not None:
                close_engine(unused)
            return Settled(new.fingerprint)
        log.error("the change is not taken up, the station goes on as it was: %s", why)
        return Settled(opening.wanted, why)


def close_engine(engine: Engine) -> None:
    """Give an engine's memory back; a failure of that is logged, and nothing else comes of it."""
    try:
        engine.close()
    except Exception as error:  # noqa: BLE001  a binding raises what it likes
        log.warning(
            "%s %s: its memory is not given back: %s",
            engine.name,
            engine.precision,
            one_line(error),
        )
