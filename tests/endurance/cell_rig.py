"""A triggered station under its supervisor, with the network, broker and archive of rig.py, and a
camera that shows what the played PLC expects.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.config import read_config
from edge.simulate.cell import Cell
from edge.simulate.link import StationAddress
from edge.simulate.referee import Fate, Findings, Outcome
from edge.types import Code
from tests.endurance.faults import KINDS, Fault
from tests.endurance.rig import CLOCK_SOURCE, Rig
from tests.support.brokers import Mosquitto
from tests.support.cell_run import Played
from tests.support.patience import HANG_S
from tests.support.plant import Archive, Plc
from tests.support.proxy import Proxy
from tests.support.shown_camera import FPS, PICTURES, View
from tests.support.station import BAD, FOCAL, GOOD, HEIGHT, SERIAL, WIDTH, draw_shot, make_station
from tests.support.supervisor import Supervisor
from tests.support.tiny_bundle import UNIT

REPOSITORY = CLOCK_SOURCE.parents[2]
FAULTS = (
    "broker killed", "broker lost its memory", "broker stopped", "link stalled", "link slow",
    "connection reset", "bytes swallowed", "capture killed", "capture hung", "station stopped",
    "station restarted", "station killed",
)  # fmt: skip
WITHOUT_BROKER = ("capture killed", "capture hung", "station stopped", "station restarted")
NUMBERS = {Code.OK: 0, Code.NG: 1}
BETWEEN_S = (4.0, 10.0)  # from the end of one fault to the next one
BEHIND_S = 15.0  # a part that comes this long after a fault has nothing to do with it
CONFIG = """\
[station]
site = "plant"
line = "north"
station = "cell7"
[broker]
host = "127.0.0.1"
port = {port}
[camera]
kind = "realsense"
fps = {fps}
resets = 0
[retention]
min_free_gb = 0.0
gb = 0.05
keep_ok_every = 0
[decision]
mode = "triggered"
"""


class CellRig(Rig):
    """Everything around the played PLC. more: further sections of station.toml."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.station = make_station(folder / "station")
        self.view = _draw(folder / "shown")
        self.broker = Mosquitto(folder / "broker", extra="set_tcp_nodelay true\n")
        self.broker.start()
        self.proxy = Proxy(self.broker.port)
        self.proxy.start()
        self.archive, self.plc = Archive(self.broker.port), Plc(self.broker.port)
        config = CONFIG.format(port=self.proxy.port, fps=FPS) + more
        (self.station.root / "etc/edge/station.toml").write_text(config)
        environment = {"SHOWN": str(folder / "shown"), "PYTHONPATH": str(REPOSITORY)}
        self.supervisor = Supervisor(
            self.station.root,
            folder / "log",
            environment=environment,
            restart_s=0.3,
            module="tests.support.shown_station",
        )
        self.dark: list[tuple[float, float]] = []
        self.complaints: list[str] = []
        self.spans: list[tuple[str, float, float]] = []  # of the faults, by time.monotonic

    def show(self, code: Code) -> None:
        self.view.show(NUMBERS[code])

    def address(self, dialect: str) -> StationAddress:
        """By MQTT past the proxy, which is between the station and its broker."""
        config, port = read_config(self.station.root), self.broker.port
        by_mqtt = ("127.0.0.1", port) if dialect == "mqtt" else (None, None)
        return StationAddress(config, self.station.root, *by_mqtt)

    def inject(self, fault: Fault) -> None:
        begun_s = time.monotonic()
        fault.inject(self)
        self.spans.append((fault.name, begun_s, time.monotonic()))

    def stop(self) -> None:
        self.supervisor.stop()
        self.proxy.stop()
        self.plc.stop()
        self.archive.stop()
        self.broker.stop()


@contextmanager
def running_cell(folder: Path, more: str = "") -> Iterator[CellRig]:
    rig = CellRig(folder, more)
    try:
        rig.supervisor.start()
        rig.wait(lambda: rig.plc.state.get("ready"), "the station does not become ready")
        yield rig
    finally:
        rig.stop()


class Faults:
    """A thread that does one fault after the other while parts come, each kind as often as the
    others, in an order of chance.
    """

    def __init__(self, rig: CellRig, names: Sequence[str], seed: int) -> None:
        self._rig, self._chance = rig, random.Random(seed)
        self._kinds = [kind for kind in KINDS if kind.name in names]
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faults")
        self.failure: Exception | None = None

    def __enter__(self) -> Faults:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(HANG_S)

    def _run(self) -> None:
        waiting: list[Fault] = []
        while not self._ending.wait(self._chance.uniform(*BETWEEN_S)):
            waiting = waiting or self._chance.sample(self._kinds, len(self._kinds))
            try:
                self._rig.inject(waiting.pop())
            except Exception as error:  # noqa: BLE001  raised again by the test
                self.failure = error
                return


@dataclass(frozen=True)
class Wrongs:
    """What was broken, in sentences."""

    rig: CellRig
    played: Played

    def all(self) -> list[str]:
        findings = self.played.findings
        wrong = [one.name for one in findings.fates if one.outcome is Outcome.WRONG]
        return [
            *self.rig.complaints,
            *findings.broken,
            *_sentence("judged by the frames of another part", wrong),
            *_sentence("without one record that says the same", _unrecorded(self.rig, findings)),
            *_sentence("records doubled", self.rig.archive.doubled),
            *_sentence("records changed", self.rig.archive.changed),
            *_sentence("accepted, never answered, and no fault near", self._unanswered(findings)),
        ]

    def _unanswered(self, findings: Findings) -> list[str]:
        return [one.name for one in findings.fates if _is_open(one) and not self._is_excused(one)]

    def _is_excused(self, fate: Fate) -> bool:
        at_s = fate.sensed.at_s
        return any(
            begun_s - 1.0 < at_s < ended_s + BEHIND_S for _, begun_s, ended_s in self.rig.spans
        )


def wait_for_records(rig: CellRig, cell: Cell) -> None:
    """Until the archive has a record of every part that was accepted."""
    acked = {one.seq for one in cell.history.heard if getattr(one, "accepted", False)}
    rig.wait(lambda: acked <= rig.archive.kept.keys(), "the archive misses records")


def _unrecorded(rig: CellRig, findings: Findings) -> list[str]:
    wrong = []
    for one in findings.fates:
        if one.ack is None or not one.ack.accepted or one.ack.seq is None:
            continue
        record = rig.archive.kept.get(one.ack.seq, {})
        said = (record.get("part"), record.get("n"))
        same = one.told is None or record.get("code") == one.told.code
        if said != (one.sensed.part, one.sensed.n) or not same:
            wrong.append(one.name)
    return wrong


def _is_open(fate: Fate) -> bool:
    return fate.ack is not None and fate.ack.accepted and fate.told is None


def _sentence(what: str, found: Sequence[str]) -> list[str]:
    return [f"{len(found)} {what}: {list(found)[:8]}"] if found else []


def _draw(folder: Path) -> View:
    folder.mkdir(parents=True)
    colors, depths = zip(*(draw_shot(shot, 0) for shot in (GOOD, BAD)), strict=True)
    lens = [FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2]
    np.savez(
        folder / PICTURES, colors=np.stack(colors), depths=np.stack(depths), lens=lens, unit=UNIT,
        serial=SERIAL,
    )  # fmt: skip
    return View(folder)
