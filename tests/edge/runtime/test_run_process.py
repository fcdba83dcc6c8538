"""`edge run` as its own process, the virtual RealSense before it and a real broker behind it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.broker import Broker, Subscriber, assert_archive_is_complete, wait_until
from tests.support.fakes import committed
from tests.support.patience import patience_s
from tests.support.process import ENVIRONMENT, edge_run, running_process
from tests.support.station import EMPTY, StationRoot, belt, make_station, write_belt

KILLS = 6


def run_to_end(station: StationRoot, *options: str, timeout_s: float = patience_s(20)) -> str:
    words = edge_run(station, *options)
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stderr


def has_more_than(station: StationRoot, parts: int) -> bool:
    return len(committed(station.root)) > parts


def test_ten_parts_past_the_virtual_camera_are_ten_verdicts(
    station: StationRoot, broker: Broker, archive: Subscriber, tmp_path: Path
) -> None:
    pytest.importorskip("pyrealsense2", reason="the virtual RealSense needs pyrealsense2")
    lengths = [5, 6, 8, 9, 11, 12, 14, 16, 18, 20]
    path = write_belt(tmp_path / "belt", belt(lengths, gap=5, bad=[2, 5, 6]))
    station.configure("virtual", path, broker.port)
    log = run_to_end(station, "--once")
    wait_until(lambda: len(archive.of("record")) >= 10, 5, log)
    time.sleep(0.3)
    verdicts = [message.json for message in archive.of("verdict")]
    assert [verdict["code"] for verdict in verdicts] == [1, 1, 2, 1, 1, 2, 2, 1, 1, 1]
    assert [verdict["seq"] for verdict in verdicts] == list(range(1, 11))
    assert len({verdict["part"] for verdict in verdicts}) == 10
    assert [message.payload.decode() for message in archive.of("verdict/code")] == [
        f"{verdict['code']} {verdict['seq']} {verdict['part']}" for verdict in verdicts
    ]
    assert_archive_is_complete(archive.records(), list(range(1, 11)))
    states = [message.json for message in archive.of("state")]
    assert (states[-1]["state"], states[-1]["reason"]) == ("offline", "stopped")
    counters = {
        "ok",
        "ng",
        "unknown",
        "seq",
        "records_waiting",
        "records_dropped",
        "verdicts_unsent",
        "frames_dropped",
    }
    assert counters <= set(states[-2])
    assert states[-2]["product"] == "washer"


@pytest.mark.endurance
def test_an_empty_belt_makes_no_verdict(station: StationRoot, tmp_path: Path) -> None:
    """600 frames are 20 s at 30 per second; they are played four times as fast."""
    pytest.importorskip("pyrealsense2", reason="the virtual RealSense needs pyrealsense2")
    path = write_belt(tmp_path / "empty", [EMPTY] * 600)
    station.configure("virtual", path, more="fps = 120\n")
    log = run_to_end(station, "--once")
    assert "0 parts decided" in log
    assert committed(station.root) == []


def test_a_graph_without_presence_plays_stills_image_by_image(tmp_path: Path) -> None:
    station = make_station(tmp_path / "color", presence=False)
    path = write_belt(tmp_path / "stills", belt([1, 1, 1], gap=0, bad=[1]), depth=False)
    station.configure("folder", path)
    run_to_end(station, "--once")
    assert [(record["seq"], record["frames"]) for record in committed(station.root)] == [
        (1, 1),
        (2, 1),
        (3, 1),
    ]


def test_max_parts_ends_a_belt_that_never_does(station: StationRoot, tmp_path: Path) -> None:
    station.configure(
        "folder", write_belt(tmp_path / "belt", belt([6, 6], gap=3)), more="fps = 120\n"
    )
    assert "5 parts decided" in run_to_end(station, "--max-parts", "5")
    assert len(committed(station.root)) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds(
    station: StationRoot,
    broker: Broker,
    archive: Subscriber,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    station.configure("folder", write_belt(tmp_path / "belt", belt([8, 8])), broker.port)
    with running_process(station, tmp_path / "log") as process:
        wait_until(lambda: archive.of("verdict"), 20, "no verdict")
        started_s = time.monotonic()
        process.send_signal(number)
        assert process.wait(patience_s(5)) == 0
        assert time.monotonic() - started_s < patience_s(2.0)
    wait_until(lambda: archive.of("state")[-1].json["state"] == "offline", 2, "no goodbye")
    assert archive.of("state")[-1].json["reason"] == "stopped"


@pytest.mark.endurance
def test_it_stays_under_400_mb(
    station: StationRoot, broker: Broker, archive: Subscriber, tmp_path: Path
) -> None:
    station.configure(
        "folder", write_belt(tmp_path / "belt", belt([20] * 3, bad=[0, 1, 2])), broker.port
    )
    with running_process(station, tmp_path / "log") as process:
        wait_until(lambda: len(archive.of("verdict")) >= 3, 30, "no verdicts")
        assert psutil.Process(process.pid).memory_info().rss < 400e6


@pytest.mark.endurance
def test_a_second_run_on_the_same_root_is_refused_in_one_sentence(
    station: StationRoot, tmp_path: Path
) -> None:
    station.configure("folder", write_belt(tmp_path / "belt", belt([8])))
    with running_process(station, tmp_path / "log"):
        wait_until(lambda: committed(station.root), 20, "no part")
        words, patience = edge_run(station), patience_s(30)
        second = subprocess.run(
            words, env=ENVIRONMENT, capture_output=True, text=True, timeout=patience
        )
    assert second.returncode == 1
    assert "run.lock is held by" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.endurance
def test_a_broker_that_stops_for_8_s_in_mid_run_costs_no_record(
    station: StationRoot, broker: Broker, archive: Subscriber, tmp_path: Path
) -> None:
    station.configure(
        "folder",
        write_belt(tmp_path / "belt", belt([5, 5, 5], gap=3)),
        broker.port,
        more="fps = 60\n",
    )
    with running_process(station, tmp_path / "log") as process:
        wait_until(lambda: len(archive.of("verdict")) >= 5, 20, "no verdicts before the outage")
        broker.stop()
        time.sleep(8.0)
        broker.start()
        during = committed(station.root)[-1]["seq"]
        wait_until(
            lambda: archive.of("verdict")[-1].json["seq"] > during + 3,
            30,
            "no verdicts after the outage",
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(patience_s(5)) == 0
    run_to_end(station, "--max-parts", "1")  # whatever was still waiting leaves now
    numbers = [record["seq"] for record in committed(station.root)]
    wait_until(lambda: archive.records()[-1]["seq"] == numbers[-1], 10, "records are missing")
    assert_archive_is_complete(archive.records(), numbers)
    told = {record["seq"]: record for record in archive.records()}
    for message in archive.of("verdict"):
        # known only when it is sent
        said = {key: value for key, value in message.json.items() if key != "ms"}
        assert said.items() <= told[message.json["seq"]].items()
    outage = set(numbers) - {message.json["seq"] for message in archive.of("verdict")}
    assert len(outage) > 20  # parts that passed meanwhile: never told late


@pytest.mark.endurance
def test_killed_again_and_again_it_loses_no_record_and_repeats_no_number(
    station: StationRoot, broker: Broker, archive: Subscriber, tmp_path: Path
) -> None:
    station.configure(
        "folder",
        write_belt(tmp_path / "belt", belt([5, 5, 5], gap=3)),
        broker.port,
        more="fps = 120\n",
    )
    chance = random.Random(7)
    for _ in range(KILLS):
        before = len(committed(station.root))
        with running_process(station, tmp_path / "log") as process:
            wait_until(partial(has_more_than, station, before), 30, "no part was committed")
            time.sleep(chance.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.wait(patience_s(5))
    run_to_end(station, "--max-parts", "1")
    numbers = [record["seq"] for record in committed(station.root)]
    assert numbers == list(range(1, len(numbers) + 1))
    wait_until(lambda: archive.records()[-1]["seq"] == numbers[-1], 10, "records are missing")
    assert_archive_is_complete(archive.records(), numbers)
    verdicts = [message.json["seq"] for message in archive.of("verdict")]
    assert len(set(verdicts)) == len(verdicts)
    assert set(verdicts) <= set(numbers)
    assert len(numbers) > KILLS
