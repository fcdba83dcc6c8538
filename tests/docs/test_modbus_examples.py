"""The tables of docs/modbus.md are the register map, and its frames are what a station answers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntFlag
from pathlib import Path

import pytest

from edge.line.commands import CommandRefusal
from edge.line.inbound import NO_REPLY, Ack, Refusal
from edge.line.modbus import POLL_S, ModbusLine
from edge.line.modbus_map import (
    COMMAND_REFUSALS,
    FREE_RUN,
    MAP_VERSION,
    OTHER,
    REASONS,
    REFUSALS,
    TELLS_END,
    VERBS,
    Asks,
    Field,
    Has,
    Mode,
    Status,
    Tells,
)
from edge.line.modbus_results import ROOM
from edge.line.modbus_server import IDLE_S, PLACES, SILENT_S
from tests.support.modbus import ModbusClient, modbus_line, polled, soon_ns, verdict

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "modbus.md").read_text(encoding="utf-8")
FRAMES = {
    name: bytes.fromhex(text)
    for name, text in re.findall(r"```text (\S+)\n(.*?)\n```", PAGE, flags=re.DOTALL)
}


def section(title: str) -> str:
    return re.split(r"\n#+ ", PAGE.split(f"# {title}\n", 1)[1])[0]


def rows(title: str) -> list[list[str]]:
    found = re.findall(r"^\| (\d.*)\|$", section(title), flags=re.MULTILINE)
    return [[cell.strip(" `") for cell in row.split("|")] for row in found]


@pytest.mark.parametrize(
    ("title", "block"), [("What the PLC writes", Asks), ("What the station writes", Tells)]
)
def test_the_tables_are_the_map(title: str, block: type) -> None:
    fields = {name.lower(): one for name, one in vars(block).items() if isinstance(one, Field)}
    assert [(row[1], int(row[0]), row[2]) for row in rows(title)] == [
        (name, one.address, one.kind.value) for name, one in fields.items()
    ]
    assert f"{Tells.MAP.address} to {TELLS_END - 1}" in PAGE
    assert rows("What the station writes")[0][3].startswith(f"{MAP_VERSION}:")


def test_the_bits() -> None:
    def bits(flags: type[IntFlag]) -> list[tuple[int, str]]:
        return [(one.bit_length() - 1, str(one.name).lower()) for one in flags]

    assert [(int(row[0]), row[1]) for row in rows("Status")] == bits(Status)
    assert bits(Has) == [(0, "score"), (1, "threshold"), (2, "n"), (3, "enc")]
    assert "bit 0: there is a `score`; 1: `threshold`; 2: `n`; 3: `enc`" in PAGE
    assert (Mode.ONE_BY_ONE, Mode.HEARTBEAT) == (1, 2)
    assert "bit 0: verdicts one by one; bit 1: the station watches `heartbeat`" in PAGE


def test_the_numbers() -> None:
    pairs = [pair for row in rows("Reasons") for pair in (row[:2], row[2:]) if pair[0]]
    assert {name: int(number) for number, name in pairs} == {
        reason.value: number for reason, number in REASONS.items()
    }

    def refusals(title: str) -> dict[str, int]:
        return {row[1]: int(row[0]) for row in rows(title) if row[1]}

    commands = {one.value: number for one, number in COMMAND_REFUSALS.items()}
    assert {name: refusals("Trigger")[name] for name in [*Refusal]} == {
        one.value: number for one, number in REFUSALS.items()
    }
    found = refusals("Commands")
    assert {name: found[name] for name in [*CommandRefusal]} == commands
    assert {FREE_RUN, OTHER} == {int(row[0]) for row in rows("Trigger") if not row[1]}
    verbs = [row for row in rows("Commands") if len(row) == 2]
    assert [int(row[0]) for row in verbs] == list(VERBS)
    for row, verb in zip(verbs, VERBS.values(), strict=True):
        assert row[1].startswith(verb.value.split("_")[0])


def test_what_is_said_about_times_and_places() -> None:
    assert f"a register of the station for {POLL_S:.0f} s" in " ".join(PAGE.split())
    assert f"Each address has {PLACES} connections" in PAGE
    assert f"no request for {SILENT_S:.0f} s" in " ".join(PAGE.split())
    assert f"without a request for {IDLE_S:.0f} s" in " ".join(PAGE.split())
    assert f"Up to {ROOM} may wait" in " ".join(PAGE.split())


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModbusLine, ModbusClient]]:
    with modbus_line() as (line, _, port), polled(line, port) as plc:
        plc.client.write(0, [1])
        monkeypatch.setattr(
            line,
            "_triggered",
            lambda asked: line.acknowledge(Ack(asked.request.part, 7, 4713), asked.reply),
        )
        yield line, plc.client


def test_the_frames_are_those_on_the_wire(
    wire: tuple[ModbusLine, ModbusClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    line, client = wire

    def exchange(name: str) -> None:
        expected = FRAMES[f"{name}-answer"]
        client.send(FRAMES[name])
        assert client.hear(len(expected)) == expected

    exchange("trigger")
    exchange("accepted")
    deadline_ns = soon_ns()
    moment_ns = deadline_ns - 59_000_000_000
    monkeypatch.setattr("edge.line.modbus.time.monotonic_ns", lambda: moment_ns)
    fields = verdict(4713, "A17", 2, n=7, score=13.25, thr=9.5)
    assert line.answer(fields, deadline_ns, moment_ns - 61_000_000, NO_REPLY)
    exchange("verdict")
    exchange("refused")
    assert {name.removesuffix("-answer") for name in FRAMES} == {
        "trigger", "accepted", "verdict", "refused"
    }  # fmt: skip
