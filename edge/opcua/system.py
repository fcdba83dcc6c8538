"""The vision system that clients see: what the station says becomes nodes and events, and what
methods ask goes to the station.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from asyncua import ua

from edge.line.json_lines import line_of
from edge.opcua.names import JOB_STARTED, RESULT_READY, STATE_CHANGED
from edge.opcua.nodes import Nodes
from edge.opcua.shown import (
    LOST,
    UNKNOWN_YET,
    States,
    event_of,
    last_values,
    machine_values,
    result_of,
    state_values,
    states_of,
)

log = logging.getLogger(__name__)

ANSWER_S = 2.0  # the station's: to a trigger at once, to a command when it is carried out
COMMAND_ANSWER_S = 20.0
JOBS_LIMIT = 256  # accepted and not answered yet: more than a station takes
RESULTS_LIMIT = 100  # that GetResultById finds


@dataclass(frozen=True)
class Answer:
    """What the station has said to a trigger or a command. reason: empty if it was accepted.

    seq: of an accepted trigger. more: the field that is wrong, or a sentence.
    """

    reason: str
    more: str = ""
    seq: int | None = None

    @property
    def sentence(self) -> str:
        """The reason, and what belongs to it."""
        return ": ".join(filter(None, (self.reason, self.more)))


@dataclass(frozen=True)
class Pending:
    """A question to the station."""

    answer: asyncio.Future[Answer]
    meas_id: str = ""


NO_STATION = Answer("no_station")


class VisionSystem:
    """Between the nodes and the station. Everything runs in the event loop."""

    def __init__(self) -> None:
        """Give it `nodes` and `send` before anything is heard."""
        self.nodes: Nodes
        self.send: Callable[[bytes], bool]
        self.mode, self.deadline_ms = "", 0  # of [decision]; known once the station is there
        self.product = self.bundle = ""  # that judges now
        self.latest: Mapping[str, Any] | None = None
        self.results: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._asked: dict[str, Pending] = {}
        self._jobs: OrderedDict[int, str] = OrderedDict()  # number of each open job -> its MeasId
        self._numbers = itertools.count(1)
        self._states = UNKNOWN_YET
        self._said: Mapping[str, Any] | None = None  # the last state
        self._hearers: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[None]]] = {
            "hello": self._hear_hello,
            "state": self._hear_state,
            "ack": self._hear_ack,
            "verdict": self._hear_verdict,
            "last": self._hear_last,
            "answer": self._hear_answer,
        }

    async def hear(self, said: Mapping[str, Any]) -> None:
        """A line of the station. One of a kind that this version does not know is passed over."""
        hearer = self._hearers.get(said["t"])
        if hearer is not None:
            await hearer(said)

    async def lose(self) -> None:
        """The station is gone: what was open stays without an answer, and the nodes say so."""
        for pending in self._asked.values():
            if not pending.answer.done():
                pending.answer.set_result(NO_STATION)
        self._asked.clear()
        self._jobs.clear()
        self._said = None
        await self.nodes.blank(ua.StatusCodes.BadNoCommunication)
        await self._enter(LOST)

    async def ask(
        self, kind: str, /, meas_id: str = "", limit_s: float = ANSWER_S, **said: Any
    ) -> Answer:
        """Ask the station, and wait for its answer at most limit_s.

        kind, said: of the line. meas_id: kept until the answer.
        """
        name = str(next(self._numbers))
        pending = Pending(asyncio.get_running_loop().create_future(), meas_id)
        self._asked[name] = pending
        try:
            if not self.send(line_of(kind, id=name, **said)):
                return NO_STATION
            return await asyncio.wait_for(pending.answer, limit_s)
        except asyncio.TimeoutError:
            return NO_STATION
        finally:
            self._asked.pop(name, None)

    async def _hear_hello(self, said: Mapping[str, Any]) -> None:
        self.mode, self.deadline_ms = said["mode"], said["deadline_ms"]
        log.info("station %s is there, mode %s", said["station"], self.mode)

    async def _hear_state(self, said: Mapping[str, Any]) -> None:
        self._said = said
        details = said.get("details") or {}
        self.product, self.bundle = details.get("product") or "", details.get("bundle") or ""
        await self.nodes.write(state_values(said, self._states))
        await self._show_states()

    async def _hear_ack(self, said: Mapping[str, Any]) -> None:
        pending = self._asked.get(said["id"])
        if said["seq"] is not None:
            await self._open(said, "" if pending is None else pending.meas_id)
        if pending is not None and not pending.answer.done():
            answer = Answer(said["reason"], said["field"], said["seq"])
            pending.answer.set_result(answer)

    async def _open(self, said: Mapping[str, Any], meas_id: str) -> None:
        is_new = said["seq"] not in self._jobs
        self._jobs[said["seq"]] = meas_id
        while len(self._jobs) > JOBS_LIMIT:
            self._jobs.popitem(last=False)
        if is_new:
            job = {"JobId": str(said["seq"]), "PartId": said["part"], "MeasId": meas_id}
            fields = {**job, "N": said["n"] or 0}
            await self.nodes.fire(JOB_STARTED, fields, f"part {said['part']}: job {said['seq']}")
            await self._show_states()

    async def _hear_verdict(self, said: Mapping[str, Any]) -> None:
        fields = said["fields"]
        meas_id = self._jobs.pop(fields["seq"], None)
        in_time = time.monotonic_ns() < said["deadline_ns"]  # both see the same clock
        if in_time:
            result = result_of(fields, self._meas_id(fields, meas_id))
            self._keep(result)
            await self.nodes.write(last_values(result))
            await self.nodes.fire(RESULT_READY, event_of(result), result["Text"])
        self.send(line_of("told", seq=fields["seq"], in_time=in_time))
        await self._show_states()

    def _meas_id(self, fields: Mapping[str, Any], meas_id: str | None) -> str:
        """As the client gave it; of a repeat, as in its first answer."""
        if meas_id is not None:
            return meas_id
        known = self.results.get(fields["id"])
        return "" if known is None else str(known["MeasId"])

    async def _hear_last(self, said: Mapping[str, Any]) -> None:
        result = result_of(said["fields"], self._meas_id(said["fields"], None))
        self._keep(result)
        await self.nodes.write(last_values(result))

    def _keep(self, result: Mapping[str, Any]) -> None:
        self.latest = result
        self.results[result["ResultId"]] = result
        while len(self.results) > RESULTS_LIMIT:
            self.results.popitem(last=False)

    async def _hear_answer(self, said: Mapping[str, Any]) -> None:
        pending = self._asked.get(said["id"])
        if pending is not None and not pending.answer.done():
            pending.answer.set_result(Answer(said["reason"], said["result"]))

    async def _show_states(self) -> None:
        if self._said is not None:
            await self._enter(states_of(self._said, self.mode, len(self._jobs)))

    async def _enter(self, states: States) -> None:
        if states == self._states:
            return
        before, self._states = self._states, states
        await self.nodes.write(machine_values(states))
        told = [f"{one.machine}/{one.mode}".rstrip("/") for one in (before, states)]
        fields = dict(zip(("FromState", "ToState"), told, strict=True))
        await self.nodes.fire(STATE_CHANGED, fields, " -> ".join(told))
