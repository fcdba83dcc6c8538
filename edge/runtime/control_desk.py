"""What a running station answers over its socket. Called in the threads of the clients; whatever
waits here waits for frames, for the engine thread or for the client, and nobody waits for it.
"""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent import futures
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.camera.device import DeviceFacts
from edge.control.guide import GuideBegin, GuideLook, GuideOrder
from edge.control.protocol import (
    VERSION,
    CloseSession,
    FrameTold,
    Hello,
    Live,
    NextFrames,
    NextPart,
    OpenSession,
    Payload,
    Request,
    Score,
    StationTold,
    arrays_of,
    bytes_of,
    frame_of,
    tell_array,
    tell_frame,
    tell_judgment,
)
from edge.control.server import IDLE_S, Answer, Client
from edge.decide.gate import Part
from edge.errors import BusyError, CalibrationError, CameraLost, EdgeError
from edge.runtime.active import ActiveBundle
from edge.runtime.audit_rows import RowLimit
from edge.runtime.guide import Guide
from edge.runtime.guide_facts import GuideFacts
from edge.runtime.live_view import LiveView
from edge.runtime.pipeline import OF_THE_FRAME, SiteState, site_state
from edge.runtime.scoring import Scoring
from edge.runtime.session import Session, Sessions, Shown, recall, remember
from edge.types import Frame

log = logging.getLogger(__name__)

SILENCE_S = 600.0  # a session ends after this long without a request
LOOK_S = 0.2  # a client that has gone meanwhile is noticed after this long
SETTLED_S = 3.0  # what was saved is taken up before a session begins; engines may take longer
ROWS, ROWS_S = 120, 3600.0  # rows of sessions in the audit table
END: Answer = ({"end": True}, ())

PutRow = Callable[[str, Mapping[str, Any], str], None]


class ControlDesk:
    """See edge.control.server.Desk."""

    def __init__(
        self,
        station: str,
        sessions: Sessions,
        scoring: Scoring,
        live: LiveView,
        guide: Guide,
        facts_of_site: GuideFacts,
        serial: Callable[[], str],
        facts: Callable[[], DeviceFacts],
        frame_problem: Callable[[], str],
        is_settled: Callable[[], bool],
        put_row: PutRow,
    ) -> None:
        """station: its name. serial: of the camera that gave the last frame; empty before the
        first. facts_of_site: what is calibrated. frame_problem: what is wrong with the frames now,
        or empty. is_settled: whether what was saved last judges, or is refused. put_row: into the
        audit table, without waiting.
        """
        self._station, self._sessions, self._scoring, self._live = station, sessions, scoring, live
        self._guide, self._facts_of_site = guide, facts_of_site
        self._serial, self._facts, self._frame_problem = serial, facts, frame_problem
        self._is_settled = is_settled
        self._put_row, self._limit = put_row, RowLimit(ROWS, ROWS_S)

    def takes_data(self, client: Client) -> bool:
        """Only the one that calibrates sends pixels and tensors."""
        return self._sessions.is_open_for(client)

    def silence_s(self, client: Client) -> float:
        """See edge.control.server.Desk."""
        if self._sessions.end_of(client):
            return 0.0
        return SILENCE_S if self._sessions.is_open_for(client) else IDLE_S

    def farewell(self, client: Client) -> EdgeError | None:
        """See edge.control.server.Desk."""
        if not self._sessions.is_open_for(client):
            return None
        why = self._sessions.end_of(client) or f"nothing was asked for {SILENCE_S / 60:.0f} min"
        return CalibrationError(f"the calibration has ended, {why}: repeat it")

    def left(self, client: Client) -> None:
        """Its session is over, whatever was the reason."""
        self._close(client, "its client is gone")

    def answer(self, request: Request, payload: Payload, client: Client) -> Iterator[Answer]:
        """See edge.control.server.Desk."""
        if isinstance(request, Hello):
            yield self._hello()
        elif isinstance(request, Live):
            said, jpeg = self._live.look(whole=request.whole)
            yield said, (jpeg,) if jpeg else ()
        elif isinstance(request, OpenSession):
            yield self._open(request, client)
        elif isinstance(request, NextPart):
            yield from self._next_part(request, client)
        elif isinstance(request, NextFrames):
            yield from self._next_frames(request, client)
        elif isinstance(request, Score):
            yield from self._score(request, payload, client)
        elif isinstance(request, CloseSession):
            self._close(client, "")
            yield {}, ()
        else:
            yield self._guided(request, client)

    def _hello(self) -> Answer:
        return {"version": VERSION, "pid": os.getpid(), "station": self._station}, ()

    # --- the step that a person is guided through ---

    def _guided(self, request: GuideBegin | GuideOrder | GuideLook, client: Client) -> Answer:
        if isinstance(request, GuideBegin):
            self._guide.begin(request)
            log.info("guide=%s for=%s who=%s begun", request.what, request.who, client.who)
        elif isinstance(request, GuideOrder):
            self._guide.tell(request)
        state, site = self._guide.told(), self._facts_of_site.told(self._serial())
        told = None if state is None else state.model_dump(mode="json")
        return {"guide": told, "site": site.model_dump(mode="json")}, ()

    # --- sessions ---

    def _open(self, request: OpenSession, client: Client) -> Answer:
        serial = self._serial()
        if not serial:
            raise CameraLost(f"the camera has given no frame yet: {self._frame_problem()}")
        self._await_settled(client)
        session = self._sessions.open(client, request.who, request.what)
        self._note("session", client, {"for": session.who, "what": session.what})
        log.info("session=%s for=%s who=%s opened", session.what, session.who, client.who)
        told = _told(session.active, serial, self._facts())
        return {"station": told.model_dump(mode="json")}, ()

    def _await_settled(self, client: Client) -> None:
        """A calibration rests on the one before it: no part is shown to what that replaces.

        Raises: BusyError if what was saved last does not judge in time; Gone.
        """
        end_s = time.monotonic() + SETTLED_S
        while not self._is_settled():
            client.require_there()
            if time.monotonic() > end_s:
                raise BusyError(
                    "what was saved or installed last does not judge yet, a part is open or an"
                    " engine is being built: repeat the command"
                )
            time.sleep(LOOK_S)

    def _close(self, client: Client, why: str) -> None:
        session = self._sessions.close(client)
        if session is None:
            return
        self._scoring.drop_all()
        why = session.ended or why
        about = {"what": session.what, "parts": session.parts, **({"why": why} if why else {})}
        self._note("session ended", client, {"for": session.who, **about})
        log.info("session=%s for=%s parts=%d ended %s", *_words(session), why)

    def _note(self, act: str, client: Client, detail: Mapping[str, Any]) -> None:
        row = self._limit.limited({**detail, "pid": client.pid})
        if row is not None:
            self._put_row(act, row, client.who)

    def _next_part(self, request: NextPart, client: Client) -> Iterator[Answer]:
        session = self._sessions.of(client)
        part = self._awaited(session.waiting, request.timeout_s, client)
        missed, session.missed = session.missed, 0
        if part is None:
            yield {"part": None, "problem": self._frame_problem(), "missed": missed}, ()
            yield END
            return
        session.parts += 1
        yield {"part": _facts_of(part), "missed": missed}, ()
        for shown in part.frames:
            name = remember(session, shown)
            frame, pixels = tell_frame(shown.window, name)
            judgment, heat = tell_judgment(shown.judgment)
            said = {"frame": frame.model_dump(), "judgment": judgment.model_dump(mode="json")}
            yield {**said, "is_full": name is None}, (*pixels, *heat)
        yield END

    def _next_frames(self, request: NextFrames, client: Client) -> Iterator[Answer]:
        session = self._sessions.of(client)
        _drain(session.frames)
        session.wants_frames = True
        try:
            for _ in range(request.count):
                frame = self._awaited(session.frames, request.timeout_s, client)
                if frame is None:
                    why = self._frame_problem() or "the camera delivers nothing that can be used"
                    raise CameraLost(f"no frame within {request.timeout_s:g} s: {why}")
                told, pixels = tell_frame(frame)
                yield {"frame": told.model_dump()}, pixels
            yield END
        finally:
            session.wants_frames = False

    def _awaited(self, waiting: queue.Queue[Any], timeout_s: float, client: Client) -> Any:
        """The next thing that the decision thread leaves there; None if it leaves none in time.

        Raises: Gone if the client is, CalibrationError if the session is over.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            left_s = end_s - time.monotonic()
            try:
                return waiting.get(timeout=max(0.001, min(LOOK_S, left_s)))
            except queue.Empty:
                client.require_there()
                self._sessions.of(client)
                if left_s <= 0:
                    return None

    # --- scores ---

    def _score(self, request: Score, payload: Payload, client: Client) -> Iterator[Answer]:
        session = self._sessions.of(client)
        windows = [_window_of(one, session, payload) for one in request.frames]
        tensors = arrays_of(request.tensors, payload)
        payload.require_end()
        sites = _sites({window.serial for window in windows}, session.active, tensors)
        asked = [self._scoring.ask(window, sites[window.serial]) for window in windows]
        for done in asked:
            outputs = self._scored(done, client)
            wanted = {
                name: value
                for name, value in outputs.items()
                if request.outputs is None or name in request.outputs
            }
            told = {name: tell_array(value).model_dump() for name, value in wanted.items()}
            yield {"outputs": told}, [bytes_of(value) for value in wanted.values()]
        yield END

    def _scored(
        self, done: Future[dict[str, NDArray[Any]]], client: Client
    ) -> dict[str, NDArray[Any]]:
        while not futures.wait([done], LOOK_S).done:
            client.require_there()
        return done.result()


def _told(active: ActiveBundle, serial: str, facts: DeviceFacts) -> StationTold:
    try:
        site, problem = active.site(serial), ""
    except EdgeError as error:  # a calibration of the plane or the silhouette is the remedy
        site, problem = site_state(active.manifest, None), str(error)
    return StationTold(
        serial=serial,
        is_calibrated=site.is_calibrated,
        engine=active.engine.name,
        precision=active.engine.precision,
        product=active.installed.product,
        bundle=active.bundle,
        crop=site.crop,
        facts=facts,
        problem=problem,
    )


def _words(session: Session) -> tuple[str, str, int]:
    return session.what, session.who, session.parts


def _facts_of(part: Part[Shown]) -> dict[str, Any]:
    return {"frames": len(part.frames), "gaps": part.gaps, "two_parts": part.two_parts}


def _window_of(one: int | FrameTold, session: Session, payload: Payload) -> Frame:
    """Raises: CalibrationError, BadMessage."""
    return frame_of(one, payload) if isinstance(one, FrameTold) else recall(session, one)


def _sites(
    serials: Collection[str], active: ActiveBundle, proposed: Mapping[str, NDArray[Any]]
) -> dict[str, SiteState]:
    """This station's geometry for each camera under the proposed site inputs; those that are not
    proposed have their defaults, whatever judges now.

    Raises: CalibrationError if there is no plane, or an input is not one that may be proposed;
        ConfigError if the site's files are damaged.
    """
    _require_site_inputs(proposed, active)
    store, product, found = active.store, active.installed.product, {}
    for serial in serials:
        found[serial] = site_state(active.manifest, store.geometry(product, serial), proposed)
        if not found[serial].is_calibrated:
            raise CalibrationError(
                f"no background plane for {product} and camera {serial}: run `edge calibrate plane`"
                " on the empty table"
            )
    return found


def _require_site_inputs(proposed: Mapping[str, NDArray[Any]], active: ActiveBundle) -> None:
    known = active.engine.inputs.keys() - set(OF_THE_FRAME)
    for name, value in proposed.items():
        if name not in known:
            raise CalibrationError(
                f"the graph of this bundle has no site input {name}: it cannot be calibrated"
            )
        if not np.isfinite(value).all():
            raise CalibrationError(f"the site input {name} is not finite: calibrate again")


def _drain(frames: queue.Queue[Frame]) -> None:
    while True:
        try:
            frames.get_nowait()
        except queue.Empty:
            return
