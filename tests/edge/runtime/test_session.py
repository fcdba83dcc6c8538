"""A calibration session on a running station in free run: its parts are shown and get no verdict,
and whatever becomes of the client, the station judges again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.remote import RemoteStation, open_remote
from edge.camera.protocol import FrameOverdue
from edge.decide.gate import Part
from edge.errors import BusyError, CalibrationError, CameraLost, EngineError
from edge.install.install import install_bundle
from edge.runtime import changes, control_desk, scoring, session
from edge.station.audit import read_audit
from edge.types import Code, Reason
from tests.support.broker import wait_until
from tests.support.fakes import committed
from tests.support.patience import HANG_S, patience_s
from tests.support.socketed import Socketed, holding_process, socketed
from tests.support.station import BAD, EMPTY, GOOD, HEIGHT, WIDTH, StationRoot, make_station
from tests.support.tiny_bundle import make_tiny_bundle


@pytest.fixture(scope="module")
def at_work(
    made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Socketed]:
    """One station for the tests that leave it as it was."""
    station = made_station.copied_to(tmp_path_factory.mktemp("shared") / "station")
    with socketed(station) as made:
        yield made


@pytest.fixture
def cell(at_work: Socketed) -> Socketed:
    at_work.show(EMPTY)
    wait_until(lambda: at_work.state["ready"], 10, "not ready")
    return at_work


@contextmanager
def opened(cell: Socketed, what: str = "parts") -> Iterator[RemoteStation]:
    found = open_remote(cell.root, what, "anna")
    assert found is not None
    try:
        yield found
    finally:
        found.close()


def shown(cell: Socketed, remote: RemoteStation) -> Part[Any]:
    cell.pass_part(GOOD)
    return remote.next_part(10)


def counters(cell: Socketed) -> list[int]:
    work = cell.service.at_work
    assert work is not None
    told = [cell.state[name] for name in ("ok", "ng", "unknown", "seq", "images_dropped")]
    return [*told, work._drift.parts]


def test_a_part_is_shown_and_has_no_verdict_record_or_count(cell: Socketed) -> None:
    before, records = counters(cell), committed(cell.root)
    with opened(cell) as remote:
        assert (cell.state["state"], cell.state["reason"]) == ("degraded", "calibrating")
        assert not cell.state["ready"]
        assert cell.state["why"] == "parts, by anna"
        cell.pass_part(BAD)
        part = remote.next_part(10)
        assert counters(cell) == before
    assert committed(cell.root) == records
    assert cell.state["ready"], "at once"
    codes = {one.judgment.code for one in part.frames}
    assert codes == {Code.NG}
    assert len(part.frames) >= 3
    cell.pass_part(GOOD)
    wait_until(lambda: cell.state["ok"] == before[0] + 1, 10, "not judged afterwards")


def test_the_part_is_what_the_gate_of_production_completes(cell: Socketed) -> None:
    cell.pass_part(BAD)
    wait_until(lambda: cell.state["ng"] > 0 and not cell.state["busy"], 10, "not judged")
    judged = committed(cell.root)[-1]
    with opened(cell) as remote:
        cell.pass_part(BAD)
        part = remote.next_part(10)
    sight = part.frames[1]
    assert sight.window.color.shape == (96, 128, 3)
    assert sight.window.depth is not None
    assert sight.window.serial == remote.serial == cell.camera.serial
    assert sight.judgment.map is not None
    assert abs(float(sight.judgment.score or 0) - judged["score"]) < 5
    assert sight.judgment.threshold == np.float32(judged["thr"])
    assert sight.sighting.area == sight.judgment.area > 0
    numbers = [one.window.frame_number for one in part.frames]
    assert numbers == sorted(set(numbers))


def test_it_begins_between_two_parts_only(cell: Socketed) -> None:
    cell.show(GOOD)
    wait_until(lambda: cell.state["busy"], 10, "no part is open")
    with pytest.raises(BusyError, match="a part is open"):
        open_remote(cell.root, "parts")
    assert cell.state["ready"]
    ok = cell.state["ok"]
    cell.show(EMPTY)
    wait_until(lambda: cell.state["ok"] == ok + 1, 10, "the open part was not judged")
    with opened(cell):
        pass


def save_threshold(station: StationRoot, cell: Socketed, value: float) -> None:
    work = cell.service.at_work
    assert work is not None
    engine = work.current.get().engine
    station.store.save_model_state(
        station.store.active(), engine.precision, engine.name, 10, value, "", {}
    )


def test_it_begins_once_what_was_saved_before_it_judges(
    made_station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = changes.resolve_active

    def resolve_late(*what: Any) -> Any:
        time.sleep(0.5)
        return plain(*what)

    monkeypatch.setattr(changes, "resolve_active", resolve_late)
    station = made_station.copied_to(tmp_path / "station")
    with socketed(station) as cell:
        for value in (77.0, 99.0):
            save_threshold(station, cell, value)
            with opened(cell) as remote:
                part = shown(cell, remote)
            assert len(part.frames) >= 3, "the first part is shown whole"
            assert {one.judgment.threshold for one in part.frames} == {np.float32(value)}


def test_it_does_not_begin_while_an_engine_is_built_nor_wait_for_what_is_refused(
    made_station: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = threading.Event()

    def resolve_never(*_: Any) -> Any:
        built.wait(HANG_S)
        raise EngineError("out of memory")

    monkeypatch.setattr(changes, "resolve_active", resolve_never)
    monkeypatch.setattr(control_desk, "SETTLED_S", 0.3)
    station = made_station.copied_to(tmp_path / "station")
    with socketed(station) as cell:
        save_threshold(station, cell, 77.0)
        with pytest.raises(BusyError, match=r"does not judge yet.*repeat the command"):
            open_remote(cell.root, "parts")
        assert cell.state["reason"] != "calibrating"
        built.set()
        work = cell.service.at_work
        assert work is not None
        wait_until(lambda: work.changes.refused, HANG_S, "not refused")
        with opened(cell) as remote:
            assert shown(cell, remote).frames


def test_what_is_still_in_view_at_its_end_is_not_judged(cell: Socketed) -> None:
    before = counters(cell)
    with opened(cell) as remote:
        cell.show(GOOD)
    cell.show(GOOD, 10)
    cell.show(EMPTY)
    assert counters(cell) == before
    with opened(cell) as remote, pytest.raises(FrameOverdue, match="no further part for 0 s"):
        remote.next_part(0.1)


def test_there_is_one_session_at_a_time(cell: Socketed) -> None:
    with opened(cell, "plane"):
        with pytest.raises(BusyError, match=r"anna is calibrating this station \(plane\)"):
            open_remote(cell.root, "parts", "ben")
        with cell.client() as client:
            assert client.live().said["session"] == {"who": "anna", "what": "plane"}
    with opened(cell):
        pass


def test_who_and_what_stand_in_the_audit_table(cell: Socketed) -> None:
    with opened(cell) as remote:
        shown(cell, remote)
    wait_until(lambda: read_audit(cell.root)[-1].act == "session ended", 10, "no row")
    begun, ended = read_audit(cell.root)[-2:]
    assert begun.act == "session"
    assert begun.detail == {"for": "anna", "what": "parts", "pid": os.getpid()}
    assert ended.detail == {**begun.detail, "parts": 1}
    assert begun.who == ended.who != "anna", "the account, as the kernel says"


# --- scores ---


def test_a_frame_that_is_remembered_scores_as_one_that_is_sent(cell: Socketed) -> None:
    with opened(cell) as remote:
        part = shown(cell, remote)
        windows = [sight.window for sight in part.frames]
        remembered = remote.score(windows, {})
        remote._names.clear()
        sent = remote.score(windows, {})
    for one, other, sight in zip(remembered, sent, part.frames, strict=True):
        assert one.keys() == other.keys() >= {"score", "area", "valid", "map"}
        for name in one:
            assert np.array_equal(one[name], other[name])
        assert one["score"].item() == sight.judgment.score, "as production has judged it"


def test_proposed_site_inputs_are_used_and_nothing_is_changed(cell: Socketed) -> None:
    with opened(cell) as remote:
        window = shown(cell, remote).frames[1].window
        plain, raised = (
            remote.score([window], {"lift": np.array([lift], np.float32)}, ("area", "score"))[0]
            for lift in (0.003, 10.0)
        )
        assert plain.keys() == {"area", "score"}
        assert plain["area"].item() > 0.01
        assert raised["area"].item() == 0
        assert remote.score([window], {}, ("area",))[0]["area"] == plain["area"]


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        ({"shift": np.zeros(3, np.float32)}, "no site input shift"),
        ({"color": np.zeros((1, 96, 128, 3), np.uint8)}, "no site input color"),
        ({"lift": np.zeros(2, np.float32)}, "'lift' is float32 .2,."),
        ({"lift": np.zeros(1, np.float64)}, "'lift' is float64"),
        ({"lift": np.array([np.nan], np.float32)}, "lift is not finite"),
    ],
)
def test_what_the_graph_does_not_take_is_refused_and_the_session_goes_on(
    cell: Socketed, tensors: dict[str, Any], why: str
) -> None:
    with opened(cell) as remote:
        window = shown(cell, remote).frames[0].window
        with pytest.raises(Exception, match=why):
            remote.score([window], tensors)
        assert remote.score([window], {}, ["features", "area"])[0].keys() == {"area"}
        assert len(remote.score([window] * 3, {})) == 3


def test_a_hundred_frames_are_scored_in_their_order(cell: Socketed) -> None:
    with opened(cell) as remote:
        windows = [sight.window for sight in shown(cell, remote).frames]
        many = [windows[index % len(windows)] for index in range(100)]
        found = remote.score(many, {}, ("score",))
        each = {window: remote.score([window], {}, ("score",))[0]["score"] for window in windows}
        assert [one["score"] for one in found] == [each[window] for window in many]
        assert cell.state["reason"] == "calibrating", "the engine still judges what comes"


def test_frames_are_scored_by_the_engine_thread_alone(
    cell: Socketed, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: set[str] = set()
    plain = scoring.run_graph

    def run_graph(*what: Any) -> Any:
        names.add(threading.current_thread().name)
        return plain(*what)

    monkeypatch.setattr(scoring, "run_graph", run_graph)
    with opened(cell) as remote:
        window = shown(cell, remote).frames[0].window
        remote.score([window] * 5, {})
    assert names == {"engine"}


def test_what_is_not_proposed_has_its_default_whatever_judges(
    made_station: StationRoot, tmp_path: Path
) -> None:
    station = made_station.copied_to(tmp_path / "station")
    with socketed(station) as cell:
        work = cell.service.at_work
        assert work is not None
        engine = work.current.get().engine
        station.store.save_model_state(
            station.store.active(), engine.precision, engine.name, 10, 20.0, "",
            {"lift": np.array([10.0], np.float32)},
        )  # fmt: skip
        wait_until(lambda: work.current.get().model_state is not None, 10, "not taken up")
        with opened(cell) as remote:
            cell.show(GOOD)
            windows = remote.frames(1)
            assert remote.score(windows, {}, ("area",))[0]["area"].item() > 0.01
            with pytest.raises(FrameOverdue):
                remote.next_part(0.1)


def test_a_full_memory_costs_the_way_over_the_socket_and_nothing_else(
    cell: Socketed, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_frame = 96 * 128 * 5
    monkeypatch.setattr(session, "MEMORY_BYTES", 2 * one_frame)
    with opened(cell) as remote:
        windows = [sight.window for sight in shown(cell, remote).frames]
        assert len(windows) > 2
        assert set(remote._names) == set(windows[:2])
        assert len(remote.score(windows, {}, ("score",))) == len(windows)


# --- frames for the plane ---


def test_whole_frames_are_fresh(cell: Socketed) -> None:
    with opened(cell, "plane") as remote:
        before = cell.camera.number
        frames = remote.frames(12)
        numbers = [frame.frame_number for frame in frames]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > before - 12, "what was on its way between the threads"
        assert frames[0].color.shape == (96, 128, 3)
        assert remote.crop == (0, 0, 128, 96)


def test_a_camera_that_gives_nothing_is_said(cell: Socketed) -> None:
    with opened(cell, "plane") as remote:
        cell.camera.show = None
        with pytest.raises(CameraLost, match=r"no frame within 2 s: camera_lost"):
            remote.frames(100, timeout_s=2)
        with pytest.raises(FrameOverdue, match="camera_lost"):
            remote.next_part(0.1)
        assert cell.state["reason"] == "calibrating"
    assert cell.state["reason"] == "camera_lost"
    cell.camera.show = EMPTY
    wait_until(lambda: cell.state["ready"], 20, "the camera is not back")


def test_an_uncalibrated_station_gives_frames_and_no_scores(tmp_path: Path) -> None:
    station = make_station(tmp_path / "station", calibrated=False)
    with socketed(station) as cell, opened(cell, "plane") as remote:
        window = remote.frames(3)[0]
        with pytest.raises(CalibrationError, match="edge calibrate plane"):
            remote.score([window], {})
        cell.pass_part(GOOD)
        assert not remote.is_calibrated
        with pytest.raises(FrameOverdue, match="uncalibrated"):
            remote.next_part(0.2)
        assert cell.state["reason"] == "calibrating"
        station.calibrate()
        cell.show(EMPTY, 60)
        assert len(shown(cell, remote).frames) >= 3, "the plane is taken up in the session"


# --- how it ends ---


def test_a_client_that_is_killed_ends_it_within_two_seconds(cell: Socketed) -> None:
    with holding_process(cell.root) as process:
        assert cell.state["reason"] == "calibrating"
        process.send_signal(signal.SIGKILL)
        begun_s = time.monotonic()
        wait_until(lambda: cell.state["ready"], 2, "still calibrating")
        assert time.monotonic() - begun_s < patience_s(2)
    wait_until(lambda: read_audit(cell.root)[-1].act == "session ended", 10, "no row")
    ended = read_audit(cell.root)[-1].detail
    assert (ended["why"], ended["pid"]) == ("its client is gone", process.pid)


@pytest.mark.parametrize("wait", ["part", "frames", "score"])
def test_a_client_that_is_gone_while_it_waits_ends_it(
    cell: Socketed, wait: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = open_remote(cell.root, wait)
    assert remote is not None
    if wait == "score":
        window = shown(cell, remote).frames[0].window
        monkeypatch.setattr("edge.runtime.scoring.Scoring.work", lambda *_: time.sleep(0.01))
    else:
        window = None
        cell.camera.show = None if wait == "frames" else EMPTY
    with suppress(Exception):
        monkeypatch.setattr(remote._client._stream, "wait", lambda _: 1 / 0)
        if wait == "part":
            remote.next_part(500)
        elif wait == "frames":
            remote.frames(1, 60)
        elif window is not None:
            remote.score([window], {})
    remote._client.close()
    wait_until(lambda: cell.state["reason"] != "calibrating", 2, "still calibrating")
    cell.camera.show = EMPTY
    monkeypatch.undo()
    wait_until(lambda: cell.state["ready"], 20, "not ready")


def test_a_client_that_says_nothing_ends_it(
    cell: Socketed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert control_desk.SILENCE_S == 600
    monkeypatch.setattr(control_desk, "SILENCE_S", 0.5)
    with opened(cell) as remote:
        wait_until(lambda: cell.state["ready"], 5, "still calibrating")
        with pytest.raises(CalibrationError, match="ended, nothing was asked for"):
            remote.next_part(1)


def test_another_bundle_ends_it_and_judges(made_station: StationRoot, tmp_path: Path) -> None:
    station = made_station.copied_to(tmp_path / "station")
    newer = make_tiny_bundle(tmp_path, station.key, version="2.0.0", height=HEIGHT, width=WIDTH)
    with socketed(station) as cell, opened(cell) as remote:
        install_bundle(newer, station.root)
        wait_until(lambda: cell.state["ready"], 20, "still calibrating")
        assert cell.state["bundle"].startswith("2.0.0-")
        with pytest.raises(CalibrationError, match="ended, another bundle or engine judges now"):
            remote.next_part(1)


def test_parts_that_nobody_fetches_are_counted_and_hold_nothing_up(cell: Socketed) -> None:
    with opened(cell) as remote:
        for _ in range(session.WAITING_PARTS + 2):
            cell.pass_part(GOOD)
        for _ in range(session.WAITING_PARTS):
            assert remote.next_part(10).frames
        assert remote.missed == 2
        assert shown(cell, remote).frames


def test_a_station_that_stops_ends_the_session(made_station: StationRoot, tmp_path: Path) -> None:
    station = made_station.copied_to(tmp_path / "station")
    with socketed(station) as cell:
        remote = open_remote(cell.root, "parts")
        assert remote is not None
        assert Reason.CALIBRATING.value == cell.state["reason"]
    with pytest.raises(Exception, match="has ended"):
        remote.next_part(1)
    remote.close()
    assert open_remote(cell.root, "parts") is None
