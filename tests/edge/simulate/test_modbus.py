"""The played PLC that speaks Modbus TCP, against a line without a station."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.dialect_sections import ModbusConfig
from edge.errors import ConfigError, EdgeError
from edge.line.inbound import NO_REPLY, Ack, Asked, Refusal, TriggerRequest
from edge.line.modbus import ModbusLine
from edge.line.modbus_map import Asks
from edge.simulate.link import Acked, Event, PlcLink, Readiness, StationAddress, Told
from edge.simulate.modbus import ModbusPlc, make_link
from tests.support.broker import free_port, wait_until
from tests.support.modbus import StandInStation, modbus_line, soon_ns, verdict

Rig = tuple[ModbusLine, StandInStation, ModbusPlc]


def address(port: int, **settings: Any) -> StationAddress:
    config = ModbusConfig(enabled=True, port=port, **settings)
    return StationAddress(EdgeConfig(modbus=config))


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """With swapped words where a test asks for it."""
    swapped = {"word_swap": getattr(request, "param", False)}
    with modbus_line(**swapped) as (line, station, port):
        plc = make_link(address(port, **swapped))
        plc.connect(10)
        wait_until(lambda: line.verdict_problem is None, 10, "the poll is not noticed")
        try:
            yield line, station, plc
        finally:
            plc.close()


def heard(plc: ModbusPlc, kind: type, count: int = 1) -> list[Any]:
    found: list[Event] = []

    def has_come() -> bool:
        found.extend(one for one in plc.events() if isinstance(one, kind))
        return len(found) >= count

    wait_until(has_come, 10, f"not {count} {kind.__name__}")
    return found


def answer(line: ModbusLine, fields: dict[str, Any]) -> None:
    assert line.answer(fields, soon_ns(), time.monotonic_ns(), NO_REPLY)


@pytest.mark.parametrize("rig", [False, True], indirect=True)
def test_a_trigger_its_answer_and_every_verdict(rig: Rig) -> None:
    line, station, plc = rig
    assert isinstance(plc, PlcLink)
    assert plc.trigger(TriggerRequest("A17", 500, 70_000, 40, 3, 9))
    (acked,) = heard(plc, Acked)
    assert [one.request for one in station.asked] == [TriggerRequest("A17", 500, 70_000, 40, 3, 9)]
    assert acked == Acked("A17", 70_000, True, "", 1, acked.at_s)
    for seq in range(1, 6):  # at once: it takes them one by one
        answer(line, verdict(seq, f"P{seq}", 2, n=seq))
    told = heard(plc, Told, 5)
    assert told == [
        Told(f"P{seq}", seq, seq, 2, "anomaly", one.at_s)
        for seq, one in zip(range(1, 6), told, strict=True)
    ]
    assert line.board.counts().overrun == 0


def test_a_refusal_has_its_reason(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _, plc = rig

    def refuse(asked: Asked) -> None:
        line.acknowledge(Ack("A17", 1, None, Refusal.BUSY), asked.reply)

    monkeypatch.setattr(line, "_triggered", refuse)
    assert plc.trigger(TriggerRequest("A17", 500, 1))
    (acked,) = heard(plc, Acked)
    assert (acked.accepted, acked.reason, acked.seq) == (False, "busy", None)


def test_each_heartbeat_is_told_once(rig: Rig) -> None:
    begun_s = time.monotonic()
    first, second = heard(rig[2], Readiness, 2)
    assert first.ready
    assert second.ready
    assert second.at_s - first.at_s > 0.5
    assert first.at_s > begun_s - 1


def test_a_connection_that_is_lost_comes_back_and_its_word_is_no_second_trigger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge.simulate.modbus.AGAIN_S", 0.05)
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.modbus.free_port", lambda: port)
        with modbus_line() as (line, station, _):
            plc = make_link(address(port))
            plc.connect(10)
            assert plc.trigger(TriggerRequest("A17", 500, 1))
            heard(plc, Acked)
        lost = heard(plc, Readiness)[-1]
        assert not lost.ready
        assert not plc.trigger(TriggerRequest("B18", 500, 2))
        with modbus_line() as (line, station, _):
            wait_until(lambda: line.verdict_problem is None, 10, "it does not come back")
            wait_until(
                lambda: plc.trigger(TriggerRequest("C19", 500, 3)), 10, "it does not trigger"
            )
            (acked,) = heard(plc, Acked)
            assert acked.part == "C19"
            assert [one.request.part for one in station.asked] == ["C19"]
            plc.close()


def cut(plc: ModbusPlc) -> None:
    assert plc._socket is not None
    plc._socket.shutdown(socket.SHUT_RDWR)


def test_a_verdict_that_came_while_the_connection_was_away_is_told_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, _, plc = rig
    monkeypatch.setattr("edge.simulate.modbus.AGAIN_S", 0.3)
    assert plc.trigger(TriggerRequest("A17", 500, 7))
    heard(plc, Acked)
    written: list[int] = []
    write = plc._write

    def noted(connection: socket.socket, address: int, words: Sequence[int]) -> None:
        written.append(address)
        write(connection, address, words)

    monkeypatch.setattr(plc, "_write", noted)
    cut(plc)
    answer(line, verdict(1, "A17", 2, n=7))
    (told,) = heard(plc, Told)
    assert (told.part, told.n, told.seq) == ("A17", 7, 1)
    cut(plc)
    assert heard(plc, Readiness)
    answer(line, verdict(2, "B18", 2, n=8))
    wait_until(lambda: line.board.counts().read == 2, 10, "the next is not read")
    assert [one.seq for one in plc.events() if isinstance(one, Told)] in ([], [2])
    assert Asks.MODE.address in written
    assert Asks.TRIGGER.address not in written  # the station knows the word: it would be a trigger


def connect_to_nobody() -> None:
    plc = make_link(address(free_port()))
    plc.connect(0.2)


@pytest.mark.parametrize(
    ("attempt", "error", "said"),
    [
        (connect_to_nobody, EdgeError, "is not polled within 0.2 s"),
        (lambda: make_link(StationAddress(EdgeConfig())), ConfigError, r"\[modbus\]"),
    ],
)
def test_what_is_in_the_way_is_said(
    attempt: Callable[[], object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        attempt()
