"""Commands over a real broker, by both protocols: what each does, when it is refused, and that each
is answered once and written down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calibration.remote import open_remote
from edge.errors import EngineError
from edge.install.proven import ProvenEngine, open_proven_engine
from edge.runtime.active import EngineLoader
from edge.runtime.at_socket import AtSocket
from edge.station.audit import read_audit
from edge.station.store import Installed, Store
from tests.support.broker import Broker, wait_until
from tests.support.commanding import CommandCell, command_cell, configured, make_products, settled
from tests.support.patience import HANG_S
from tests.support.station import BAD, EMPTY, GOOD, SERIAL, Shot, StationRoot

NODELAY = "set_tcp_nodelay true\n"


@pytest.fixture(scope="module")
def products(made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """To copy from."""
    return make_products(made_station, tmp_path_factory.mktemp("products") / "station")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with Broker(tmp_path_factory.mktemp("broker"), NODELAY) as started:
        yield started


@pytest.fixture(scope="module", params=["5", "3.1.1"])
def at_work(
    request: pytest.FixtureRequest,
    products: StationRoot,
    broker: Broker,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[CommandCell]:
    """A triggered station of each protocol, for the tests that leave it as it was."""
    station = products.copied_to(tmp_path_factory.mktemp("shared") / "station")
    config = configured(station, broker.port, request.param, "triggered")
    with command_cell(station, broker.port, config) as made:
        yield made


@pytest.fixture
def cell(at_work: CommandCell) -> CommandCell:
    settled(at_work)
    return at_work


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker", NODELAY) as started:
        yield started


@pytest.fixture
def free(products: StationRoot, own: Broker, tmp_path: Path) -> Iterator[CommandCell]:
    """A station in free run."""
    station = products.copied_to(tmp_path / "station")
    with command_cell(station, own.port, configured(station, own.port, "5", "free_run")) as made:
        settled(made)
        made.show(EMPTY, 3)  # what was in view at the start has left
        yield made


def is_done(answer: dict[str, Any]) -> bool:
    assert list(answer) == ["do", "id", "who", "done", "reason", "field", "result"]
    return bool(answer["done"])


def test_a_product_is_selected_by_name_and_by_number_and_judges_when_told(
    cell: CommandCell,
) -> None:
    assert is_done(cell.ask("select", "by-name", product="screw", who="plc7"))
    assert (cell.state["product"], cell.state["product_number"]) == ("screw", 2)
    assert cell.judging.startswith("1.0.0-")
    (row,) = cell.rows("by-name")
    assert row.who == "mqtt plc7"
    assert row.detail.items() >= {"do": "select", "product": "screw", "done": True}.items()
    claims = [one for one in read_audit(cell.root) if one.act == "select"]
    assert (claims[-1].who, claims[-1].detail["product"]) == ("mqtt plc7", "screw")
    answer = cell.ask("select", "by-number", number=1)
    assert is_done(answer)
    assert answer["result"] == f"washer {cell.judging} judges"
    settled(cell)
    cell.show(GOOD)
    cell.plc.trigger("after", frames=5)
    assert cell.plc.record("after")["product"] == "washer"


def held_back(station: StationRoot, may_open: threading.Event) -> EngineLoader:
    """Opens every engine but the washer's only once it may."""

    def load(installed: Installed) -> ProvenEngine:
        assert installed.product == "washer" or may_open.wait(HANG_S)
        return open_proven_engine(station.store, installed)

    return load


def test_it_is_not_answered_before_the_new_bundle_judges(
    products: StationRoot, own: Broker, tmp_path: Path
) -> None:
    station, may_open = products.copied_to(tmp_path / "station"), threading.Event()
    load = held_back(station, may_open)
    config = configured(station, own.port, "5", "triggered")
    with command_cell(station, own.port, config, load_engine=load) as cell:
        cell.send("select", id="slow", product="screw")
        wait_until(lambda: station.store.active_product() == "screw", 10, "not selected")
        wait_until(lambda: cell.state["reason"] == "paused", 10, "not told")
        assert not cell.state["ready"]
        cell.plc.trigger("meanwhile")
        assert cell.plc.ack("meanwhile")["reason"] == "not_ready"
        second = cell.ask("pause", "second")
        assert (second["done"], second["reason"]) == (False, "busy")
        assert len(cell.rows("second")) == 1
        assert cell.answers("slow") == []
        assert cell.state["product"] == "washer"
        may_open.set()
        assert is_done(cell.answer("slow"))
        assert cell.state["product"] == "screw"
        wait_until(lambda: cell.state["ready"], 10, "not ready afterwards")


def test_a_bundle_that_cannot_be_opened_leaves_the_old_one_active(
    products: StationRoot, own: Broker, tmp_path: Path
) -> None:
    station = products.copied_to(tmp_path / "station")

    def load(installed: Installed) -> ProvenEngine:
        if (installed.product, installed.manifest.version) in (
            ("screw", "1.0.0"),
            ("washer", "1.0.0"),
        ):
            raise EngineError("the device fell off the bus")
        return open_proven_engine(station.store, installed)

    config = configured(station, own.port, "5", "triggered")
    with command_cell(station, own.port, config, load_engine=load) as cell:
        for do, more in (("select", {"number": 2}), ("rollback", {})):
            answer = cell.ask(do, do, **more)
            assert (answer["done"], answer["reason"]) == (False, "failed")
            assert answer["result"] == (
                f"the device fell off the bus; washer {cell.judging} judges as before"
            )
            assert station.store.active().slot == cell.judging
            assert cell.judging.startswith("2.0.0-")
            wait_until(lambda: cell.state["ready"], 10, "not ready afterwards")
            assert cell.state["reason"] == ""


def test_a_rollback_and_back(cell: CommandCell) -> None:
    before = cell.judging
    assert is_done(cell.ask("rollback", "back", who="plc7"))
    assert before.startswith("2.0.0-")
    assert cell.judging.startswith("1.0.0-")
    rows = [row for row in read_audit(cell.root) if row.act == "rolled back"]
    assert rows[-1].who == "mqtt plc7"
    assert is_done(cell.ask("rollback", "forth"))
    assert cell.judging == before


def test_pause_and_resume_with_triggers(cell: CommandCell) -> None:
    assert is_done(cell.ask("pause", "pause"))
    assert (cell.state["paused"], cell.state["ready"]) == (True, False)
    assert (cell.state["state"], cell.state["reason"]) == ("degraded", "paused")
    cell.plc.trigger("unheard")
    assert cell.plc.ack("unheard")["reason"] == "not_ready"
    assert is_done(cell.ask("reset", "in-pause"))
    assert cell.state["paused"]
    assert is_done(cell.ask("resume", "resume"))
    assert not cell.state["paused"]
    settled(cell)
    cell.show(BAD)
    cell.plc.trigger("heard", frames=5)
    assert cell.plc.judged("heard") == (2, "anomaly")


def test_a_part_that_passes_in_a_pause_is_not_judged_nor_one_that_is_still_there(
    free: CommandCell,
) -> None:
    for show in (GOOD, EMPTY):
        free.show(show, 5)
    wait_until(lambda: free.state["ok"] == 1, 10, "not judged")
    assert is_done(free.ask("pause", "pause"))
    for show in (BAD, EMPTY, BAD):
        free.show(show, 5)
    assert not free.state["busy"]
    assert is_done(free.ask("resume", "resume"))
    for show in (BAD, EMPTY, GOOD, EMPTY):
        free.show(show, 5)
    wait_until(lambda: free.state["ok"] == 2, 10, "not judged again")
    assert [free.state[name] for name in ("ok", "ng", "unknown")] == [2, 0, 0]
    assert [one.json["code"] for one in free.plc.of("verdict")] == [1, 1]


def test_a_command_while_a_part_is_open_is_busy(free: CommandCell) -> None:
    free.show(GOOD, 5)
    wait_until(lambda: free.state["busy"], 10, "no part is open")
    answer = free.ask("select", "open", product="screw")
    assert (answer["done"], answer["reason"], free.state["product"]) == (False, "busy", "washer")
    assert free.rows("open")[0].detail["reason"] == "busy"
    free.show(EMPTY, 5)
    wait_until(lambda: free.state["ok"] == 1, 10, "the part is not judged")
    assert is_done(free.ask("select", "closed", product="screw"))


def test_a_command_while_a_trigger_waits_is_busy(cell: CommandCell) -> None:
    cell.show(GOOD)
    cell.plc.trigger("waits", delay_ms=600, frames=5)
    cell.plc.ack("waits")
    for do in ("pause", "rollback", "restart_camera"):
        assert cell.ask(do, f"{do}-early")["reason"] == "busy"
    assert cell.plc.judged("waits") == (1, "normal")
    assert not cell.state["paused"]


def test_the_camera_is_opened_anew_and_frames_come(cell: CommandCell) -> None:
    opened, restarts = cell.camera.opened, cell.state["camera_restarts"]
    assert is_done(cell.ask("restart_camera", "camera"))
    assert cell.camera.opened == opened + 1
    assert cell.state["camera_restarts"] == restarts + 1
    assert (cell.state["ready"], cell.state["reason"]) == (True, "")
    cell.show(GOOD)
    cell.plc.trigger("seen", frames=5)
    assert cell.plc.judged("seen") == (1, "normal")


def test_a_camera_that_does_not_come_back_is_told(
    cell: CommandCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.runtime.command_acts.FRAMES_S", 0.3)
    cell.camera.show = None
    answer = cell.ask("restart_camera", "dark")
    assert (answer["done"], answer["reason"]) == (False, "failed")
    assert answer["result"].startswith("no frames within 0.3 s: ")


def test_the_counters_begin_at_0_and_the_number_of_parts_does_not(cell: CommandCell) -> None:
    cell.show(GOOD)
    cell.plc.trigger("counted", frames=5)
    seq = cell.plc.verdict("counted")["seq"]
    wait_until(lambda: cell.state["ok"] > 0 and not cell.state["busy"], 10, "not counted")
    assert is_done(cell.ask("reset", "reset"))
    assert [cell.state[name] for name in ("ok", "ng", "unknown")] == [0, 0, 0]
    cell.plc.trigger("next", frames=5)
    assert cell.plc.verdict("next")["seq"] == seq + 1
    assert cell.state["ok"] == 1


def test_a_plane_is_calibrated_by_a_child_on_the_frames_of_this_station_s_camera(
    free: CommandCell,
) -> None:
    text = (free.root / "etc/edge/station.toml").read_text()
    real = text.replace('kind = "folder"', 'kind = "realsense"').replace('path = "belt"', "")
    (free.root / "etc/edge/station.toml").write_text(real)  # the child could open no other
    store, opened = Store(free.root), free.camera.opened
    before = store.geometry_record("washer", SERIAL)
    assert before is not None
    answer = free.ask("calibrate", "plane", what="plane")
    assert is_done(answer), answer
    after = store.geometry_record("washer", SERIAL)
    assert after is not None
    assert after.version == before.version + 1
    assert free.camera.opened == opened, "it is opened once"

    def sessions() -> list[tuple[str, str]]:
        rows = [row for row in read_audit(free.root) if row.act.startswith("session")]
        return [(row.act, row.detail["what"]) for row in rows]

    told = [("session", "plane"), ("session ended", "plane")]
    wait_until(lambda: sessions() == told, 10, "no rows")
    assert free.state["reason"] == ""
    for show in (EMPTY, GOOD, EMPTY):
        free.show(show, 5)
    wait_until(lambda: free.plc.of("record"), 10, "not judged")
    said = free.plc.of("record")[0].json
    assert (said["code"], len(said["geometry"])) == (1, 12)
    assert answer["result"].startswith(f"saved version {after.version}, by ")


def test_parts_are_shown_to_a_child_and_set_the_threshold(free: CommandCell) -> None:
    store, opened, count = Store(free.root), free.camera.opened, 3
    free.send("calibrate", id="parts", what="parts", count=count, false_rejects=0.1)
    wait_until(lambda: free.state["reason"] == "calibrating", HANG_S, "not begun")
    for number in range(count):
        for show in (Shot(part=True, defect=4.0 * number + 4), EMPTY):
            free.show(show, 10)
    wait_until(lambda: free.answers("parts"), HANG_S, "not answered")
    answer = free.answer("parts")
    assert is_done(answer), answer
    (state,) = store.model_states(store.active())
    assert (state.parts, free.camera.opened) == (count, opened)
    assert answer["result"].startswith(f"saved version {state.version}, by ")
    for show in (EMPTY, BAD, EMPTY):
        free.show(show, 5)
    wait_until(lambda: free.plc.of("record"), HANG_S, "not judged")
    record = free.plc.of("record")[0].json
    assert (record["seq"], record["code"], record["thr_from"]) == (1, 2, "site")


def test_a_child_that_opens_the_camera_itself_is_lent_it(
    free: CommandCell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AtSocket, "is_open", False)
    opened = free.camera.opened
    answer = free.ask("calibrate", "expected", what="expected", count=5)
    assert answer["reason"] == "failed"
    wait_until(lambda: free.camera.opened == opened + 1, 10, "not opened again")
    assert "no part is in view" in answer["result"], "it has played its own empty belt"
    settled(free)


def test_a_command_while_parts_are_shown_to_a_calibration_is_busy(free: CommandCell) -> None:
    remote = open_remote(free.root, "parts", "anna")
    assert remote is not None
    answer = free.ask("pause", "meanwhile")
    assert (answer["reason"], answer["result"]) == (
        "busy", "a calibration is open: send it again after its end"
    )  # fmt: skip
    remote.close()
    assert is_done(free.ask("pause", "afterwards"))
    remote = open_remote(free.root, "parts", "anna")
    assert remote is not None, "a paused station can be calibrated"
    remote.close()
    assert free.state["reason"] == "paused", "and is paused afterwards"


@pytest.mark.parametrize(
    ("more", "reason", "field"),
    [
        ({"do": "select", "product": "nut"}, "unknown_product", ""),
        ({"do": "select", "number": 9}, "unknown_product", ""),
        ({"do": "select"}, "bad_request", "product"),
        ({"do": "dance"}, "bad_request", "do"),
        ({"do": "reset", "hard": True}, "bad_request", "hard"),
    ],
)
def test_what_cannot_be_done_is_refused_and_written_down(
    cell: CommandCell, more: dict[str, Any], reason: str, field: str
) -> None:
    name = f"{more['do']}-{reason}-{len(more)}{more.get('number', '')}"
    answer = cell.ask(**more, name=name)
    assert (answer["done"], answer["reason"], answer["field"]) == (False, reason, field)
    wait_until(lambda: [row for row in read_audit(cell.root) if row.act == "command"
                        and row.detail.get("reason") == reason], 10, "no row")  # fmt: skip


def test_a_repeat_gets_the_same_answer_and_is_not_done_twice(cell: CommandCell) -> None:
    before = cell.judging
    first = cell.ask("rollback", "once")
    cell.send("rollback", id="once")
    assert cell.answer("once", count=2) == first
    assert cell.judging != before
    assert len(cell.rows("once")) == 1
    cell.send("pause", id="once")
    other = cell.answer("once", count=3)
    assert (other["reason"], other["field"], cell.state["paused"]) == ("bad_request", "id", False)
    assert is_done(cell.ask("rollback", "undone"))


def test_response_topic_and_correlation_data_are_honored(cell: CommandCell) -> None:
    if cell.plc._protocol != "5":
        pytest.skip("MQTT 3.1.1 has neither")
    before = len(cell.plc.of("plc/9"))
    cell.send("reset", id="asked", ResponseTopic="plc/9", CorrelationData=b"\x07")
    answer = cell.answer("asked")
    wait_until(lambda: len(cell.plc.of("plc/9")) == before + 1, 10, "no answer there")
    copy = cell.plc.of("plc/9")[-1]
    assert (copy.json, copy.correlation) == (answer, b"\x07")
    assert cell.plc.of("command/answer")[-1].correlation == b"\x07"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda config: {"broker": config.broker.model_copy(update={"username": ""})},
         "this connection is not authenticated"),
        (lambda config: {"commands": config.commands.model_copy(update={"allow": ["reset"]})},
         "`allow` in [commands] of station.toml does not name pause"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_refused(
    products: StationRoot, own: Broker, tmp_path: Path, change: Callable[..., Any], why: str
) -> None:
    station = products.copied_to(tmp_path / "station")
    config = configured(station, own.port, "5", "triggered")
    with command_cell(station, own.port, config.model_copy(update=change(config))) as cell:
        answer = cell.ask("pause", "forbidden")
        assert (answer["reason"], answer["result"]) == ("not_allowed", why)
        assert not cell.state["paused"]
        wait_until(lambda: cell.rows("forbidden"), 10, "no row")


def test_a_station_without_commands_hears_none_and_a_retained_one_is_ignored(
    products: StationRoot, own: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    station = products.copied_to(tmp_path / "station")
    config = configured(station, own.port, "5", "triggered")
    off = config.commands.model_copy(update={"enabled": False})
    with command_cell(station, own.port, config.model_copy(update={"commands": off})) as cell:
        cell.plc.publish(b'{"do":"pause","id":"old"}', True, "command")
        wait_until(lambda: cell.plc.of("command"), 10, "the broker did not take it")
    with command_cell(station, own.port, config) as cell:
        wait_until(lambda: "retained or has expired" in caplog.text, 10, "not said")
        assert is_done(cell.ask("reset", "new"))
        assert not cell.state["paused"]
        assert cell.answers("old") == []


def test_a_station_that_stops_answers_what_is_at_work(
    products: StationRoot, own: Broker, tmp_path: Path
) -> None:
    station, may_open = products.copied_to(tmp_path / "station"), threading.Event()
    load = held_back(station, may_open)
    config = configured(station, own.port, "5", "triggered")
    with command_cell(station, own.port, config, load_engine=load) as cell:
        cell.send("select", id="cut", product="screw")
        wait_until(lambda: station.store.active_product() == "screw", 10, "not selected")
        cell.service.stop()
        answer = cell.answer("cut")
        may_open.set()
    assert (answer["done"], answer["reason"]) == (False, "failed")
    assert answer["result"] == "the station stops: what is active judges at its next start"
    assert station.store.active_product() == "screw"
