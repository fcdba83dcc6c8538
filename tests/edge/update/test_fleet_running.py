"""Twenty stations that judge, each with an `edge run` of its own, and a real fleet server behind
TLS that dies again and again.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from edge.errors import on_one_line
from edge.install.proof_file import read_proof
from edge.update.state import read_update_state
from edge.update.watch import said_now
from tests.support.broker import free_port
from tests.support.goosebit import Goosebit, find_goosebit, kill_and_start, write_swu
from tests.support.patience import patience_s
from tests.support.pki import Authority
from tests.support.process import ENVIRONMENT, REPOSITORY, running_process
from tests.support.station import HEIGHT, WIDTH, StationRoot, belt, make_station, write_belt
from tests.support.tiny_bundle import make_tiny_bundle

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not shutil.which("cpio"), reason="a .swu is made by cpio: install cpio"),
]
STATIONS, AT_ONCE = 20, 4  # AT_ONCE: timers of stations are spread over their interval
FPS = 2  # of each camera: twenty stations share the cores


def test_twenty_that_judge_and_a_server_that_dies(tmp_path: Path) -> None:
    """Every station judges with the old or the new bundle at all times; at last all have the new
    one, active, proven and judging, and the server knows.
    """
    plant = Authority(tmp_path)
    server = make_server(tmp_path / "server", plant)
    first = make_station(tmp_path / "first" / "station")
    names = [f"s{number}" for number in range(STATIONS)]
    stations = {name: first.copied_to(tmp_path / name) for name in names}
    shots = write_belt(tmp_path / "belt", belt([4, 4, 4], gap=3))
    with ExitStack() as stack:
        stack.callback(server.kill)
        runs = {}
        for name, station in stations.items():
            configure(station, name, server, plant, shots)
            log = tmp_path / f"{name}.log"
            runs[name] = stack.enter_context(running_process(station, log))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        assert set(pool.map(introduce, stations.values())) == {0}
        server.change([f"plant:l1:{name}" for name in names], feed="all")
        bundle = make_tiny_bundle(tmp_path, first.key, version="2.0.0", height=HEIGHT, width=WIDTH)
        rollout = server.roll_out(server.upload(write_swu(bundle, tmp_path)), "all")
        stop, chance = threading.Event(), random.Random(20)
        killer = threading.Thread(target=kill_and_start, args=(server, stop, chance))
        killer.start()
        try:
            failed = sum(pool.map(update_until_taken, stations.values()))
        finally:
            stop.set()
            killer.join()
        assert failed > 0, "the server never died while a station asked it"
        for name, _ in zip(names, pool.map(until_new_judges, stations.values()), strict=True):
            assert runs[name].poll() is None, "it was not restarted: it took the bundle up"
        server.kill()
        server.start()
        told = {server.devices()[f"plant:l1:{name}"]["sw_version"] for name in names}
        counted = server.rollout(rollout)
    assert told == {"2.0.0"}
    assert (counted["success_count"] >= STATIONS, counted["failure_count"]) == (True, 0)


def make_server(folder: Path, plant: Authority) -> Goosebit:
    folder.mkdir()
    certificate = plant.certificate("localhost")
    server = Goosebit(find_goosebit(), folder, free_port(), certificate, plant.ca_file)
    server.prepare()
    server.start()
    return server


def configure(
    station: StationRoot, name: str, server: Goosebit, plant: Authority, shots: Path
) -> None:
    """Verdicts do not count in its trial: on a busy machine, frames are missing."""
    (station.root / "etc/edge/station.toml").write_text(
        f'[station]\nsite = "plant"\nline = "l1"\nstation = "{name}"\n[broker]\nenabled = false\n'
        f'[camera]\nkind = "folder"\npath = "{shots}"\nfps = {FPS}\n[update]\nsource = "hawkbit"\n'
        f'url = "{server.address}"\nca_file = "{plant.ca_file}"\ntrial_parts = 2\n'
        "max_rejected = 1.0\n"
    )


def introduce(station: StationRoot) -> int:
    """Let the server know a station that judges; the exit status."""
    until_judges(station, "1.0.0")
    return edge_update(station).returncode


def edge_update(station: StationRoot) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "edge", "update", "--root", str(station.root)]
    return subprocess.run(words, cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True)


def update_until_taken(station: StationRoot) -> int:
    """As its timer does; how many checks failed, each for the server's sake alone."""
    failed = 0
    end_s = time.monotonic() + patience_s(300)
    while not is_taken(station):
        assert time.monotonic() < end_s, station.root
        done = edge_update(station)
        said = on_one_line(done.stdout + done.stderr)
        assert done.returncode in (0, 1), said
        assert "Traceback" not in said
        assert "goes back" not in said
        failed += done.returncode
        active = station.store.active()
        station.store.verify(active)
        assert active.manifest.version in ("1.0.0", "2.0.0")
    return failed


def is_taken(station: StationRoot) -> bool:
    """Whether the new bundle has passed its trial, and the server was told."""
    state = read_update_state(station.store)
    is_new = station.store.active().manifest.version == "2.0.0"
    return is_new and not state.waiting and state.trial is None


def until_judges(station: StationRoot, version: str) -> None:
    """Until the running station has judged two more parts, with a proven bundle of this version."""
    active = station.store.active()
    proof = read_proof(station.store, active)
    assert active.manifest.version == version
    assert proof is not None
    assert proof.state == "proven"
    seen, end_s = None, time.monotonic() + patience_s(60)
    while seen is None or judged(station) < seen + 2:
        assert time.monotonic() < end_s, station.root
        said = said_now(station.store) or {}
        if seen is None and said.get("bundle") == station.store.link("washer", "current"):
            seen = judged(station)
        time.sleep(0.2)


def until_new_judges(station: StationRoot) -> None:
    until_judges(station, "2.0.0")


def judged(station: StationRoot) -> int:
    said = said_now(station.store) or {}
    return sum(int(said.get(kind) or 0) for kind in ("ok", "ng", "unknown"))
