"""A triggered station whose PLC speaks Modbus TCP and nothing else: one verdict per trigger, on
time, for the part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.engine.protocol import Engine
from edge.line.commands import CommandRefusal
from edge.line.inbound import Refusal
from edge.line.modbus_map import (
    COMMAND_REFUSALS,
    REASONS,
    REFUSALS,
    Asks,
    Mode,
    Status,
    Table,
    Tells,
)
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from edge.types import Reason
from tests.support.broker import free_port, wait_until
from tests.support.commanding import make_products
from tests.support.fakes import committed
from tests.support.modbus import ModbusPlc
from tests.support.service import new_service, running
from tests.support.station import BAD, EMPTY, GOOD, Shot, StationRoot
from tests.support.triggering import FPS, PERIOD_S, HeldEngine, LiveCamera

FRAMES = 5  # of a part: a busy machine may drop some of them
READY = Status.READY | Status.ARMED | Status.TRIGGERED


@dataclass
class Cell:
    """A station at work and its PLC."""

    camera: LiveCamera
    plc: ModbusPlc
    service: Service

    @property
    def state(self) -> dict[str, Any]:
        work = self.service.at_work
        assert work is not None
        found: dict[str, Any] = work.report.for_status()
        return found

    def show(self, shot: Shot, frames: int = 3) -> None:
        """Let the camera show this until so many frames of it were judged; the PLC polls on."""
        self.camera.show = shot
        begun = self.state["frames"] + 1

        def is_seen() -> bool:
            self.plc.poll()
            return bool(self.state["frames"] >= begun + frames)

        wait_until(is_seen, 10, "no frames")

    def trigger(self, part: str, deadline_ms: int = 5000, **more: Any) -> Table:
        """Returns the registers with the answer: it is accepted."""
        answer = self.ask(part, deadline_ms, **more)
        assert answer.get(Tells.TRIGGER_REFUSAL) == 0
        return answer

    def ask(self, part: str, deadline_ms: int = 5000, **more: Any) -> Table:
        """As trigger, but the answer may be a refusal."""
        word = self.plc.trigger(part, deadline_ms, **{"FRAMES": FRAMES, **more})
        return self.plc.wait(Tells.TRIGGER, word)

    def verdict(self, answer: Table) -> Table:
        """Of the part whose trigger was answered so."""
        seq = answer.get(Tells.TRIGGER_SEQ)
        found = self.plc.wait(Tells.SEQ, seq)
        assert found.get(Tells.RESULT) == found.get(Tells.RESULT_AGAIN) != 0
        return found

    def judged(self, answer: Table) -> tuple[str, int, int]:
        told = self.verdict(answer)
        assert told.get(Tells.VALID) == 1
        return told.get(Tells.PART), told.get(Tells.CODE), told.get(Tells.REASON)


@contextmanager
def modbus_cell(
    station: StationRoot, engine: Engine | None = None, more: str = ""
) -> Iterator[Cell]:
    """more: of [modbus], and further sections."""
    port = free_port()
    more = (
        f'fps = {FPS}\n[decision]\nmode = "triggered"\n[modbus]\nenabled = true\n'
        f"port = {port}\n{more}"
    )
    config = station.configure("realsense", None, 0, more)
    camera = LiveCamera()
    service = new_service(station, [], engine, RunPlan(), config, make_camera=lambda _: camera)
    plc = None
    try:
        with running(service):
            plc = connected(port)
            plc.arm()
            plc.wait(Tells.STATUS, READY, 20)
            yield Cell(camera, plc, service)
    finally:
        if plc is not None:
            plc.close()


def connected(port: int) -> ModbusPlc:
    """As soon as the station listens."""
    found: list[ModbusPlc] = []

    def is_there() -> bool:
        try:
            found.append(ModbusPlc(port))
        except OSError:
            return False
        return True

    wait_until(is_there, 20, "the station does not listen")
    return found[0]


@pytest.fixture(scope="module")
def at_work(made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """One station for the tests that leave it as it was; each names parts of its own."""
    station = made_station.copied_to(tmp_path_factory.mktemp("shared") / "station")
    with modbus_cell(station) as made:
        yield made


@pytest.fixture
def cell(at_work: Cell) -> Cell:
    at_work.plc.wait(Tells.STATE, 1)
    wait_until(
        lambda: Status(at_work.plc.get(Tells.STATUS)) & (READY | Status.BUSY) == READY,
        10,
        "not ready",
    )
    at_work.camera.show = EMPTY
    return at_work


def test_a_trigger_is_acknowledged_and_its_part_judged(cell: Cell) -> None:
    cell.show(BAD)
    answer = cell.trigger("whole", N=7, FRAMES=3, ENC=99)
    assert cell.judged(answer) == ("whole", 2, REASONS[Reason.ANOMALY])
    told = cell.plc.poll()
    assert (told.get(Tells.N), told.get(Tells.ENC)) == (7, 99)
    assert told.get(Tells.SCORE) > told.get(Tells.THRESHOLD) > 0
    cell.plc.wait(Tells.NG, cell.state["ng"])


def test_the_same_name_after_the_deadline_is_another_part(cell: Cell) -> None:
    cell.show(GOOD)
    begun_s = time.monotonic()
    answer = cell.trigger("again", 700, N=1)
    assert cell.judged(answer) == ("again", 1, REASONS[Reason.NORMAL])
    cell.show(BAD)
    while time.monotonic() < begun_s + 0.75:
        told = cell.plc.poll()
    assert told.get(Tells.VALID) == 0  # what is past its deadline must not be acted on
    second = cell.trigger("again", 5000, N=1)
    assert second.get(Tells.TRIGGER_SEQ) > answer.get(Tells.TRIGGER_SEQ)
    assert cell.judged(second) == ("again", 2, REASONS[Reason.ANOMALY])


def test_an_empty_view_is_no_part(cell: Cell) -> None:
    cell.show(EMPTY)
    assert cell.judged(cell.trigger("nothing")) == ("nothing", 3, REASONS[Reason.NO_PART])


def test_overlapping_windows_are_busy_and_nothing_follows(cell: Cell) -> None:
    cell.show(GOOD)
    first = cell.trigger("first", FRAMES=10)
    second = cell.ask("second", FRAMES=10)
    assert second.get(Tells.TRIGGER_REFUSAL) == REFUSALS[Refusal.BUSY]
    assert Status.REFUSED in Status(second.get(Tells.STATUS))
    assert cell.judged(first)[0] == "first"
    assert cell.state["seq"] == first.get(Tells.TRIGGER_SEQ)


def test_a_word_that_is_written_again_after_a_reconnection_is_no_second_part(cell: Cell) -> None:
    cell.show(GOOD)
    answer = cell.trigger("once")
    cell.plc.connect()
    cell.plc.put(Asks.TRIGGER, cell.plc.toggle)
    assert cell.judged(answer) == ("once", 1, REASONS[Reason.NORMAL])
    assert cell.state["seq"] == answer.get(Tells.TRIGGER_SEQ)
    assert cell.plc.get(Tells.TRIGGER_ANSWERS) == answer.get(Tells.TRIGGER_ANSWERS)


def test_one_by_one_each_verdict_waits_for_its_acknowledgment(cell: Cell) -> None:
    cell.show(GOOD)
    cell.plc.put(Asks.MODE, Mode.ONE_BY_ONE)
    answers = []
    for part in ("one", "two", "three"):
        answers.append(cell.trigger(part))
        time.sleep((FRAMES + 2) * PERIOD_S)  # its window
    seen = []
    for answer in answers:
        told = cell.verdict(answer)
        seen.append((told.get(Tells.PART), told.get(Tells.VALID)))
        cell.plc.put(Asks.ACK, told.get(Tells.RESULT))
    cell.plc.put(Asks.MODE, 0)
    assert seen == [("one", 1), ("two", 1), ("three", 1)]
    assert cell.plc.get(Tells.VALID) == 0
    assert cell.plc.get(Tells.OVERRUN) == 0


def test_late_is_told_on_time_and_only_once(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.decide.trigger.MARGIN_SHARE", 0.5)
    monkeypatch.setattr("edge.decide.trigger.MARGIN_MS", 500)
    engine = HeldEngine(score=60.0)
    with modbus_cell(station, engine) as cell:
        engine.may_run.clear()
        answer = cell.trigger("late", 600)
        time.sleep((FRAMES + 2) * PERIOD_S)
        following = cell.trigger("next", N=2)
        assert cell.judged(answer) == ("late", 3, REASONS[Reason.LATE])
        told = cell.plc.poll()
        assert told.get(Tells.MS) < 600
        engine.may_run.set()
        assert cell.judged(following)[:2] == ("next", 2)
        assert cell.plc.get(Tells.RESULT) == told.get(Tells.RESULT) % 65535 + 1
    late, following_ = committed(station.root)
    assert [late["judged_code"], late["code"], following_["code"]] == [2, 3, 2]


def test_a_plc_that_does_not_poll_stops_the_station_and_one_that_returns_starts_it(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    with modbus_cell(station) as cell:
        monkeypatch.setattr("edge.line.modbus.POLL_S", 0.4)
        wait_until(lambda: cell.state["reason"] == "link", 10, "nobody notices")
        assert not cell.state["ready"]
        refused = cell.ask("early")
        assert refused.get(Tells.TRIGGER_REFUSAL) == REFUSALS[Refusal.NOT_READY]
        wait_until(lambda: READY in Status(cell.plc.get(Tells.STATUS)), 10, "not ready again")
        assert cell.verdict(cell.trigger("then"))


def test_a_station_that_stops_answers_what_is_open(station: StationRoot) -> None:
    with modbus_cell(station) as cell:
        answer = cell.trigger("open", DELAY_MS=4000)
        cell.service.stop()
        assert cell.judged(answer) == ("open", 3, REASONS[Reason.LATE])
    (record,) = committed(station.root)
    assert (record["part"], record["code"], record["judged_code"]) == ("open", 3, None)


def test_a_product_is_selected_by_its_number_and_the_station_pauses(
    made_station: StationRoot, tmp_path: Path
) -> None:
    station = make_products(made_station, tmp_path / "products")
    more = 'allow = ["127.0.0.1"]\ncommands = true\n[commands]\nenabled = true\n'
    with modbus_cell(station, more=more) as cell:
        plc = cell.plc
        plc.put(Asks.COMMAND, 1)

        def command(word: int, verb: int, number: int = 0) -> int:
            plc.client.write(Asks.COMMAND.address, [word, verb, number])
            refusal: int = plc.wait(Tells.COMMAND, word).get(Tells.COMMAND_REFUSAL)
            return refusal

        assert plc.get(Tells.PRODUCT) == 1
        assert command(2, 1, 2) == 0
        plc.wait(Tells.PRODUCT, 2)
        assert cell.state["product"] == "screw"
        assert command(3, 1, 9) == COMMAND_REFUSALS[CommandRefusal.UNKNOWN_PRODUCT]
        assert command(4, 3) == 0
        plc.wait(Tells.STATE_REASON, REASONS[Reason.PAUSED])
        assert cell.ask("paused").get(Tells.TRIGGER_REFUSAL) == REFUSALS[Refusal.NOT_READY]
        assert command(5, 4) == 0
        wait_until(lambda: READY in Status(plc.get(Tells.STATUS)), 10, "it does not resume")
