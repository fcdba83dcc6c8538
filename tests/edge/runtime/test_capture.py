"""The camera is lost, hangs, comes back: what the station tries, what it says, and what the
watchdog hears.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from edge.camera.protocol import FrameOverdue
from edge.camera.supervised import SupervisedCamera, supervised_camera
from edge.camera.wire import Failed
from edge.errors import CameraLost
from edge.runtime import capture
from edge.runtime.capture import Capture
from edge.runtime.mailbox import Ended, Item, Lost, Mailbox
from edge.runtime.plan import RunPlan
from edge.runtime.progress import Progress
from edge.runtime.service import Service
from edge.sections import CameraConfig
from edge.types import Frame
from tests.support.broker import wait_until
from tests.support.fakes import ScriptedCamera, Step, committed, frame_of
from tests.support.service import ALIVE, NO_BROKER, Listener, new_service, running
from tests.support.station import EMPTY, GOOD, StationRoot, belt, write_belt

STATION: Any = SimpleNamespace(manifest=SimpleNamespace(camera=None))


class Waits(threading.Event):
    """`stopping` of a capture: notes how long it would have waited, and ends it when the source has
    ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is None:
            self.set()
        else:
            self.seconds.append(timeout)
        return self.is_set()


class Taken(Mailbox):
    """A mailbox that is emptied at once."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[Item] = []

    def put(self, item: Item) -> None:
        self.items.append(item)


@dataclass
class Played:
    delays_s: list[float]
    items: list[Item]
    capture: Capture


def play(script: Sequence[Step]) -> Played:
    """The script through a capture thread's work, without waiting."""
    camera, waits, mailbox = ScriptedCamera(script, interval_s=0.0), Waits(), Taken()
    work = Capture(lambda _: camera, lambda: STATION, mailbox, waits)
    work.run()
    return Played(waits.seconds, mailbox.items, work)


def frame(number: int) -> Frame:
    return frame_of(EMPTY, number)


def lost(reason: str = "unplugged") -> CameraLost:
    return CameraLost(reason)


def test_the_delay_starts_anew_after_frames_came_through() -> None:
    """The sixth loss of a process's life cost 10 s."""
    script = [step for number in range(1, 9) for step in (frame(number), lost())]
    played = play(script)
    assert played.delays_s == [0.25] * 8
    assert played.capture.restarts == 8


def test_a_camera_that_stays_away_is_looked_for_every_2_s_at_most() -> None:
    played = play([frame(1), *[lost()] * 30, frame(2), lost()])
    assert played.delays_s[:4] == [0.25, 0.5, 1.0, 2.0]
    assert max(played.delays_s) == 2.0
    assert played.delays_s[-1] == 0.25


def test_every_loss_is_passed_on_and_the_end_too() -> None:
    kinds = [type(item) for item in play([frame(1), lost(), lost(), frame(2)]).items]
    assert kinds == [Frame, Lost, Lost, Frame, Ended]


def test_losses_are_said_when_they_begin_change_and_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    play([frame(1), *[lost()] * 50, *[lost("the driver crashed")] * 20, frame(2), lost(), frame(3)])
    said = [one.getMessage() for one in caplog.records if one.name == capture.log.name]
    assert said == [
        "camera: unplugged (trying again until it comes back)",
        "camera: the driver crashed (trying again until it comes back)"
        " (before this: 50 failures in 0 s)",
        "camera: frames again, after 70 failures in 0 s",
        "camera: unplugged (trying again until it comes back)",
        "camera: frames again, after 1 failure in 0 s",
    ]


class Late(ScriptedCamera):
    """Raises FrameOverdue where the script says so, once the time that it was given is over."""

    given: list[float]

    def next_frame(self, timeout_s: float) -> Frame:
        self.given = [*getattr(self, "given", []), timeout_s]
        return super().next_frame(timeout_s)


@pytest.mark.parametrize(("fps", "factor"), [(30.0, 1.0), (4.0, 1.0), (2.0, 2.0)])
def test_half_a_second_is_counted_and_two_are_a_loss(fps: float, factor: float) -> None:
    late = FrameOverdue("no frame")
    camera = Late([late, frame(1), frame(2), late, frame(3), late, late, frame(4)], interval_s=0.0)
    waits, mailbox = Waits(), Taken()
    work = Capture(lambda _: camera, lambda: STATION, mailbox, waits, fps)
    work.run()
    assert work.gaps == 2, "the first frame after opening may take longer"
    assert [type(item) for item in mailbox.items] == [Frame, Frame, Frame, Lost, Frame, Ended]
    short, long = 0.5 * factor, 1.5 * factor
    assert camera.given == [short, 10.0 - short, short, short, long, short, long, short, short]


def test_whatever_a_driver_raises_is_a_loss_and_not_the_end_of_the_station(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = Failed(error="", text="Traceback:\n  File x\nTypeError: no buffer").exception()
    played = play([frame(1), failed, frame(2)])
    kinds = [type(item) for item in played.items]
    assert kinds == [Frame, Lost, Frame, Ended]
    assert "its process failed (TypeError: no buffer)" in str(played.items[1].error)
    assert "File x" in caplog.text, "the traceback is in the log"


# --- in a station ---


def hanging_step(released: threading.Event) -> Callable[[], object]:
    return lambda: released.wait(120)


def hangs_in(where: str, released: threading.Event, seen: threading.Event) -> ScriptedCamera:
    """A camera that gives four frames and, once they were seen, hangs: in the next one, or when it
    is opened again.
    """
    shown: list[Step] = [*(frame(number) for number in range(1, 5)), lambda: seen.wait(60)]
    if where == "next_frame":
        return ScriptedCamera([*shown, hanging_step(released), frame(5)])

    class HangsWhenReopened(ScriptedCamera):
        def open(self) -> None:
            super().open()
            if self.opened > 1:
                released.wait(120)

    return HangsWhenReopened([*shown, lost(), frame(5)])


@pytest.mark.parametrize("where", ["next_frame", "open"])
def test_a_call_that_hangs_is_said_and_does_not_feed_the_watchdog(
    station: StationRoot, where: str
) -> None:
    """Today: 30 s of `online`, until systemd ends the process."""
    released, seen, listener = threading.Event(), threading.Event(), Listener()
    camera = hangs_in(where, released, seen)
    service = new_service(station, [], notifier=listener, make_camera=lambda _: camera)
    with running(service):
        wait_until(
            lambda: service.health.state()[0] == "online" and service.health.state()[2],
            60,
            "no frames",
        )
        seen.set()
        wait_until(
            lambda: service.health.state() == ("degraded", "camera_lost", False),
            60,
            "it is not said",
        )
        time.sleep(0.3)  # a pass of the main loop that was under way
        since_s = time.monotonic()
        time.sleep(0.7)
        assert listener.times_of(ALIVE, since_s, time.monotonic()) == []
        released.set()
        wait_until(lambda: service.health.state()[0] == "online", 60, "it does not come back")


def test_it_is_said_within_two_seconds() -> None:
    """The limits, not the machine: a silence is due before 2 s, and found by the next pass of the
    main loop.
    """
    released, mailbox, stopping = threading.Event(), Taken(), threading.Event()
    work = Capture(
        lambda _: hangs_in("next_frame", released, released), lambda: STATION, mailbox, stopping
    )
    thread = threading.Thread(target=work.run)
    thread.start()
    wait_until(lambda: len(mailbox.items) == 4, 60, "no frames")
    last_s = time.monotonic()
    wait_until(lambda: work.is_silent(0.0), 60, "it is not silent")
    assert not work.is_silent(time.monotonic()), "a large file that is being read is no silence"
    assert capture.SILENT_S < 1.8 <= capture.LOST_S
    assert time.monotonic() - last_s >= capture.SILENT_S - 0.1
    stopping.set()
    released.set()
    thread.join(60)


def test_a_camera_that_is_unplugged_feeds_the_watchdog(station: StationRoot) -> None:
    """Every try comes to an end, so systemd has nothing to mend."""
    listener = Listener()
    script = [frame(1), *[lost()] * 3, frame(2)]
    new_service(station, script, notifier=listener).run()
    fed = listener.times_of(ALIVE, 0.0, float("inf"))
    assert len(fed) >= 3
    assert max(later - sooner for sooner, later in itertools.pairwise(fed)) < 30


def service_on_a_belt(
    station: StationRoot, tmp_path: Path, **plan: Any
) -> tuple[Service, list[SupervisedCamera]]:
    """A station whose camera plays a belt in a process of its own, for ever."""
    write_belt(tmp_path / "belt", belt([6, 6], gap=4))
    cameras: list[SupervisedCamera] = []
    progress = Progress()

    def make(station: object) -> SupervisedCamera:
        config = CameraConfig(kind="folder", path="belt", fps=60)
        cameras.append(supervised_camera(config, tmp_path, loop=True, moved=progress.step))
        return cameras[-1]

    plan_ = RunPlan(lossless=True, **plan)
    return new_service(station, [], plan=plan_, make_camera=make, progress=progress), cameras


@pytest.mark.endurance
@pytest.mark.parametrize(("hit", "times"), [("kill", 2), ("suspend", 1)])
def test_a_camera_process_that_dies_or_hangs_is_replaced_and_parts_go_on(
    station: StationRoot, tmp_path: Path, hit: str, times: int
) -> None:
    service, cameras = service_on_a_belt(station, tmp_path)
    with running(service):
        for round_ in range(1, times + 1):
            before = len(committed(station.root))
            wait_until(lambda before=before: len(committed(station.root)) > before, 60, "no parts")
            process = psutil.Process(cameras[-1].pid)
            getattr(process, hit)()
            wait_until(lambda round_=round_: len(cameras) > round_, 60, "no new process")
            wait_until(
                lambda: service.health.state() == ("online", "", True), 60, "it does not come back"
            )
            assert not process.is_running()
        assert service.at_work.capture.restarts >= times
    reasons = {record["reason"] for record in committed(station.root)}
    assert reasons <= {"normal", "camera_lost"}
    assert len({record["seq"] for record in committed(station.root)}) == len(
        committed(station.root)
    )


def test_an_open_part_is_unknown_when_the_process_dies_under_it(
    station: StationRoot, tmp_path: Path
) -> None:
    write_belt(tmp_path / "belt", [EMPTY] * 3 + [GOOD] * 40 + [EMPTY] * 3)
    cameras: list[SupervisedCamera] = []

    def make(_: object) -> SupervisedCamera:
        cameras.append(supervised_camera(CameraConfig(kind="folder", path="belt", fps=8), tmp_path))
        return cameras[-1]

    service = new_service(station, [], config=NO_BROKER, make_camera=make)
    with running(service):
        wait_until(lambda: service.progress.steps.count >= 8, 60, "no part was judged five times")
        psutil.Process(cameras[0].pid).kill()
        wait_until(lambda: committed(station.root), 60, "no verdict")
    first = committed(station.root)[0]
    assert (first["code"], first["reason"]) == (3, "camera_lost")
