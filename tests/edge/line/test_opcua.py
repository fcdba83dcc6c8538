"""The station's end of the socket to its OPC UA process: what is said; nobody is waited for."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.line import gateway
from edge.line.base import LineSetup
from edge.line.commands import Command, CommandAnswer, Commanded, CommandRefusal, Unreadable, Verb
from edge.line.inbound import Ack, Asked, Refusal, Reply
from edge.line.json_lines import SOCKET
from edge.line.message import StationState
from edge.line.opcua import NO_CLIENT, NO_GATEWAY, OpcUaLine
from edge.line.outbox import Outbox
from tests.support.broker import wait_until
from tests.support.gateway import PlayedGateway
from tests.support.line import build

TO_GATEWAY = Reply(correlation=b"7", dialect="opcua")


class Cell:
    """A line, and what it has handed to the station."""

    def __init__(self, root: Path, outbox: Outbox) -> None:
        self.root, self.asked, self.commanded = root, list[Asked](), list[Commanded]()
        self.changes, self.played = 0, list[PlayedGateway]()
        state = StationState("s1", "online", "", ready=True)
        config = EdgeConfig.model_validate({"opcua": {"enabled": True}})
        self.setup = LineSetup(config, root, outbox, lambda: state, lambda: True, self._change,
                               self.asked.append, self.commanded.append)  # fmt: skip
        self.line = OpcUaLine(self.setup)

    def _change(self) -> None:
        self.changes += 1

    def play(self) -> PlayedGateway:
        self.played.append(PlayedGateway(self.root))
        return self.played[-1]

    def stop(self) -> None:
        self.line.stop()
        for one in self.played:
            one.close()

    def connect(self, clients: int = 1) -> PlayedGateway:
        played = self.play()
        played.next("hello")
        played.say("alive", clients=clients)
        wait_until(lambda: self.line.is_connected == bool(clients), 10, "not connected")
        return played

    def tell(self, seq: int, after_s: float = 10.0) -> bool:
        deadline_ns = time.monotonic_ns() + round(after_s * 1e9)
        return self.line.answer(build(seq), deadline_ns, 0, TO_GATEWAY)


@pytest.fixture
def cell(tmp_path: Path, outbox: Outbox) -> Iterator[Cell]:
    made = Cell(tmp_path, outbox)
    made.line.start()
    yield made
    made.stop()


def test_without_gateway_or_client_the_line_says_what_to_do(cell: Cell) -> None:
    assert cell.line.verdict_problem == NO_GATEWAY
    assert not cell.tell(1)
    played = cell.connect(clients=0)
    assert cell.line.verdict_problem == NO_CLIENT
    played.say("alive", clients=1)
    wait_until(lambda: cell.line.verdict_problem is None, 10, "no client seen")
    assert cell.changes >= 2
    played.close()
    wait_until(lambda: cell.line.verdict_problem == NO_GATEWAY, 10, "not seen to be gone")


def test_a_gateway_gets_the_state_and_the_last_verdict_when_it_connects(cell: Cell) -> None:
    cell.tell(4711)
    played = cell.play()
    assert played.next("hello")["mode"] == "free_run"
    assert played.next("last")["fields"]["seq"] == 4711
    said = played.next("state")
    assert (said["state"], said["ready"]) == ("online", True)


def test_a_trigger_its_acknowledgment_and_its_verdict(cell: Cell) -> None:
    played = cell.connect()
    played.say("trigger", id="7", request={"part": "A17", "deadline_ms": 500, "n": 7})
    wait_until(lambda: cell.asked, 10, "no trigger")
    assert (cell.asked[0].request.part, cell.asked[0].reply) == ("A17", TO_GATEWAY)
    cell.line.acknowledge(Ack("A17", 7, 4711), cell.asked[0].reply)
    said = played.next("ack")
    assert [said[key] for key in ("id", "seq", "reason")] == ["7", 4711, ""]
    assert cell.tell(4711)
    told = played.next("verdict")
    assert (told["id"], told["fields"]["seq"], told["fields"]["code"]) == ("7", 4711, 1)
    played.say("told", seq=4711, in_time=True)
    wait_until(lambda: cell.line.counters.verdicts_sent == 1, 10, "not counted")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"part": "A17"}, "deadline_ms"),
        ({"part": "A 17", "deadline_ms": 500}, "part"),
        ({"part": "A17", "deadline_ms": 49}, "deadline_ms"),
        ({"part": "A17", "deadline_ms": 500, "speed": 1}, "speed"),
        (None, ""),
    ],
)
def test_the_bounds_of_a_trigger_are_those_of_mqtt(cell: Cell, request_: Any, field: str) -> None:
    played = cell.connect()
    played.say("trigger", id="7", request=request_)
    said = played.next("ack")
    assert (said["seq"], said["reason"], said["field"]) == (None, "bad_request", field)
    assert (cell.asked, cell.line.counters.triggers_refused) == ([], 1)


def test_a_refusal_names_its_reason(cell: Cell) -> None:
    played = cell.connect()
    cell.line.acknowledge(Ack("A17", 7, None, Refusal.BUSY), TO_GATEWAY)
    said = played.next("ack")
    assert (said["id"], said["seq"], said["reason"]) == ("7", None, "busy")


def test_a_command_carries_the_user_and_is_answered(cell: Cell) -> None:
    played = cell.connect()
    played.say("command", id="8", who="opcua:anna",
               request={"do": "select", "product": "washer"})  # fmt: skip
    wait_until(lambda: cell.commanded, 10, "no command")
    asked = cell.commanded[0]
    assert (asked.who, asked.command) == ("opcua:anna", Command(Verb.SELECT, "washer"))
    assert asked.is_authenticated
    cell.line.answer_command(
        CommandAnswer("select", asked.who, "no such product", CommandRefusal.UNKNOWN_PRODUCT),
        asked.reply,
    )
    said = played.next("answer")
    assert (said["id"], said["reason"], said["result"]) == ("8", "unknown_product",
                                                            "no such product")  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "field"), [({"do": "fire"}, "do"), ({"do": "select", "number": "7"}, "number")]
)
def test_a_command_that_cannot_be_read_is_handed_over_as_such(
    cell: Cell, request_: dict[str, str], field: str
) -> None:
    cell.connect().say("command", id="8", who="opcua:anna", request=request_)
    wait_until(lambda: cell.commanded, 10, "no command")
    command = cell.commanded[0].command
    assert isinstance(command, Unreadable)
    assert command.field == field


def test_a_verdict_after_its_deadline_does_not_leave(cell: Cell) -> None:
    played = cell.connect()
    assert not cell.tell(1, after_s=0)
    assert cell.line.counters.verdicts_unsent == 1
    assert cell.tell(2)
    assert played.next("verdict")["fields"]["seq"] == 2
    played.say("told", seq=2, in_time=False)
    wait_until(lambda: cell.line.counters.verdicts_unsent == 2, 10, "not counted")


def test_the_newest_gateway_wins(cell: Cell) -> None:
    first = cell.connect()
    second = cell.connect()
    assert first.is_closed()
    assert cell.tell(1)
    assert second.next("verdict")["fields"]["seq"] == 1


def test_one_that_does_not_read_is_dropped_and_never_waited_for(cell: Cell) -> None:
    cell.connect()
    longest_s = 0.0
    for seq in range(1, 2000):
        begun_s = time.monotonic()
        cell.tell(seq)
        longest_s = max(longest_s, time.monotonic() - begun_s)
        if not cell.line.is_connected:
            break
    wait_until(lambda: not cell.line.is_connected, 10, "not dropped")
    assert longest_s < 0.5
    assert cell.line.counters.verdicts_unsent > 0


def test_one_that_says_nothing_is_dropped(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "SILENCE_S", 0.2)
    monkeypatch.setattr(gateway, "ALIVE_S", 0.1)
    assert cell.connect().is_closed()


@pytest.mark.parametrize(
    "raw",
    [
        b"hello\n",
        b"[]\n",
        b'{"t":"fire"}\n',
        b"x" * (65 << 10),
        b'{"t":"trigger","request":{}}\n',
        b'{"t":"alive"}\n',
        b'{"t":"told","seq":1}\n',
    ],
)
def test_one_that_speaks_nonsense_is_dropped(cell: Cell, raw: bytes) -> None:
    played = cell.connect()
    played.send_raw(raw)
    assert played.is_closed()
    assert cell.connect().next("state")


def test_another_account_may_not_connect(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    played = cell.connect()
    mode = (cell.root / SOCKET).stat().st_mode
    assert (stat.S_IMODE(mode), stat.S_ISSOCK(mode)) == (0o660, True)
    monkeypatch.setattr(gateway, "owner_of", lambda _: (4711, os.geteuid() + 1))
    assert cell.play().is_closed()
    played.say("alive", clients=1)
    assert cell.tell(1)
    assert played.next("verdict")


def test_a_socket_that_a_killed_station_has_left_is_replaced(
    tmp_path: Path, outbox: Outbox
) -> None:
    (tmp_path / SOCKET).parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / SOCKET))
    made = Cell(tmp_path, outbox)
    made.line.start()
    assert made.connect().next("state")
    made.stop()


def test_the_socket_is_gone_after_the_end(tmp_path: Path, outbox: Outbox) -> None:
    made = Cell(tmp_path, outbox)
    made.line.start()
    made.play()
    made.stop()
    assert not (tmp_path / SOCKET).exists()
