"""The socket of a running station and what is behind it, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge.camera.device import DeviceFacts
from edge.config import EdgeConfig
from edge.control.protocol import SOCKET
from edge.control.server import ControlServer
from edge.decide.gate import Gate
from edge.decide.gate_factory import new_gate
from edge.runtime.active import ActiveBundle
from edge.runtime.control_desk import ControlDesk, PutRow
from edge.runtime.current import CurrentBundle
from edge.runtime.guide import Guide
from edge.runtime.guide_facts import GuideFacts
from edge.runtime.live_view import LiveView
from edge.runtime.parts import JudgedFrame
from edge.runtime.pause import Pause
from edge.runtime.plan import RunPlan
from edge.runtime.recent import RecentVerdicts
from edge.runtime.scoring import Scoring
from edge.runtime.session import Sessions, Shown
from edge.station.store import Store


@dataclass(frozen=True)
class Station:
    """What the socket needs of the running station.

    state: flat, JSON types. serial: of the camera, empty before its first frame. frame_problem:
    what is wrong with the frames now. is_settled: whether what was saved last judges, or is
    refused. The functions may be called by any thread once it has begun.
    """

    store: Store
    config: EdgeConfig
    plan: RunPlan
    current: CurrentBundle
    pause: Pause
    is_between_parts: Callable[[], bool]
    state: Callable[[], Mapping[str, Any]]
    serial: Callable[[], str]
    facts: Callable[[], DeviceFacts]
    frame_problem: Callable[[], str]
    is_settled: Callable[[], bool]
    put_row: PutRow


class AtSocket:
    """Sessions, scoring, live view, and the server that gives access to them.

    sessions and `note_frame` are the decision thread's, scoring the engine thread's; recent is
    filled by the threads that decide.
    """

    def __init__(self, station: Station) -> None:
        """Nothing is opened before start()."""
        self.scoring, self.recent = Scoring(), RecentVerdicts()
        self.sessions = Sessions(
            station.pause,
            station.current,
            station.is_between_parts,
            lambda active: _gate(active, station),
        )
        self._live = LiveView(station.state, self.recent, self.sessions.told)
        self._guide = Guide(station.store.root, station.store.data)
        desk = ControlDesk(
            station.config.station.station,
            self.sessions,
            self.scoring,
            self._live,
            self._guide,
            GuideFacts(station.current),
            station.serial,
            station.facts,
            station.frame_problem,
            station.is_settled,
            station.put_row,
        )
        self._server = ControlServer(station.store.root / SOCKET, desk)

    @property
    def is_open(self) -> bool:
        """Whether clients can connect."""
        return self._server.is_open

    def note_frame(self, judged: JudgedFrame) -> None:
        """The newest frame, for those who look."""
        self._live.note(judged)

    def show(self, judged: JudgedFrame) -> None:
        """A frame that belongs to no part, because a session is open."""
        self.sessions.take(judged)

    def start(self) -> None:
        """Let clients connect."""
        self._server.start()

    def stop(self, timeout_s: float) -> None:
        """Disconnect them, and end the step that one of them has begun."""
        self._guide.stop(timeout_s)
        self._server.stop(timeout_s)


def _gate(active: ActiveBundle, station: Station) -> Gate[Shown] | None:
    """What is in view when a session begins is shown to it, whatever was decided before."""
    if station.config.decision.is_triggered:
        return None
    decision, each_frame = station.config.decision, station.plan.each_frame
    return new_gate(active.rule, decision, each_frame, starts_unsure=False)
