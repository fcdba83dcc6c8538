"""The live view over HTTP: what the station says, asked once for all tabs."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.clock import boot_time_s
from edge.page.live_source import LEAST_S, Look, SharedLook
from edge.page.live_state import state_of
from edge.page.station_source import STATUS, StationSource
from edge.station.lock import RUN, locked
from tests.support.played_socket import NG, OK, READY, UNKNOWN, PlayedStation, played_station
from tests.support.served_page import Client, served_page, write_page_config

JPEG = b"\xff\xd8 a picture \xff\xd9"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question reaches the station, unless a test is about that."""
    monkeypatch.setattr("edge.page.live_source.LEAST_S", 0.0)
    monkeypatch.setattr("edge.page.station_source.RETRY_S", 0.0)


def test_what_the_station_says_is_shown(lena: Client, station: PlayedStation) -> None:
    station.show(OK)
    station.show(NG)
    said = lena.api("/api/v1/live").json
    assert (said["station"], said["ready"], said["reason"]) == ("online", True, "")
    assert (said["ok"], said["ng"], said["unknown"]) == (1284, 17, 3)
    assert said["shift"] is None, "the played station gives no numbers to its parts"
    assert said["last"] == {
        "seq": 1304,
        "part": "A1304",
        "code": 2,
        "reason": "anomaly",
        "score": 13.25,
        "threshold": 9.5,
        "judged_at": "2026-11-30T16:00:00.000Z",
    }
    station.show(UNKNOWN)
    assert lena.api("/api/v1/live").json["last"]["score"] is None


def test_a_picture_is_sent_once_and_its_header_tells_of_changes(
    lena: Client, station: PlayedStation
) -> None:
    path = "/api/v1/live/picture"
    nothing = lena.get(path)
    assert (nothing.status, nothing.body) == (204, b"")
    station.show(OK, JPEG)
    first = lena.get(path)
    assert (first.status, first.body) == (200, JPEG)
    assert first.headers["content-type"] == "image/jpeg"
    assert first.headers["x-live-version"] != nothing.headers["x-live-version"]
    assert first.headers["x-live-version"] == lena.api("/api/v1/live").json["version"]
    same = lena.get(path, if_none_match=first.headers["etag"])
    assert (same.status, same.body) == (304, b"")
    assert same.headers["x-live-version"] == first.headers["x-live-version"]
    station.show(NG)
    same = lena.get(path, if_none_match=first.headers["etag"])
    assert same.status == 304
    assert same.headers["x-live-version"] != first.headers["x-live-version"]
    station.show(NG, JPEG + b"2")
    assert lena.get(path, if_none_match=first.headers["etag"]).status == 200


def test_counters_of_time_are_no_change(lena: Client, station: PlayedStation) -> None:
    """Else every picture would cost a second request."""
    before = lena.api("/api/v1/live").json["version"]
    station.state |= {"uptime_s": 5401, "frames": 91_030, "engine_ms": 22.0}
    assert lena.api("/api/v1/live").json["version"] == before
    station.state["ok"] += 1
    assert lena.api("/api/v1/live").json["version"] != before


def test_a_station_that_comes_and_goes(lena: Client, shared_root: Path) -> None:
    """Without the page being told: stopped, there, killed, there again."""
    for _ in range(2):
        assert lena.api("/api/v1/live").json["station"] == "stopped"
        with played_station(shared_root) as station:
            station.show(OK, JPEG)
            assert lena.api("/api/v1/live").json["station"] == "online"
            assert lena.get("/api/v1/live/picture").body == JPEG
    said = lena.api("/api/v1/live").json
    assert (said["station"], said["last"]) == ("stopped", None)
    assert lena.get("/api/v1/live/picture").status == 204, "no picture of before"


def look(root: Path) -> Look:
    async def once() -> Look:
        source = StationSource(root)
        try:
            return await source.look()
        finally:
            await source.close()

    return asyncio.run(once())


def test_without_the_socket_the_file_says_what_is_wrong(tmp_path: Path) -> None:
    data, status = tmp_path / "var/lib/edge", tmp_path / STATUS
    data.mkdir(parents=True)
    status.parent.mkdir(parents=True)
    assert look(tmp_path).station == "stopped"
    with locked(data, RUN, "edge run"):
        assert look(tmp_path).station == "starting"
        status.write_text(json.dumps({**READY, "boottime_s": boot_time_s()}))
        assert state_of(look(tmp_path)).ok == 1284
        status.write_text(json.dumps({**READY, "boottime_s": boot_time_s() - 6}))
        assert look(tmp_path).station == "silent"
        status.write_text("[1, 2]")
        assert look(tmp_path).station == "starting"
    assert look(tmp_path).station == "stopped", "whatever the file says"


def test_what_the_station_says_is_checked() -> None:
    said = {**READY, "state": 5, "ok": "many", "ng": -1, "product": ["x"], "ready": "yes"}
    state = state_of(Look("burning", said, {"code": 7}))
    assert (state.station, state.ok, state.ng, state.product) == ("silent", 0, 0, "")
    assert (state.ready, state.last) == (False, None)
    last = {"code": 2, "seq": True, "part": None, "reason": 1, "score": "x", "thr": float("nan")}
    found = state_of(Look("online", READY, last)).last
    assert found is not None
    assert (found.seq, found.part, found.score, found.threshold) == (0, "", None, None)


class Slow:
    """Counts who asks."""

    def __init__(self) -> None:
        self.asked = 0

    async def look(self) -> Look:
        self.asked += 1
        await asyncio.sleep(0.02)
        return Look("online", READY)

    async def close(self) -> None:
        pass


def test_all_tabs_share_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    now_s = [0.0]
    source = Slow()

    async def tabs() -> None:
        shared = SharedLook(source, lambda: now_s[0])
        assert source.asked == 0, "nobody looks"
        for number in range(1, 4):
            looks = await asyncio.gather(*(shared.get() for _ in range(10)))
            assert len(set(looks)) == 1
            assert source.asked == number
            now_s[0] += LEAST_S

    asyncio.run(tabs())


def test_three_tabs_at_once(lena: Client, station: PlayedStation) -> None:
    station.show(OK, JPEG)
    found: list[int] = []

    def tab() -> None:
        other = Client(lena.port, cookies=dict(lena.cookies))
        found.extend(other.get("/api/v1/live/picture").status for _ in range(20))

    tabs = [threading.Thread(target=tab) for _ in range(3)]
    for one in tabs:
        one.start()
    for one in tabs:
        one.join()
    assert found == [200] * 60


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("wall")
    write_page_config(root, "wall_view = true")
    with served_page(root) as port:
        yield Client(port)


def test_the_wall_view_is_open_where_it_is_on_and_shows_nothing_else(wall: Client) -> None:
    page = wall.get("/wall")
    assert page.status == 200
    assert 'href="/account"' not in page.text
    assert wall.api("/api/v1/live").status == 200
    assert wall.get("/api/v1/live/picture").status == 204
    for path in ("/", "/metrics", "/account", "/api/v1/openapi.json"):
        assert wall.get(path).status in (303, 401), path


def test_the_wall_view_is_off_by_default(lena: Client) -> None:
    assert lena.get("/wall").status == 404
    assert Client(lena.port).api("/api/v1/live").status == 401
