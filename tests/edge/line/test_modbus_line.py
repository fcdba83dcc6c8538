"""The line over Modbus TCP: what the station's calls show, and what a PLC's words begin."""

from __future__ import annotations

import inspect
import itertools
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pymodbus.client import ModbusTcpClient

from edge.config import parse_config
from edge.dialect_sections import ModbusConfig
from edge.errors import ConfigError
from edge.line.base import Line
from edge.line.commands import Command, CommandAnswer, Commanded, CommandRefusal, Verb
from edge.line.inbound import NO_REPLY, TriggerRequest
from edge.line.modbus import ModbusLine
from edge.line.modbus_map import FREE_RUN, Asks, Mode, Status, Table, Tells
from tests.support.broker import wait_until
from tests.support.modbus import (
    ONLINE,
    ModbusPlc,
    StandInStation,
    modbus_line,
    polled,
    soon_ns,
    verdict,
)

MBPOLL = shutil.which("mbpoll")


@pytest.fixture
def rig() -> Iterator[tuple[ModbusLine, StandInStation, ModbusPlc]]:
    with modbus_line() as (line, station, port), polled(line, port) as plc:
        plc.arm()
        yield line, station, plc


def answer(line: ModbusLine, fields: dict[str, Any], deadline_s: float = 60.0) -> bool:
    return line.answer(fields, soon_ns(deadline_s), time.monotonic_ns(), NO_REPLY)


Rig = tuple[ModbusLine, StandInStation, ModbusPlc]


def test_it_is_a_line(rig: Rig) -> None:
    assert isinstance(rig[0], Line)
    assert rig[0].tells_plc
    for name in ("publish_verdict", "acknowledge", "answer", "answer_command", "wait_connected"):
        of_line, own = (getattr(one, name) for one in (Line, ModbusLine))
        assert inspect.signature(of_line) == inspect.signature(own)


def test_a_trigger_its_answer_and_its_verdict(rig: Rig) -> None:
    line, station, plc = rig
    word = plc.trigger("A17", 500, N=7, DELAY_MS=40, FRAMES=3)
    told = plc.wait(Tells.TRIGGER, word)
    assert [one.request for one in station.asked] == [TriggerRequest("A17", 500, 7, 40, 3)]
    assert (told.get(Tells.TRIGGER_REFUSAL), told.get(Tells.TRIGGER_SEQ)) == (0, 1)
    assert answer(line, verdict(1, "A17", 2, n=7))
    shown = plc.poll()
    assert [shown.get(one) for one in (Tells.PART, Tells.CODE, Tells.N)] == ["A17", 2, 7]
    assert shown.get(Tells.VALID) == 1
    wait_until(lambda: line.counters.verdicts_sent == 1, 10, "the reading is not counted")


def test_a_word_is_seen_once_over_repeats_and_reconnections(rig: Rig) -> None:
    _, station, plc = rig
    word = plc.trigger("A17")
    plc.put(Asks.TRIGGER, word)
    plc.connect()
    plc.put(Asks.TRIGGER, word)
    assert len(station.asked) == 1
    plc.put(Asks.PART, "B18")  # the part first, then the word: two requests
    plc.put(Asks.TRIGGER, word + 1)
    assert [one.request.part for one in station.asked] == ["A17", "B18"]


def test_a_bad_request_names_the_register(rig: Rig) -> None:
    line, station, plc = rig
    for more, wrong in (
        ({"DEADLINE_MS": 49}, 19), ({"FRAMES": 31}, 22), ({"PART": "a b"}, 1), ({"PART": ""}, 1),
    ):  # fmt: skip
        asked = {"part": "A17", "deadline_ms": 5000}
        word = plc.trigger(**(asked | {"part": "A17"}), **more)  # type: ignore[arg-type]
        told = plc.wait(Tells.TRIGGER, word)
        assert (told.get(Tells.TRIGGER_REFUSAL), told.get(Tells.TRIGGER_WRONG)) == (1, wrong)
    assert station.asked == []
    assert line.counters.triggers_refused == 4


def test_free_run_has_verdicts_and_refuses_triggers() -> None:
    with modbus_line(is_triggered=False) as (line, _, port), polled(line, port) as plc:
        plc.wait(Tells.STATUS, Status.READY)
        plc.arm()
        told = plc.wait(Tells.TRIGGER, plc.trigger("A17"))
        assert told.get(Tells.TRIGGER_REFUSAL) == FREE_RUN
        assert line.publish_verdict(verdict(5), soon_ns(1.9))
        shown = plc.poll()
        assert (shown.get(Tells.SEQ), shown.get(Tells.VALID)) == (5, 1)
        assert 100 <= shown.get(Tells.MS) < 1000  # of a deadline of 2 s


def test_without_a_poll_there_is_a_problem_and_no_verdict() -> None:
    with modbus_line() as (line, station, port):
        assert "no Modbus client has read registers 100" in str(line.verdict_problem)
        assert not answer(line, verdict(1))
        with polled(line, port) as plc:
            assert plc.get(Tells.SEQ) == 0
            assert station.changes >= 1
            assert line.is_connected
            assert line.wait_connected(1)
            wait_until(lambda: line.counters.verdicts_unsent == 1, 10, "it is not counted")


def test_a_plc_that_stops_to_poll_is_noticed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _, plc = rig
    plc.wait(Tells.STATUS, Status.READY | Status.ARMED | Status.TRIGGERED)
    monkeypatch.setattr("edge.line.modbus.POLL_S", 0.3)
    wait_until(lambda: line.verdict_problem is not None, 10, "it is not noticed")
    assert not line.is_connected
    status = Status(plc.get(Tells.STATUS))
    assert Status.READY not in status  # of the moment before this poll
    plc.wait(Tells.STATUS, Status.READY | Status.ARMED | Status.TRIGGERED)


def test_a_plc_whose_heartbeat_stops_is_noticed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    line, _, plc = rig
    monkeypatch.setattr("edge.line.modbus.BEAT_S", 0.3)
    plc.put(Asks.MODE, Mode.HEARTBEAT)

    def stands_still() -> bool:
        plc.poll()
        return "heartbeat" in str(line.verdict_problem)

    wait_until(stands_still, 10, "it is not noticed")
    plc.put(Asks.HEARTBEAT, 1)
    wait_until(lambda: line.verdict_problem is None, 10, "its beat is not noticed")


def test_a_verdict_after_its_deadline_is_not_shown(rig: Rig) -> None:
    line, _, plc = rig
    assert not answer(line, verdict(1), deadline_s=-0.001)
    assert plc.get(Tells.SEQ) == 0


def test_the_state_comes_into_the_registers(rig: Rig) -> None:
    _, station, plc = rig
    plc.wait(Tells.STATE, 1)
    station.state = replace(ONLINE, state="fault", reason="storage", ready=False)
    told = plc.wait(Tells.STATE, 3)
    assert Status(told.get(Tells.STATUS)) & (Status.FAULT | Status.READY) == Status.FAULT
    assert told.get(Tells.STATE_REASON) == 16


def test_commands_need_the_key_and_go_to_the_station() -> None:
    with modbus_line() as (line, station, port), polled(line, port) as plc:
        plc.client.write(30, [1, 1, 7])
        plc.client.write(30, [2, 1, 7])
        assert plc.poll().get(Tells.COMMAND_REFUSAL) == 2
        assert station.commanded == []
    with (
        modbus_line(allow=["127.0.0.1"], commands=True) as (line, station, port),
        polled(line, port) as plc,
    ):
        plc.client.write(30, [1, 1, 7])
        for word, verb, number in ((2, 1, 7), (3, 2, 7), (4, 99, 0), (5, 1, 0)):
            plc.client.write(30, [word, verb, number])
        told = plc.poll()
        assert [told.get(one) for one in (Tells.COMMAND, Tells.COMMAND_REFUSAL)] == [5, 1]
        first, second = station.commanded
        assert (first.command, first.who) == (Command(Verb.SELECT, number=7), "modbus 127.0.0.1")
        assert isinstance(second, Commanded)
        assert second.command == Command(Verb.RESET)
        refused = CommandAnswer("select", "", "no", CommandRefusal.UNKNOWN_PRODUCT)
        line.answer_command(refused, first.reply)
        told = plc.poll()
        assert [told.get(one) for one in (Tells.COMMAND, Tells.COMMAND_REFUSAL)] == [2, 4]
        line.answer_command(CommandAnswer("reset", "", "done"), second.reply)
        told = plc.poll()
        assert [told.get(one) for one in (Tells.COMMAND, Tells.COMMAND_REFUSAL)] == [3, 0]
        assert told.get(Tells.COMMAND_ANSWERS) == 4


def test_the_last_verdicts_can_be_read_while_it_stops(rig: Rig) -> None:
    line, _, plc = rig
    answer(line, verdict(1))
    stopping = threading.Thread(target=line.stop)
    stopping.start()
    assert plc.get(Tells.SEQ) == 1
    stopping.join()
    assert plc.client.is_closed()


def test_no_request_over_the_network_mixes_two_verdicts(rig: Rig) -> None:
    line, _, plc = rig
    done = threading.Event()

    def hammer() -> None:
        for seq in itertools.count(1):
            if done.is_set():
                break
            answer(line, verdict(seq, f"P{seq}", n=seq, score=float(seq)))

    writer = threading.Thread(target=hammer)
    writer.start()
    seen: set[object] = set()

    def polled_enough() -> bool:
        table = plc.poll()
        seq = table.get(Tells.SEQ)
        if seq:
            told = [table.get(one) for one in (Tells.PART, Tells.N, Tells.SCORE)]
            assert told == [f"P{seq}", seq, seq]
            seen.add(seq)
        return len(seen) >= 20

    try:
        wait_until(polled_enough, 60, "too few verdicts were seen")
    finally:
        done.set()
        writer.join()


@pytest.mark.skipif(MBPOLL is None, reason="mbpoll is not installed: scripts/install.sh test")
def test_mbpoll_triggers_and_reads(rig: Rig) -> None:
    line, station, plc = rig

    def mbpoll(*arguments: str) -> str:
        command = ["mbpoll", "-m", "tcp", "-p", str(plc.port), "-0", "-1", "-a", "1", "-t"]
        called = subprocess.run(
            [*map(str, command), *arguments], capture_output=True, text=True, timeout=60
        )
        return called.stdout + called.stderr

    part = ["0x4131", "0x3700", *["0"] * 14]
    told = mbpoll("4", "-r", "0", "127.0.0.1", "1", *part, "0", "7", "0", "500")
    assert "Written 21 references" in told
    assert [one.request for one in station.asked] == [TriggerRequest("A17", 500, 7)]
    answer(line, verdict(1, "A17", 2, n=7, score=13.25, thr=9.5))
    read = mbpoll("3", "-r", "114", "-c", "34", "127.0.0.1")
    for line_ in ("[114]: \t1\n", "[115]: \t2\n", "[121]: \t7\n", "[130]: \t16689", "[147]: \t1"):
        assert line_ in read
    assert "13.25" in mbpoll("4:float", "-B", "-r", "124", "-c", "2", "127.0.0.1")
    assert "Illegal data address" in mbpoll("4", "-r", "102", "127.0.0.1", "1")
    assert "Illegal data address" in mbpoll("3", "-r", "40", "-c", "1", "127.0.0.1")
    assert "Illegal function" in mbpoll("0", "-r", "1", "-c", "1", "127.0.0.1")


def test_pymodbus_triggers_and_reads(rig: Rig) -> None:
    line, station, plc = rig
    client = ModbusTcpClient("127.0.0.1", port=plc.port)
    assert client.connect()
    table = Table.empty()
    for field, value in ((Asks.TRIGGER, 1), (Asks.PART, "A17"), (Asks.DEADLINE_MS, 500)):
        table.put(field, value)
    assert not client.write_registers(0, list(table.words[:21]), device_id=1).isError()
    assert station.asked[0].request == TriggerRequest("A17", 500)
    answer(line, verdict(1, "A17", score=0.25))
    read = client.read_input_registers(114, count=34, device_id=1)
    found = client.convert_from_registers(read.registers[10:12], client.DATATYPE.FLOAT32)
    assert (read.registers[1], found) == (1, 0.25)
    assert client.write_register(102, 1, device_id=1).exception_code == 2
    client.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('host = "plc.local"', "'plc.local' is no IP address"),
        ('host = "0.0.0.0"', "allow is []"),
        ("commands = true", "name the PLC's address"),
        ('allow = ["10.0.0.0/8"]', "is no IP address"),
        ("allow = [7]", "valid string"),
        ("port = 0", "modbus.port"),
    ],
)
def test_settings_that_would_open_it_to_anybody_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match="modbus") as refused:
        parse_config(f"[modbus]\n{text}\n")
    assert said in str(refused.value)


def test_settings() -> None:
    text = '[modbus]\nhost = "0.0.0.0"\nallow = ["10.0.0.7", "FE80::1"]\ncommands = true\n'
    assert parse_config(text).modbus == ModbusConfig(
        host="0.0.0.0", allow=("10.0.0.7", "fe80::1"), commands=True
    )
