"""The played PLC before a running station whose camera shows what the PLC expects, in any dialect.

What is right for a part is drawn before it comes, and shown by the camera before its trigger: a
verdict on another part's frames is seen as a wrong one.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge.errors import ConfigError
from edge.simulate.cell import Cell, Planned
from edge.simulate.conveyor import Belt
from edge.simulate.link import PlcLink, StationAddress, make_link
from edge.simulate.plc import Rules
from edge.simulate.referee import Findings, judge
from edge.types import Code
from tests.support.broker import free_port
from tests.support.process import REPOSITORY

WAIT_S = 120.0  # ends a hang


@dataclass(frozen=True)
class Spoken:
    """A dialect that the tests play. section: what switches it on in station.toml. server: the
    `edge` command that serves it beside the station, if there is one.
    """

    section: Callable[[], str]
    server: tuple[str, ...] = ()


DIALECTS: Mapping[str, Spoken] = {
    "mqtt": Spoken(lambda: ""),
    "modbus": Spoken(lambda: f"[modbus]\nenabled = true\nport = {free_port()}\n"),
    "opcua": Spoken(
        lambda: f'[opcua]\nenabled = true\nhost = "127.0.0.1"\nport = {free_port()}\n',
        ("opcua", "serve"),
    ),
}


@contextmanager
def served(dialects: Iterable[str], root: Path) -> Iterator[None]:
    """The servers of these dialects run meanwhile."""
    words = [sys.executable, "-m", "edge"]
    commands = [DIALECTS[name].server for name in dialects if DIALECTS[name].server]
    running = [
        subprocess.Popen([*words, *command, "--root", str(root)], cwd=REPOSITORY)
        for command in commands
    ]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(WAIT_S)


@dataclass(frozen=True)
class Shown(Planned):
    """A part, and what the camera shows of it."""

    shot: Code = Code.OK


@dataclass(frozen=True)
class Played:
    """A run that is over."""

    cell: Cell
    findings: Findings


def at_random(parts: int, seed: int, block: int = 1, doubtful: int = 0) -> list[Shown]:
    """OK and NG by chance, `block` of them the same in a row.

    doubtful: of how many at the end of a block it is left open what is right: while parts follow
    each other faster than an acknowledgment may take, the frames of a trigger that was held up show
    one of the next.
    """
    chance = random.Random(seed)
    codes = [chance.choice((Code.OK, Code.NG)) for _ in range(0, parts, block)]
    return [
        Shown(f"P{n + 1}", n + 1, None if n % block >= block - doubtful else code, code)
        for n in range(parts)
        for code in [codes[n // block]]
    ]


def linked(dialect: str, station: StationAddress) -> PlcLink:
    """As make_link; a server that starts may not have its certificate yet."""
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            return make_link(dialect, station)
        except ConfigError:
            if not DIALECTS[dialect].server or time.monotonic() > end_s:
                raise
            time.sleep(0.2)


def play(
    dialect: str, station: StationAddress, parts: list[Shown], show: Callable[[Code], None],
    rules: Rules, belt: Belt, seed: int = 0, meanwhile: Callable[[Cell], None] = lambda _: None,
) -> Played:  # fmt: skip
    """Every part, from the sensor to the gate. show: sets what the camera sees. meanwhile: is
    called with the cell after every part at the gate.
    """

    def place(part: Planned) -> None:
        assert isinstance(part, Shown)
        show(part.shot)

    link = linked(dialect, station)
    cell: Cell = Cell(link, rules, belt, parts, seed, placed=place, gated=lambda _: meanwhile(cell))
    try:
        link.connect(WAIT_S)
        assert cell.wait_ready(WAIT_S) is None
        assert cell.play(WAIT_S) is None
    finally:
        link.close()
    return Played(cell, judge(cell.history, rules))
