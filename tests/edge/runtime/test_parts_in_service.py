"""A station at work: a new bundle between parts, the mailbox, kept images, systemd."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera.protocol import EndOfFrames
from edge.clock import is_clock_synced
from edge.install.install import install_bundle
from edge.runtime.health import Health
from edge.runtime.keeper import Keeper
from edge.runtime.kept_files import sha256_of_images
from edge.runtime.notify import Notifier
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from edge.sections import RetentionConfig
from edge.types import Reason
from tests.support.broker import wait_until
from tests.support.fakes import ScriptedCamera, ScriptedEngine, committed, frame_of, frames_of
from tests.support.kept import images_of, write_images
from tests.support.patience import patience_s
from tests.support.service import NO_BROKER, new_service, taken_as_proven
from tests.support.station import BAD, EMPTY, HEIGHT, WIDTH, StationRoot, belt
from tests.support.tiny_bundle import make_tiny_bundle


def wait_resolved(service: Service) -> None:
    """Until what was installed or calibrated is open; it may judge already where no part holds it
    up.
    """
    current = service.at_work.current
    first = current.get()
    wait_until(
        lambda: current.is_waited_for or current.get() is not first,
        60,
        "the change is not taken up",
    )


def test_a_new_bundle_takes_effect_between_two_parts(station: StationRoot, tmp_path: Path) -> None:
    second = make_tiny_bundle(tmp_path, station.key, version="2.0.0", height=HEIGHT, width=WIDTH)
    shown = frames_of(belt([8, 8], gap=4))
    in_first_part = 8

    def install() -> None:
        install_bundle(second, station.root)
        wait_resolved(service)  # long before the part is over

    service = new_service(station, [*shown[:in_first_part], install, *shown[in_first_part:]])
    service.run()
    assert [record["bundle"][:5] for record in committed(station.root)] == ["1.0.0", "2.0.0"]
    assert [record["frames"] for record in committed(station.root)] == [8, 8]


def test_a_calibration_takes_effect_between_two_parts(station: StationRoot) -> None:
    shown = frames_of(belt([6, 6], gap=4))

    def calibrate() -> None:
        station.calibrate()
        wait_resolved(service)

    service = new_service(station, [*shown[:11], calibrate, *shown[11:]])
    service.run()
    before, after = committed(station.root)
    assert before["geometry"] != after["geometry"]
    assert before["bundle"] == after["bundle"]


def test_a_slow_engine_drops_frames_and_queues_none(station: StationRoot) -> None:
    engine = ScriptedEngine([{"area": 0.0}], delay_s=0.05)
    camera = ScriptedCamera([frame_of(EMPTY, number) for number in range(1, 101)], interval_s=0.005)
    service = Service(
        station.store,
        NO_BROKER,
        lambda installed: taken_as_proven(engine, installed),
        lambda _: camera,
        RunPlan(),
    )
    service.run()
    dropped = service.at_work.mailbox.dropped
    assert dropped > 50
    assert engine.runs + dropped == 100


def test_a_broken_thread_ends_the_run_and_is_an_error(
    station: StationRoot, capsys: pytest.CaptureFixture[str]
) -> None:
    from edge.errors import EdgeError

    def bug() -> None:
        raise ZeroDivisionError("a bug")

    hook, threading.excepthook = threading.excepthook, threading.__excepthook__
    try:
        with pytest.raises(EdgeError, match="a thread of `edge run` broke"):
            new_service(station, [frame_of(EMPTY, 1), bug]).run()
    finally:
        threading.excepthook = hook
    assert "ZeroDivisionError: a bug" in capsys.readouterr().err


def test_images_of_a_bad_part_are_kept_and_match_their_record(station: StationRoot) -> None:
    shown = frames_of([*[EMPTY] * 3, *[BAD] * 6, *[EMPTY] * 3])
    new_service(station, shown).run()
    (record,) = committed(station.root)
    folder = station.root / "var/lib/edge" / record["images"]
    assert json.loads((folder / "record.json").read_text()) == record
    color = cv2.imread(str(folder / "color.png"))[:, :, ::-1]
    depth = cv2.imread(str(folder / "depth.png"), cv2.IMREAD_UNCHANGED)
    heat = np.load(folder / "map.npz", allow_pickle=False)["map"]
    raw = (
        np.ascontiguousarray(color).tobytes()
        + depth.astype("<u2").tobytes()
        + heat.astype("<f4").tobytes()
    )
    assert hashlib.sha256(raw).hexdigest() == record["images_sha256"]
    assert any(np.array_equal(color, frame.color) for frame in shown)


def test_kept_images_are_bounded_in_size_oldest_first(tmp_path: Path) -> None:
    for number in range(5, 15):
        images = images_of(number, f"2026-11-{10 + number // 10}", judged=True)
        write_images(tmp_path / images.folder, images)
    one = sum(file.stat().st_size for file in (tmp_path / "parts/2026-11-10/s1-5").iterdir())
    keeper = Keeper(tmp_path, RetentionConfig(days=3650, gb=3.5 * one / 1e9, min_free_gb=0.0))
    keeper.start()
    wait_until(lambda: len(list(tmp_path.glob("parts/*/*"))) <= 4, 5, "nothing was removed")
    keeper.stop(2.0)
    left = sorted(int(folder.name.rpartition("-")[2]) for folder in tmp_path.glob("parts/*/*"))
    assert left == list(range(15 - len(left), 15))
    assert not (tmp_path / "parts/2026-11-10").exists()


def test_a_disk_that_is_nearly_full_keeps_no_images_and_counts_them(tmp_path: Path) -> None:
    free_gb = shutil.disk_usage(tmp_path).free / 1e9
    keeper = Keeper(tmp_path, RetentionConfig(min_free_gb=min(free_gb + 100, 10_000.0)))
    keeper.start()
    keeper.put(images_of(5))
    wait_until(lambda: keeper.dropped == 1, 5, "it was kept")
    keeper.stop(2.0)
    assert not list(tmp_path.glob("parts/*/*"))


def test_the_hash_covers_color_depth_and_map() -> None:
    frame, heat = frame_of(BAD, 1), np.ones((12, 16), np.float32)
    assert frame.depth is not None
    seen = {
        sha256_of_images(frame, heat),
        sha256_of_images(frame, None),
        sha256_of_images(frame, heat * 2),
    }
    seen |= {sha256_of_images(frame_of(BAD, 1, depth=frame.depth + 1), heat)}
    assert len(seen) == 4


def test_systemd_hears_ready_alive_and_stopping(station: StationRoot) -> None:
    name = f"@edge-test-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name[1:]}")
        systemd.settimeout(patience_s(5))
        shown = [frame_of(EMPTY, number) for number in range(1, 101)]
        new_service(station, shown, notifier=Notifier(name)).run()
        heard = [systemd.recv(100).decode()]
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(100).decode())
    assert heard[0] == "READY=1"
    assert 1 <= heard.count("WATCHDOG=1") <= 20


def test_the_watchdog_starves_when_no_frame_is_judged(station: StationRoot) -> None:
    """A camera that hangs without being lost: nothing feeds the watchdog, so systemd ends the
    process.
    """
    name = f"@edge-test-{time.monotonic_ns()}"

    class Hanging(ScriptedCamera):
        # it never gives a frame
        def next_frame(self, timeout_s: float) -> object:  # type: ignore[override]
            time.sleep(1.5)
            raise EndOfFrames("over")

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name[1:]}")
        systemd.settimeout(patience_s(5))
        service = Service(
            station.store,
            NO_BROKER,
            lambda installed: taken_as_proven(ScriptedEngine([{}]), installed),
            lambda _: Hanging([]),
            RunPlan(),
            Notifier(name),
        )
        service.run()
        heard = [systemd.recv(100).decode()]
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(100).decode())
    assert heard.count("WATCHDOG=1") <= 2


def test_without_systemd_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()


def test_the_worst_trouble_is_named_first_and_a_change_is_told_once() -> None:
    told: list[tuple[str, str, bool]] = []
    health = Health()
    health.listen(lambda: told.append(health.state()))
    health.note_lost(Reason.CAMERA_LOST)
    health.note_lost(Reason.CAMERA_LOST)
    health.note_storage(works=False)
    health.note_storage(works=True)
    assert told == [
        ("degraded", "camera_lost", False),
        ("fault", "storage", False),
        ("degraded", "camera_lost", False),
    ]


def test_the_clock_can_be_asked() -> None:
    assert is_clock_synced() in (True, False)


def test_a_part_that_stays_over_a_bundle_change_is_not_told_twice(
    station: StationRoot, tmp_path: Path
) -> None:
    second = make_tiny_bundle(tmp_path, station.key, version="2.0.0", height=HEIGHT, width=WIDTH)
    shown = frames_of(belt([60, 6], gap=4))

    def install() -> None:
        install_bundle(second, station.root)
        wait_resolved(service)

    service = new_service(station, [*shown[:40], install, *shown[40:]])
    service.run()  # decided after max_frames, 30, and still there
    told = [(record["frames"], record["bundle"][:5]) for record in committed(station.root)]
    assert told == [(30, "1.0.0"), (6, "2.0.0")]
