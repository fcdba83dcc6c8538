"""A triggered station, its broker and its PLC: one verdict per trigger, on time, for the part."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.broker import Broker, wait_until
from tests.support.fakes import committed
from tests.support.station import BAD, EMPTY, GOOD, StationRoot, make_station
from tests.support.triggering import PERIOD_S, PREFIX, Cell, HeldEngine, TriggerPlc, triggered_cell

# without it the verdict that follows an acknowledgment closely comes 40 ms late from mosquitto
NODELAY = "set_tcp_nodelay true\n"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), NODELAY) as started:
        yield started


@pytest.fixture(scope="module")
def at_work(
    made_station: StationRoot, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cell]:
    """One station for the tests that leave it as it was; each names parts of its own."""
    station = made_station.copied_to(tmp_path_factory.mktemp("shared") / "station")
    with triggered_cell(station, broker.port) as made:
        yield made


@pytest.fixture
def cell(at_work: Cell) -> Cell:
    wait_until(lambda: at_work.state["ready"] and not at_work.state["busy"], 10, "not ready")
    at_work.camera.show = EMPTY
    return at_work


def test_a_trigger_is_acknowledged_and_its_part_judged(cell: Cell) -> None:
    cell.show(BAD)
    cell.plc.trigger("whole", n=7, frames=3)
    ack, verdict, record = (
        cell.plc.wait(at, "whole") for at in ("trigger/ack", "verdict", "record")
    )
    seq = ack.json["seq"]
    assert ack.payload == (
        b'{"part":"whole","n":7,"accepted":true,"seq":%d,"reason":"","field":""}' % seq
    )
    assert list(verdict.json)[:6] == ["id", "seq", "part", "n", "code", "reason"]
    assert [verdict.json[key] for key in ("seq", "n", "code", "reason")] == [seq, 7, 2, "anomaly"]
    assert {"seq": seq, "n": 7, "code": 2, "judged_code": 2, "frames": 3}.items() <= (
        record.json.items()
    )
    assert ack.at_s < verdict.at_s
    assert f"2 {seq} whole".encode() in [one.payload for one in cell.plc.of("verdict/code")]


def test_the_same_name_after_the_deadline_is_another_part(cell: Cell) -> None:
    cell.show(GOOD)
    cell.plc.trigger("again", deadline_ms=700, n=1)
    assert cell.plc.judged("again") == (1, "normal")
    deadline_s = cell.plc.wait("trigger/ack", "again").at_s + 0.7
    cell.show(BAD)
    time.sleep(max(0.0, deadline_s - time.monotonic()))
    cell.plc.trigger("again", n=1)
    assert cell.plc.judged("again", count=2) == (2, "anomaly")
    assert cell.plc.ack("again")["seq"] < cell.plc.ack("again", count=2)["seq"]


def test_a_repeat_gets_the_same_answer_and_is_no_second_part(cell: Cell) -> None:
    cell.show(GOOD)
    before = cell.state["seq"]
    cell.plc.trigger("twice", n=1, delay_ms=300)
    cell.plc.trigger("twice", n=1, delay_ms=300)
    assert cell.plc.ack("twice", count=2) == cell.plc.ack("twice")
    seq = cell.plc.verdict("twice")["seq"]
    cell.show(BAD)
    assert len(cell.plc.of("verdict", "twice")) == 1
    cell.plc.trigger("twice", n=1)
    second = cell.plc.verdict("twice", count=2)
    assert (second["seq"], second["code"]) == (seq, 1)
    assert cell.state["seq"] == before + 1


def test_without_n_each_trigger_is_a_part(cell: Cell) -> None:
    cell.show(GOOD)
    for count in (1, 2):
        cell.plc.trigger("nameless")
        cell.pass_window("nameless", count)
    assert cell.plc.verdict("nameless", count=2)["seq"] == cell.plc.verdict("nameless")["seq"] + 1
    assert "n" not in cell.plc.verdict("nameless")


def test_the_part_begins_with_the_first_frame_after_trigger_and_delay(cell: Cell) -> None:
    cell.show(GOOD)
    at_s = cell.plc.trigger("delayed", delay_ms=300)
    cell.plc.ack("delayed")
    cell.camera.show = BAD
    assert cell.plc.judged("delayed") == (2, "anomaly")
    assert cell.plc.wait("verdict", "delayed").at_s > at_s + 0.3


def test_overlapping_windows_are_busy_and_nothing_follows(cell: Cell) -> None:
    cell.show(GOOD)
    cell.plc.trigger("first", frames=10)
    cell.plc.trigger("second", n=3, frames=10)
    assert cell.plc.ack("second") == {
        "part": "second", "n": 3, "accepted": False, "seq": None, "reason": "busy", "field": ""
    }  # fmt: skip
    assert cell.plc.judged("first") == (1, "normal")
    assert cell.plc.of("verdict", "second") == []


def test_an_empty_view_is_no_part(cell: Cell) -> None:
    cell.show(EMPTY)
    cell.plc.trigger("nothing")
    assert cell.plc.judged("nothing") == (3, "no_part")


def test_a_bad_request_is_refused_and_names_the_key(cell: Cell) -> None:
    cell.plc.trigger("bad", frames=0)
    said = cell.plc.ack("bad")
    assert (said["accepted"], said["reason"], said["field"]) == (False, "bad_request", "frames")


def test_response_topic_and_correlation_data_are_honored(cell: Cell) -> None:
    cell.show(GOOD)
    asked = json.dumps({"part": "asked", "deadline_ms": 5000}).encode()
    cell.plc.publish(asked, ResponseTopic="plc/7", CorrelationData=b"\x01\x02")
    verdict = cell.plc.wait("verdict", "asked")
    wait_until(lambda: len(cell.plc.of("plc/7")) == 2, 10, "no answer on the response topic")
    ack = cell.plc.wait("trigger/ack", "asked")
    assert [one.payload for one in cell.plc.of("plc/7")] == [ack.payload, verdict.payload]
    told = (ack, verdict, *cell.plc.of("plc/7"))
    assert {one.correlation for one in told} == {b"\x01\x02"}


def test_the_last_verdict_is_told_on_request(cell: Cell) -> None:
    cell.show(GOOD)
    cell.plc.trigger("last")
    seq = cell.plc.verdict("last")["seq"]
    cell.plc.publish(b"", to="last")
    assert cell.plc.wait("last/verdict", "last").json["seq"] == seq
    cell.plc.publish(b'{"seq":%d}' % seq, to="ack")


def test_a_response_topic_of_the_stations_own_gets_nothing(cell: Cell) -> None:
    cell.show(GOOD)
    asked = json.dumps({"part": "mirror", "deadline_ms": 5000}).encode()
    cell.plc.publish(asked, ResponseTopic=f"{PREFIX}/trigger")
    assert cell.plc.judged("mirror") == (1, "normal")
    assert [one.payload for one in cell.plc.of("trigger", "mirror")] == [asked]


def test_parts_without_a_trigger_are_counted_and_told(cell: Cell) -> None:
    before = cell.state["parts_untriggered"]
    for show in (EMPTY, GOOD, EMPTY):
        cell.show(show)
    wait_until(lambda: cell.state["parts_untriggered"] == before + 1, 10, "not counted")
    cell.show(GOOD)
    cell.plc.trigger("seen")
    cell.plc.verdict("seen")
    cell.show(EMPTY)
    assert cell.state["parts_untriggered"] == before + 1


def test_a_camera_that_delivers_nothing_is_told_on_time(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.decide.trigger.MARGIN_MS", 200)
    cell.camera.show = None
    time.sleep(3 * PERIOD_S)
    cell.plc.trigger("dark", deadline_ms=500)
    assert cell.plc.judged("dark") == (3, "camera_lost")
    assert cell.plc.verdict("dark")["ms"] < 500  # from the trigger until it left
    cell.camera.show = EMPTY
    assert cell.plc.record("dark")["judged_code"] == 3
    assert len(cell.plc.of("verdict", "dark")) == 1


def test_what_was_published_before_the_session_is_ignored_and_counted(
    station: StationRoot, tmp_path: Path
) -> None:
    with Broker(tmp_path / "own", NODELAY) as own:
        early = TriggerPlc(own.port)
        early.publish(b'{"part":"old","deadline_ms":5000}', retain=True)
        early.publish(b'{"part":"older","deadline_ms":5000}')
        wait_until(lambda: len(early.of("trigger")) == 2, 10, "the broker did not take them")
        early.stop()
        with triggered_cell(station, own.port) as cell:
            wait_until(lambda: cell.state["triggers_ignored"] == 1, 10, "not counted")
            cell.plc.trigger("new")
            assert cell.plc.ack("new")["seq"] == 1


def test_triggers_are_accepted_while_a_part_is_judged_and_too_late_is_late(
    station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.decide.trigger.MARGIN_SHARE", 0.5)
    monkeypatch.setattr("edge.decide.trigger.MARGIN_MS", 500)
    engine = HeldEngine(score=60.0)
    with (
        Broker(tmp_path / "own", NODELAY) as own,
        triggered_cell(station, own.port, engine=engine) as cell,
    ):
        engine.may_run.clear()
        cell.plc.trigger("late", deadline_ms=600)
        cell.pass_window("late")
        cell.plc.trigger("next", n=2)
        assert cell.plc.ack("next")["accepted"]
        assert cell.plc.judged("late") == (3, "late")
        assert cell.plc.verdict("late")["ms"] < 600
        assert cell.plc.of("verdict", "next") == cell.plc.of("record") == []
        engine.may_run.set()
        assert cell.plc.judged("next") == (2, "anomaly")
        assert cell.plc.verdict("next")["n"] == 2
        record = cell.plc.record("late")
        known = [record[key] for key in ("code", "reason", "judged_code", "score")]
        assert known == [3, "late", 2, 60]
        assert [cell.state[name] for name in ("unknown", "ng")] == [1, 1]
        assert len(cell.plc.of("verdict", "late")) == 1


def test_mqtt_3_1_1_has_the_part_and_n(station: StationRoot, tmp_path: Path) -> None:
    with (
        Broker(tmp_path / "own", NODELAY) as own,
        triggered_cell(station, own.port, protocol="3.1.1") as cell,
    ):
        cell.show(BAD)
        cell.plc.trigger("old", n=4)
        assert cell.plc.ack("old")["accepted"]
        assert cell.plc.verdict("old")["n"] == 4
        assert cell.plc.judged("old") == (2, "anomaly")


def test_a_product_that_cannot_see_a_part_arrive_is_judged_by_trigger(tmp_path: Path) -> None:
    limits = {"min_area": 0.0, "max_area": 1.0}  # as the trainer writes them for such a product
    station = make_station(tmp_path / "made", presence=False, **limits)
    with Broker(tmp_path / "own", NODELAY) as own, triggered_cell(station, own.port) as cell:
        for show, judged in ((GOOD, (1, "normal")), (BAD, (2, "anomaly"))):
            cell.show(show)
            cell.plc.trigger(judged[1])
            assert cell.plc.judged(judged[1]) == judged
        assert cell.state["parts_untriggered"] == 0


def test_a_station_that_stops_answers_what_is_open(station: StationRoot, tmp_path: Path) -> None:
    with Broker(tmp_path / "own", NODELAY) as own:
        with triggered_cell(station, own.port) as cell:
            cell.plc.trigger("open", delay_ms=4000)
            cell.plc.ack("open")
            cell.service.stop()
            assert cell.plc.judged("open") == (3, "late")
        (record,) = committed(station.root)
        assert (record["part"], record["code"], record["judged_code"]) == ("open", 3, None)
