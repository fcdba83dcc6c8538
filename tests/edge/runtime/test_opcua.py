"""A running station, its OPC UA server and a client: no verdict is lost, late or for another part,
whoever hangs or dies.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.config import EdgeConfig, parse_config
from edge.line.opcua import NO_CLIENT, NO_GATEWAY
from edge.opcua.names import MACHINE, MODE
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from tests.support.broker import Broker, wait_until
from tests.support.opcua import (
    ClientKey,
    Loop,
    RunningServer,
    UaClient,
    free_port,
    make_users,
    section,
)
from tests.support.patience import patience_s
from tests.support.process import ENVIRONMENT, REPOSITORY, running_process
from tests.support.service import new_service, running
from tests.support.station import BAD, EMPTY, GOOD, Shot, StationRoot, belt, write_belt
from tests.support.triggering import FPS, LiveCamera, TriggerPlc

NODELAY = "set_tcp_nodelay true\n"
DEADLINE_MS = 2000


@dataclass
class UaCell:
    """A triggered station, its camera, and what a client of its server needs."""

    root: Path
    port: int
    loop: Loop
    key: ClientKey
    camera: LiveCamera
    service: Service

    def client(self) -> UaClient:
        """A client of the server, as soon as that is there, which hears all events."""
        end_s = time.monotonic() + patience_s(10)
        while True:
            client = UaClient(self.loop, self.port, self.key)
            try:
                client.connect()
            except (OSError, TimeoutError):
                assert time.monotonic() < end_s, "the server does not start"
                time.sleep(0.2)
                continue
            client.listen()
            return client

    def wait_ready(self) -> None:
        wait_until(lambda: self.service.health.is_ready, 20, f"not ready: {self.problem}")

    def show(self, shot: Shot | None) -> None:
        """Let the camera show this until some frames of it were judged."""
        self.camera.show = shot
        if shot is None:
            time.sleep(3 / FPS)
            return
        begun = self.frames + 1  # one may have been on its way
        wait_until(lambda: self.frames >= begun + 3, 20, "no frames")

    @property
    def frames(self) -> int:
        work = self.service.at_work
        assert work is not None
        found: int = work.report.for_status()["frames"]
        return found

    @property
    def problem(self) -> str | None:
        work = self.service.at_work
        assert work is not None
        found: str | None = work.report.for_status()["link"]
        return found


def config_of(station: StationRoot, port: int, broker_port: int = 0) -> EdgeConfig:
    more = f'fps = {FPS}\n[decision]\nmode = "triggered"\n{section(port)}'
    return station.configure("realsense", None, broker_port, more)


@contextmanager
def ua_cell(station: StationRoot, broker_port: int = 0) -> Iterator[UaCell]:
    """A station at work, without its server."""
    port, camera, loop = free_port(), LiveCamera(), Loop()
    config = config_of(station, port, broker_port)
    make_users(station.root)
    key = ClientKey(station.root / "keys").trusted_by(station.root)
    service = new_service(station, [], plan=RunPlan(), config=config, make_camera=lambda _: camera)
    try:
        with running(service):
            wait_until(lambda: service.at_work is not None, 20, "the station does not start")
            yield UaCell(station.root, port, loop, key, camera, service)
    finally:
        loop.close()


@contextmanager
def server_process(root: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`edge opcua`; killed at the end."""
    words = [sys.executable, "-m", "edge", "opcua", "--root", str(root)]
    with log.open("ab") as stderr:
        process = subprocess.Popen(words, cwd=REPOSITORY, stderr=stderr, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.kill()
        process.wait(patience_s(10))


@pytest.fixture(scope="module")
def at_work(
    made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[UaCell, UaClient]]:
    station = made_station.copied_to(tmp_path_factory.mktemp("opcua") / "station")
    with ua_cell(station) as cell, ExitStack() as stack:
        wait_until(lambda: cell.problem == NO_GATEWAY, 10, f"not said: {cell.problem}")
        server = RunningServer(cell.loop, cell.root, parse_config(
            (cell.root / "etc/edge/station.toml").read_text()))  # fmt: skip
        stack.callback(server.stop)
        wait_until(lambda: cell.problem == NO_CLIENT, 10, f"not said: {cell.problem}")
        client = cell.client()
        stack.callback(client.close)
        cell.wait_ready()
        yield cell, client


def mode_of(client: UaClient) -> str:
    return client.read(f"{MODE}/CurrentState").Text or ""


def job(client: UaClient, part: str, *parameters: str, **more: Any) -> str:
    number, error, reason = client.start(part, *parameters, **more)
    assert (error, reason) == (0, "")
    return str(number)


def test_by_opcua_alone_a_part_is_triggered_and_judged(at_work: tuple[UaCell, UaClient]) -> None:
    cell, client = at_work
    cell.show(BAD)
    number = job(client, "bad", "deadline_ms=5000", "frames=3", meas="7")
    result = client.result("bad")
    assert (result.JobId, result.N, result.Code, result.Reason) == (number, 7, 2, "anomaly")
    assert result.Score > result.Threshold
    assert result.InternalRecipeId == client.read("RecipeManagement/ActiveRecipe")
    cell.show(GOOD)
    job(client, "good", "deadline_ms=5000")
    assert client.result("good").Code == 1
    cell.show(EMPTY)
    job(client, "nothing", "deadline_ms=5000")
    assert (client.result("nothing").Code, client.result("nothing").Reason) == (3, "no_part")
    for part in ("bad", "good", "nothing"):
        assert len(client.heard.of(part)) == 1


def test_a_window_that_overlaps_is_busy_and_a_repeat_is_the_same_job(
    at_work: tuple[UaCell, UaClient],
) -> None:
    cell, client = at_work
    cell.show(GOOD)
    asked = "frames=30", "deadline_ms=20000"
    first = job(client, "first", *asked, meas="1")
    assert client.start("second", *asked, meas="2") == ["", 3, "busy"]
    assert job(client, "first", *asked, meas="1") == first
    assert client.result("first").Code == 1
    assert client.heard.of("second") == []


def test_a_camera_that_delivers_nothing_is_told_on_time(
    at_work: tuple[UaCell, UaClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, client = at_work
    monkeypatch.setattr("edge.decide.trigger.MARGIN_MS", 200)
    cell.show(None)
    job(client, "dark", "deadline_ms=500")
    assert (client.result("dark").Code, client.result("dark").Reason) == (3, "camera_lost")
    cell.show(EMPTY)
    cell.wait_ready()


@pytest.mark.long
def test_a_server_that_hangs_delays_no_verdict_of_mqtt_and_one_that_was_killed_comes_back(
    station: StationRoot, tmp_path: Path
) -> None:
    with Broker(tmp_path / "broker", NODELAY) as broker, ExitStack() as stack:
        plc = TriggerPlc(broker.port)
        stack.callback(plc.stop)
        cell = stack.enter_context(ua_cell(station, broker.port))
        with server_process(cell.root, tmp_path / "log") as process:
            client = cell.client()
            cell.wait_ready()
            cell.show(GOOD)
            process.send_signal(signal.SIGSTOP)
            delays = []
            for number in range(8):
                begun_s = plc.trigger(f"part{number}", n=number, deadline_ms=DEADLINE_MS)
                delays.append(plc.wait("verdict", f"part{number}").at_s - begun_s)
                time.sleep(3 / FPS)  # until its window is over
            assert max(delays) < DEADLINE_MS / 1e3
            assert {plc.judged(f"part{number}") for number in range(8)} == {(1, "normal")}
            work = cell.service.at_work
            assert work is not None
            wait_until(lambda: NO_GATEWAY in str(cell.problem), 10, "the silence is not seen")
            assert cell.service.health.is_ready  # the other PLC hears
            time.sleep(max(0.0, begun_s + DEADLINE_MS / 1e3 - time.monotonic()))
            process.send_signal(signal.SIGCONT)
            wait_until(lambda: cell.problem is None, 10, f"not found again: {cell.problem}")
            assert [client.heard.of(f"part{number}") for number in range(8)] == [[]] * 8
        wait_until(lambda: cell.problem == NO_GATEWAY, 10, "the kill is not seen")
        plc.trigger("without")
        assert plc.judged("without") == (1, "normal")
        with server_process(cell.root, tmp_path / "log"):
            client = cell.client()
            wait_until(lambda: cell.problem is None, 10, f"not found again: {cell.problem}")
            assert client.read("LastVerdict/PartId") == "without"
            job(client, "again", "deadline_ms=5000")
            assert client.result("again").Code == 1
            client.close()


@pytest.mark.long
def test_edge_run_is_killed_and_comes_back(station: StationRoot, tmp_path: Path) -> None:
    """In free run: continuous execution, and a result for each part that passes."""
    port, loop = free_port(), Loop()
    make_users(station.root)
    key = ClientKey(station.root / "keys").trusted_by(station.root)
    path = write_belt(tmp_path / "belt", belt([6, 6], gap=5, bad=[1]))
    config = station.configure("folder", path, more=f"fps = 30\n{section(port)}")
    server = RunningServer(loop, station.root, config)
    client = UaClient(loop, port, key).connect()
    client.listen()
    try:
        seen: set[str] = set()
        for _ in range(2):
            with running_process(station, tmp_path / "log"):
                wait_until(lambda: client.status("Ready") == "Good", 30, "no station")
                wait_until(lambda: mode_of(client) == "ContinuousExecution", 20, "no run")
                known = set(seen)

                def fresh(known: set[str] = known) -> list[Any]:
                    events = [event for _, event in client.heard.events if event.Code is not None]
                    return [event for event in events if event.JobId not in known]

                wait_until(lambda: len(fresh()) >= 2, 30, "no parts")
                assert {event.Code for event in fresh()} == {1, 2}
                seen |= {event.JobId for event in fresh()}
            wait_until(lambda: client.status("Ready") == "BadNoCommunication", 10, "not seen")
            assert client.read(f"{MACHINE}/CurrentState").Text == "Error"
    finally:
        client.close()
        server.stop()
        loop.close()
