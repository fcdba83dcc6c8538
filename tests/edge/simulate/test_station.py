"""The played PLC before a real station: what is right, what a broker's restart costs, and what the
command prints.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.config import read_config
from edge.errors import EdgeError
from edge.line.inbound import TriggerRequest
from edge.simulate.cell import Cell
from edge.simulate.conveyor import Belt
from edge.simulate.link import PlcLink, Readiness, StationAddress, Told, make_link
from edge.simulate.plc import Rules
from edge.simulate.referee import Outcome, outcomes_of
from edge.types import Code
from tests.support.broker import MOSQUITTO, Broker, free_port, wait_until
from tests.support.cell_run import DIALECTS, Played, Shown, at_random, play, served
from tests.support.root import run_edge
from tests.support.station import BAD, GOOD, StationRoot
from tests.support.triggering import Cell as TriggeredCell
from tests.support.triggering import triggered_cell

NODELAY = "set_tcp_nodelay true\n"
SHOTS = {Code.OK: GOOD, Code.NG: BAD}
RULES = Rules(deadline_ms=800, verdict_ms=900, gate=1000, ack_ms=60)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Broker]:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    with Broker(tmp_path / "own", NODELAY) as started:
        yield started


@pytest.fixture(autouse=True)
def _no_long_wait_for_second_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.simulate.cell.LINGER_S", 0.3)


def address(station: StationRoot) -> StationAddress:
    return StationAddress(read_config(station.root), station.root)


def played(
    cell: TriggeredCell, station: StationRoot, dialect: str, parts: list[Shown], rate_hz: float,
    meanwhile: Callable[[Cell], None] = lambda _: None,
) -> Played:  # fmt: skip
    def show(code: Code) -> None:
        cell.camera.show = SHOTS[code]

    belt = Belt(rate_hz, jitter=0.05)
    return play(dialect, address(station), parts, show, RULES, belt, meanwhile=meanwhile)


@pytest.mark.endurance
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_hundred_triggers_have_one_right_answer_each(
    dialect: str, station: StationRoot, own_broker: Broker
) -> None:
    parts = at_random(100, seed=1, block=10, doubtful=3)
    more = DIALECTS[dialect].section()
    with (
        triggered_cell(station, own_broker.port, fps=100, more=more) as cell,
        served([dialect], station.root),
    ):
        done = played(cell, station, dialect, parts, 36.0)
    outcomes = outcomes_of(done.findings)
    assert done.findings.broken == []
    assert sum(len(fates) for fates in outcomes.values()) == 100
    assert Outcome.WRONG not in outcomes
    judged = len(outcomes[Outcome.RIGHT]) + len(outcomes[Outcome.JUDGED])
    assert judged > 10  # on a quiet machine all; a busy one is late, which the PLC rejects


@pytest.mark.endurance
def test_a_broker_that_restarts_costs_parts_and_nothing_else(
    station: StationRoot, own_broker: Broker
) -> None:
    def restart() -> None:
        own_broker.stop()
        own_broker.start()

    restarting = threading.Thread(target=restart)

    def restart_once(cell: Cell) -> None:
        if len(cell.history.gated) == 5:
            restarting.start()  # the PLC's cycle goes on meanwhile

    with triggered_cell(station, own_broker.port) as cell:
        done = played(cell, station, "mqtt", at_random(20, 1), 8.0, restart_once)
        restarting.join()
    outcomes = outcomes_of(done.findings)
    assert done.findings.broken == []
    assert Outcome.WRONG not in outcomes
    assert [one.n for one in done.cell.history.gated] == [*range(1, 21)]
    assert outcomes[Outcome.RIGHT][-1].sensed.n > 10  # it went on
    lost = [one for one in done.cell.history.heard if isinstance(one, Readiness) and not one.ready]
    assert lost


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_either_version_of_mqtt(protocol: str, station: StationRoot, own_broker: Broker) -> None:
    with triggered_cell(station, own_broker.port, protocol) as cell:
        config = address(station).config
        named = config.broker.model_copy(update={"protocol": protocol})
        where = StationAddress(config.model_copy(update={"broker": named}), station.root)
        link = make_link("mqtt", where)
        assert isinstance(link, PlcLink)
        assert not link.trigger(TriggerRequest("A", 400, 1))  # not connected yet
        link.connect(10)
        cell.camera.show = BAD
        assert link.trigger(TriggerRequest("A", 2000, 7, enc=99))
        heard: list[object] = []

        def has_verdict() -> bool:
            heard.extend(link.events())
            return any(isinstance(one, Told) for one in heard)

        wait_until(has_verdict, 10, "no verdict")
        link.close()
        link.close()
    told = next(one for one in heard if isinstance(one, Told))
    assert (told.part, told.n, told.code) == ("A", 7, 2)


def test_the_command_prints_what_became_of_the_parts(
    station: StationRoot, own_broker: Broker, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "parts.csv").write_text("A,OK\nB,NG\nC,1\n")
    words = ["simulate", "plc", "--root", station.root, "--rate", "10", "--jitter", "0"]
    words += ["--expect", tmp_path / "parts.csv", "--json", tmp_path / "out.json", "--verbose"]
    with triggered_cell(station, own_broker.port) as cell:
        cell.camera.show = GOOD
        done = run_edge(capsys, monkeypatch, *words, "--deadline-ms", "800", "--ack-ms", "800")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "3 parts, 10 a second, by mqtt"
    assert [line.split()[0] for line in lines[1:4]] == ["A", "B", "C"]
    assert any(line.startswith("right ") and " 2 " in line for line in lines)
    assert any(line.startswith("wrong ") and " 1 " in line for line in lines)
    assert "answered twice 0, for the wrong part 0, acted on late 0" in done.out
    told = json.loads((tmp_path / "out.json").read_text())
    assert [one["outcome"] for one in told["each"]] == ["right", "wrong", "right"]
    assert told["gate"] == {"ok": 3}


def test_a_station_that_is_not_there_is_told(station: StationRoot, own_broker: Broker) -> None:
    station.configure("realsense", None, free_port())
    with pytest.raises(EdgeError, match="nothing listens there"):
        make_link("mqtt", address(station)).connect(1)


def test_a_station_that_is_silent_is_told(
    station: StationRoot, own_broker: Broker,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    where = ["--host", "127.0.0.1", "--port", own_broker.port, "--names", "a/b/c"]
    words = ["simulate", "plc", "--root", station.root, *where, "--wait-s", "0.3"]
    done = run_edge(capsys, monkeypatch, *words)
    assert done.code == 1
    assert "no heartbeat of the station within 0.3 s" in done.err
