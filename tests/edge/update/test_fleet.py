"""A real fleet server, goosebit, and stations that take their bundles from it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edge.config import read_config
from edge.errors import UpdateError
from edge.station.store import Store
from edge.update import apply as apply_module
from edge.update.apply import update_once
from edge.update.factory import make_source
from edge.update.state import read_update_state
from tests.support.broker import free_port
from tests.support.goosebit import Goosebit, find_goosebit, kill_and_start, write_swu
from tests.support.patience import patience_s
from tests.support.process import ENVIRONMENT, REPOSITORY, running_process
from tests.support.root import Answer
from tests.support.station import HEIGHT, WIDTH, StationRoot, belt, make_station, write_belt
from tests.support.tiny_bundle import make_tiny_bundle

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not shutil.which("cpio"), reason="a .swu is made by cpio: install cpio"),
]
STATIONS = 20


@pytest.fixture(scope="module")
def goosebit() -> Path:
    return find_goosebit()


@pytest.fixture
def server(goosebit: Path, tmp_path: Path) -> Iterator[Goosebit]:
    folder = tmp_path / "server"
    folder.mkdir()
    made = Goosebit(goosebit, folder, free_port())
    made.prepare()
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    """A calibrated station with 1.0.0, to copy from."""
    return make_station(tmp_path_factory.mktemp("first") / "station")


def newer(first: StationRoot, folder: Path) -> Path:
    """washer 2.0.0, signed with the key of the first bundle."""
    return make_tiny_bundle(folder, first.key, version="2.0.0", height=HEIGHT, width=WIDTH)


def configure(
    station: StationRoot, name: str, server: Goosebit, camera: Path | None, more: str = ""
) -> None:
    """With one server, and a camera that plays files."""
    kind, path = ("folder", camera) if camera else ("virtual", "")
    (station.root / "etc/edge/station.toml").write_text(
        f'[station]\nsite = "plant"\nline = "l1"\nstation = "{name}"\n[broker]\nenabled = false\n'
        f'[camera]\nkind = "{kind}"\npath = "{path}"\n[update]\nsource = "hawkbit"\n'
        f'url = "{server.address}"\ntrial_parts = 4\n{more}'
    )


def edge_update(station: StationRoot) -> Answer:
    """The command in a process of its own."""
    words = [sys.executable, "-m", "edge", "update", "--root", str(station.root)]
    done = subprocess.run(
        words, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def test_a_rollout_in_rings_stops_at_the_station_that_fails(
    server: Goosebit, first: StationRoot, tmp_path: Path
) -> None:
    """Two stations in the first ring, one in the second. Both of the first report, one of them a
    failure: its parts are rejected with the new bundle. So the second ring gets nothing.
    """
    good = write_belt(tmp_path / "good", belt([4, 4, 4]))
    bad = write_belt(tmp_path / "bad", belt([4, 4, 4], bad=[0, 1, 2]))
    stations = {name: first.copied_to(tmp_path / name) for name in ("a", "b", "c")}
    with ExitStack() as stack:
        for name, station in stations.items():
            configure(station, name, server, bad if name == "b" else good)
            stack.enter_context(running_process(station, tmp_path / f"{name}.log"))
            until_judged(station, tmp_path / f"{name}.log")
            said = edge_update(station)
            assert (said.code, said.out) == (0, "nothing new\n"), said.err
        ids = {name: f"plant:l1:{name}" for name in stations}
        assert {one["sw_version"] for one in server.devices().values()} == {"1.0.0"}
        server.change([ids["a"], ids["b"]], feed="first")
        server.change([ids["c"]], feed="second")
        software = server.upload(write_swu(newer(first, tmp_path), tmp_path))
        rollout = server.roll_out(software, "first")
        said = edge_update(stations["a"])
        assert (said.code, "healthy with it" in said.out) == (0, True), said
        said = edge_update(stations["b"])
        assert (said.code, "NG or UNKNOWN" in said.out) == (1, True), said
        counted = server.rollout(rollout)
        assert (counted["success_count"], counted["failure_count"]) == (1, 1)
        server.pause(rollout)  # as hawkBit does by itself at an error threshold
        assert edge_update(stations["c"]).out == "nothing new\n"
        assert edge_update(stations["b"]).out == "nothing new\n"
    versions = {name: one.store.active().manifest.version for name, one in stations.items()}
    assert versions == {"a": "2.0.0", "b": "1.0.0", "c": "1.0.0"}
    states = {name: server.devices()[one]["last_state"] for name, one in ids.items()}
    assert len(set(states.values())) == 3, states
    for one in stations.values():
        one.store.verify(one.store.active())


def until_judged(station: StationRoot, log: Path) -> None:
    end_s = time.monotonic() + patience_s(60)
    while read_status(station).get("ok", 0) + read_status(station).get("ng", 0) < 1:
        assert time.monotonic() < end_s, log.read_text()
        time.sleep(0.1)


def read_status(station: StationRoot) -> dict[str, Any]:
    return apply_module.said_now(station.store) or {}


def test_a_server_that_asks_for_tokens(goosebit: Path, first: StationRoot, tmp_path: Path) -> None:
    """A station without its token gets nothing, and is told why."""
    server = Goosebit(goosebit, tmp_path, free_port())
    more = {"GOOSEBIT_DEVICE_AUTH__ENABLE": "true", "GOOSEBIT_DEVICE_AUTH__MODE": "strict"}
    server.prepare(more)
    server.start()
    try:
        station = first.copied_to(tmp_path / "station")
        token = station.root / "etc/edge/fleet.token"
        configure(station, "s1", server, None, 'token_file = "etc/edge/fleet.token"\n')
        server.ask("PUT", "/api/v1/devices", {"devices": ["plant:l1:s1"], "auth_token": "right"})
        config = read_config(station.root).update
        token.write_text("wrong")
        with pytest.raises(UpdateError, match="401"):
            make_source(station.store, config).find({})
        token.write_text("right\n")
        washer = {"washer": station.store.installed("washer")}
        assert make_source(station.store, config).find(washer) == []
        assert server.devices()["plant:l1:s1"]["sw_version"] == "1.0.0"
    finally:
        server.kill()


def test_twenty_stations_and_a_server_that_dies(
    server: Goosebit, first: StationRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed again and again, after a random number of answers. Each station has
    the old or the new bundle at every time, and at last the new one; the server knows of all.
    """
    stations = [first.copied_to(tmp_path / f"s{number}") for number in range(STATIONS)]
    ids = [f"plant:l1:s{number}" for number in range(STATIONS)]
    judge_at_once(monkeypatch)
    for number, station in enumerate(stations):
        configure(station, f"s{number}", server, None)
        assert ask(station.store) is None
    server.change(ids, feed="all")
    rollout = server.roll_out(server.upload(write_swu(newer(first, tmp_path), tmp_path)), "all")
    stop, chance = threading.Event(), random.Random(18)
    killer = threading.Thread(target=kill_and_start, args=(server, stop, chance))
    killer.start()
    failed = 0
    try:
        left = list(stations)
        end_s = time.monotonic() + patience_s(900)
        while left:
            assert time.monotonic() < end_s, len(left)
            for station in list(left):
                failed += ask(station.store) is not None
                active = station.store.active()
                station.store.verify(active)
                assert active.manifest.version in ("1.0.0", "2.0.0")
                if active.manifest.version == "2.0.0" and not waits(station.store):
                    left.remove(station)
    finally:
        stop.set()
        killer.join()
    assert failed > 0  # it did die in the middle
    server.kill()
    server.start()
    assert {server.devices()[one]["sw_version"] for one in ids} == {"2.0.0"}
    assert server.rollout(rollout)["success_count"] >= STATIONS
    assert server.rollout(rollout)["failure_count"] == 0


def ask(store: Store) -> UpdateError | None:
    """One `edge update` of a station; what went wrong with the server."""
    config = read_config(store.root).update
    try:
        decided = update_once(store, make_source(store, config), config, lambda _: None)
    except UpdateError as error:
        return error
    return UpdateError("later") if any(one.outcome == "failed" for one in decided) else None


def waits(store: Store) -> bool:
    """Whether a report is not delivered yet."""
    state = read_update_state(store)
    return bool(state.waiting or state.trial)


def judge_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of twenty `edge run`: each takes up every bundle, and judges a part at each look."""
    told: dict[Path, int] = {}

    def look(store: Store) -> dict[str, Any]:
        told[store.root] = told.get(store.root, 0) + 1
        slot = store.link("washer", "current")
        counted = {"ok": told[store.root], "ng": 0, "unknown": 0, "uptime_s": told[store.root]}
        state = {"state": "online", "reason": "", "ready": True, "pid": 7, "bundle": slot}
        return {**state, **counted}

    monkeypatch.setattr("edge.update.watch.said_now", look)
    monkeypatch.setattr(apply_module, "said_now", look)
    monkeypatch.setattr("edge.update.watch.LOOK_S", 0.0)
