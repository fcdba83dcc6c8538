"""Triggers while parts are shown to a calibration: answered UNKNOWN `calibrating` on time, by a
number of their own, without a record; and the parts that they tell apart reach the calibration.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from calibration.remote import RemoteStation, open_remote
from edge.camera.protocol import FrameOverdue
from edge.errors import BusyError
from tests.support.broker import Broker, wait_until
from tests.support.fakes import committed
from tests.support.patience import slowness
from tests.support.station import BAD, EMPTY, GOOD, StationRoot
from tests.support.triggering import Cell, HeldEngine, triggered_cell

NODELAY = "set_tcp_nodelay true\n"
COUNTED = (
    "ok", "ng", "unknown", "triggers_accepted", "triggers_refused", "parts_untriggered",
    "records_waiting", "records_dropped",
)  # fmt: skip


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), NODELAY) as started:
        yield started


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", NODELAY) as started:
        yield started


@pytest.fixture(scope="module")
def station(made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    return made_station.copied_to(tmp_path_factory.mktemp("shared") / "station")


@pytest.fixture(scope="module")
def at_work(station: StationRoot, broker: Broker) -> Iterator[Cell]:
    with triggered_cell(station, broker.port) as made:
        yield made


@pytest.fixture
def cell(at_work: Cell) -> Cell:
    at_work.show(EMPTY)  # so that the window of the trigger before is over
    wait_until(lambda: at_work.state["ready"] and not at_work.state["busy"], 10, "not ready")
    return at_work


@pytest.fixture
def remote(cell: Cell, station: StationRoot) -> Iterator[RemoteStation]:
    found = open_remote(station.root, "parts", "anna")
    assert found is not None
    yield found
    found.close()


def counted(cell: Cell) -> list[int]:
    return [cell.state[name] for name in COUNTED]


def test_a_trigger_is_answered_and_its_part_is_shown(
    cell: Cell, remote: RemoteStation, station: StationRoot
) -> None:
    before, records = counted(cell), committed(station.root)
    assert (cell.state["ready"], cell.state["reason"]) == (False, "calibrating")
    for untriggered in (GOOD, EMPTY, GOOD):
        cell.show(untriggered, 6)
    cell.plc.trigger("shown", n=7, frames=4)
    ack, verdict = cell.plc.ack("shown"), cell.plc.verdict("shown")
    assert (ack["accepted"], ack["seq"]) == (True, verdict["seq"])
    assert [verdict[key] for key in ("n", "code", "reason", "score")] == [
        7, 3, "calibrating", None
    ]  # fmt: skip
    part = remote.next_part(10)
    assert len(part.frames) == 4
    assert {sight.judgment.reason.value for sight in part.frames} == {"normal"}
    wait_until(lambda: not cell.state["busy"], 10, "still open")
    assert counted(cell) == before
    assert committed(station.root) == records
    assert cell.plc.of("record", "shown") == []


def test_its_number_is_never_given_to_another_part(
    cell: Cell, station: StationRoot, remote: RemoteStation
) -> None:
    cell.show(BAD)
    seqs = []
    for name in ("one", "two"):
        cell.plc.trigger(name)
        seqs.append(cell.plc.verdict(name)["seq"])
        cell.pass_window(name)
    remote.close()
    wait_until(lambda: cell.state["ready"], 10, "not ready")
    cell.show(BAD)
    cell.plc.trigger("three")
    seqs.append(cell.plc.record("three")["seq"])
    assert seqs == list(range(seqs[0], seqs[0] + 3))
    assert cell.plc.judged("three") == (2, "anomaly")
    assert committed(station.root)[-1]["seq"] == seqs[2]


def test_the_answer_is_on_time_though_no_frame_comes(cell: Cell, remote: RemoteStation) -> None:
    cell.camera.show = None
    at_s = cell.plc.trigger("dark", deadline_ms=600)
    heard = cell.plc.wait("verdict", "dark")
    assert cell.plc.judged("dark") == (3, "calibrating")
    assert heard.at_s - at_s < 0.3 + 0.6 * slowness()
    with pytest.raises(FrameOverdue):
        remote.next_part(0.1)
    cell.camera.show = EMPTY


def test_a_repeat_gets_the_same_answer(cell: Cell, remote: RemoteStation) -> None:
    cell.show(GOOD)
    for count in (1, 2):
        cell.plc.trigger("twice", n=1)
        assert cell.plc.ack("twice", count)["seq"] == cell.plc.ack("twice")["seq"]
        assert cell.plc.judged("twice", count) == (3, "calibrating")
    assert remote.next_part(10).frames
    assert remote.missed == 0


def test_a_window_that_overlaps_another_is_busy(cell: Cell, remote: RemoteStation) -> None:
    cell.show(GOOD)
    cell.plc.trigger("long", frames=10)
    cell.plc.trigger("soon", frames=10)
    assert cell.plc.ack("soon")["reason"] == "busy"
    assert 2 < len(remote.next_part(10).frames) <= 10, "a busy machine drops frames, not the part"


def test_no_session_begins_while_a_trigger_waits(cell: Cell, station: StationRoot) -> None:
    cell.show(GOOD)
    cell.plc.trigger("waits", delay_ms=500, frames=3)
    cell.plc.ack("waits")
    with pytest.raises(BusyError, match="a part is open"):
        open_remote(station.root, "parts")
    assert cell.plc.judged("waits") == (1, "normal")


def test_a_trigger_that_waits_at_the_end_of_the_session_is_still_answered_so(
    cell: Cell, remote: RemoteStation, station: StationRoot
) -> None:
    cell.show(BAD)
    cell.plc.trigger("over", delay_ms=400, frames=3)
    cell.plc.ack("over")
    remote.close()
    assert cell.plc.judged("over") == (3, "calibrating")
    assert cell.plc.of("record", "over") == []
    wait_until(lambda: not cell.state["busy"], 10, "still open")
    again = open_remote(station.root, "parts")
    assert again is not None
    again.close()


def test_a_fixed_moment_is_kept(cell: Cell, remote: RemoteStation) -> None:
    cell.show(GOOD)
    at_s = cell.plc.trigger("fixed", deadline_ms=2000, answer_ms=500)
    heard = cell.plc.wait("verdict", "fixed")
    assert heard.at_s - at_s > 0.45
    assert heard.json["reason"] == "calibrating"
    assert remote.next_part(10).frames


def test_a_restart_gives_no_number_of_a_session_again(
    made_station: StationRoot, own: Broker, tmp_path: Path
) -> None:
    station = made_station.copied_to(tmp_path / "station")
    with triggered_cell(station, own.port) as cell:
        remote = open_remote(station.root, "parts")
        assert remote is not None
        cell.show(GOOD)
        cell.plc.trigger("before")
        seq = cell.plc.verdict("before")["seq"]
        wait_until(lambda: not cell.state["busy"], 10, "still open")
        remote.close()
    with triggered_cell(station, own.port) as cell:
        cell.show(GOOD)
        cell.plc.trigger("after")
        assert cell.plc.verdict("after")["seq"] == seq + 1
    assert [one["seq"] for one in committed(station.root)] == [seq + 1]


def test_an_engine_that_hangs_delays_no_answer(
    made_station: StationRoot, own: Broker, tmp_path: Path
) -> None:
    station, engine = made_station.copied_to(tmp_path / "station"), HeldEngine(1.0)
    with triggered_cell(station, own.port, engine=engine) as cell:
        remote = open_remote(station.root, "parts")
        assert remote is not None
        engine.may_run.clear()
        at_s = time.monotonic()
        cell.plc.trigger("hangs", deadline_ms=500)
        assert cell.plc.judged("hangs") == (3, "calibrating")
        assert cell.plc.wait("verdict", "hangs").at_s - at_s < 0.3 + 0.6 * slowness()
        engine.may_run.set()
        remote.close()
