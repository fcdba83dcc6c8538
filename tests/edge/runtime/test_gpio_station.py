"""A whole station that speaks by discrete lines alone, over a chip that stands in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from edge.runtime.status_facts import live_lines
from tests.support.broker import wait_until
from tests.support.fake_gpio import SETTINGS, FakeBoard, fake_board
from tests.support.fakes import committed
from tests.support.service import new_service, running
from tests.support.station import BAD, EMPTY, GOOD, StationRoot
from tests.support.triggering import FPS, LiveCamera

LINES = "\n".join(f'{role} = "{name}"' for role, name in SETTINGS.items())


@contextmanager
def gpio_station(
    station: StationRoot, mode: str, more: str
) -> Iterator[tuple[FakeBoard, LiveCamera, Service]]:
    config = station.configure(
        "realsense",
        None,
        more=f'fps = {FPS}\n[decision]\nmode = "{mode}"\n[gpio]\nenabled = true\n{LINES}\n{more}',
    )
    camera = LiveCamera()
    with fake_board() as board:
        service = new_service(station, [], None, RunPlan(), config, make_camera=lambda _: camera)
        with running(service):
            board.wait("ready")
            yield board, camera, service
        assert board.active == frozenset()
        assert not any({"ok", "ng"} <= shown for _, shown in board.history)


def test_the_machine_triggers_and_sorts_by_lines_alone(station: StationRoot) -> None:
    with gpio_station(station, "triggered", 'mode = "level"\nframes = 2') as (
        board,
        camera,
        service,
    ):
        for shot, shown in ((GOOD, "ok"), (BAD, "ng"), (EMPTY, "unknown"), (GOOD, "ok")):
            camera.show = shot
            pass_frames(camera, 2)
            board.pulse()
            board.wait("ready", shown, "valid")
        camera.show = None  # it gives no frames any more
        wait_until(lambda: "ready" not in board.active, 10, "still ready")
        assert service.at_work is not None
        wait_until(lambda: not service.health.is_ready, 10, "still ready")
        board.pulse()
        wait_until(lambda: not board.verdict, 10, "it still shows the part before")
        counters = service.at_work.report.for_status
        wait_until(lambda: counters()["triggers_refused"] == 1, 10, f"{counters()}")
    records = committed(station.root)
    assert [(one["part"], one["n"], one["code"]) for one in records] == [
        ("G1", 1, 1),
        ("G2", 2, 2),
        ("G3", 3, 3),
        ("G4", 4, 1),
    ]
    begun = [shown for _, shown in board.history if shown == {"ready", "busy"}]
    assert len(begun) == 4


def test_in_free_run_a_part_is_a_pulse(station: StationRoot) -> None:
    with gpio_station(station, "free_run", "pulse_ms = 50") as (board, camera, _):
        pass_frames(camera, 6)  # until it is sure that nothing is in view
        for count, shot in enumerate((GOOD, BAD, GOOD), 1):
            camera.show = shot
            pass_frames(camera, 6)
            camera.show = EMPTY
            wait_until(lambda n=count: len(pulses(board)) == n, 10, f"{board.history}")
        board.wait("ready")
        assert "verdicts by gpio" in "".join(live_lines(station.store))
        board.vanish()
        wait_until(
            lambda: "gpiochip0 cannot be read" in "".join(live_lines(station.store)), 10, "not told"
        )
    assert pulses(board) == ["ok", "ng", "ok"]
    assert [one["code"] for one in committed(station.root)] == [1, 2, 1]


def pulses(board: FakeBoard) -> list[str]:
    return [next(iter(shown & {"ok", "ng"})) for _, shown in board.history if "valid" in shown]


def pass_frames(camera: LiveCamera, count: int) -> None:
    begun = camera.number
    wait_until(lambda: camera.number > begun + count, 10, "no frames")
