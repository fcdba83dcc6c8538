from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edge.line.base import LineSetup
from edge.line.commands import CommandAnswer, Commanded
from edge.line.inbound import Ack, Asked, Refusal, Reply
from edge.line.json_lines import line_of
from edge.line.message import StationState, record_fields
from edge.line.opcua import OpcUaLine
from edge.line.outbox import Outbox
from edge.types import Code, Reason
from tests.support.broker import wait_until
from tests.support.line import RECORD
from tests.support.opcua import (
    ClientKey,
    Loop,
    RunningServer,
    UaClient,
    free_port,
    make_users,
    opcua_config,
)


@dataclass
class PlayedStation:
    """The line of a station, and a station behind it that does what a test wants.

    refuses: every trigger. answers: whether an accepted one gets its verdict at once.
    """

    root: Path
    outbox: Outbox
    port: int
    refuses: Refusal | None = None
    answers: bool = True
    code: Code = Code.NG
    seq: int = 4710
    state: StationState = field(default_factory=lambda: StationState("s1", "online", "", True))
    commanded: list[Commanded] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    mode: str = "triggered"

    def start(self) -> None:
        setup = LineSetup(
            opcua_config(self.port, self.mode), self.root, self.outbox, lambda: self.state,
            lambda: self.state.ready, lambda: None,
            self._hear if self.mode == "triggered" else None, self._take,
        )  # fmt: skip
        self.line = OpcUaLine(setup)
        self.line.start()

    def tell_late(self, part: str) -> None:
        """A verdict that was in time here, and waited on its way to the server."""
        fields = record_fields(replace(RECORD, part=part), "s1", self.seq)
        self.line._untold[self.seq] = None
        past_ns = time.monotonic_ns() - 1
        self.line._gateway.send(line_of("verdict", id="", deadline_ns=past_ns, fields=fields))

    def tell(self, part: str, reply: Reply, n: int | None = None, after_s: float = 5.0) -> bool:
        reason = {Code.NG: Reason.ANOMALY, Code.OK: Reason.NORMAL, Code.UNKNOWN: Reason.LATE}
        fields = record_fields(
            replace(RECORD, part=part, code=self.code, reason=reason[self.code]), "s1", self.seq
        )
        if n is not None:
            fields["n"] = n
        deadline_ns = time.monotonic_ns() + round(1e9 * after_s)
        return self.line.answer(fields, deadline_ns, time.monotonic_ns(), reply)

    def _hear(self, asked: Asked) -> None:
        self.asked.append(asked)
        request = asked.request
        if self.refuses is not None:
            ack = Ack(request.part, request.n, None, self.refuses)
            self.line.acknowledge(ack, asked.reply)
            return
        self.seq += 1
        self.line.acknowledge(Ack(request.part, request.n, self.seq), asked.reply)
        if self.answers:
            self.tell(request.part, asked.reply, request.n)

    def _take(self, commanded: Commanded) -> None:
        self.commanded.append(commanded)
        command = commanded.command
        answer = CommandAnswer(command.verb.value, commanded.who, f"{command.verb.value} is done")
        self.line.answer_command(answer, commanded.reply)


@dataclass(frozen=True)
class Cell:
    """The server, its station and the means to connect to it."""

    loop: Loop
    station: PlayedStation
    key: ClientKey
    folder: Path

    @property
    def root(self) -> Path:
        return self.station.root

    def client(self, user: str | None = "plc", **more: object) -> UaClient:
        key = more.pop("key", self.key)
        return UaClient(self.loop, self.station.port, key, user, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """One server for all tests here: its address space takes seconds to build."""
    root = tmp_path_factory.mktemp("opcua")
    (root / "run/edge").mkdir(parents=True)
    make_users(root)
    key, port, loop = ClientKey(root / "keys").trusted_by(root), free_port(), Loop()
    outbox = Outbox(root / "line.sqlite")
    station = PlayedStation(root, outbox, port)
    station.start()
    server = RunningServer(loop, root, opcua_config(port))
    try:
        yield Cell(loop, station, key, root)
    finally:
        server.stop()
        station.line.stop()
        outbox.close()
        loop.close()


@pytest.fixture
def cell(served: Cell) -> Cell:
    station = served.station
    station.refuses, station.answers, station.code = None, True, Code.NG
    station.state = StationState("s1", "online", "", ready=True)
    station.line.state_changed()
    return served


@pytest.fixture(scope="session")
def connected(served: Cell) -> Iterator[UaClient]:
    """A client that listens to all events, for the tests that leave it as it was."""
    client = served.client().connect()
    client.listen()
    yield client
    client.close()


@pytest.fixture
def plc(cell: Cell, connected: UaClient) -> UaClient:
    wait_until(lambda: connected.status("Ready") == "Good", 20, "the station is not there")
    wait_until(lambda: cell.station.line.verdict_problem is None, 10, "no client seen")
    return connected
