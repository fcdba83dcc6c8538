"""A machine that triggers and sorts by discrete lines alone, as fast as the station allows, over a
chip that stands in: every accepted trigger is answered once, with the verdict of its own part.

`make endurance` takes 10,000 parts and prints the figures. Otherwise: PARTS=500 SEED=3 pytest -s -m
long tests/endurance/test_gpio_verdicts.py.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from edge.runtime.plan import RunPlan
from edge.types import Frame
from tests.support.broker import wait_until
from tests.support.fake_gpio import SETTINGS, FakeBoard, fake_board
from tests.support.fakes import committed, frame_of
from tests.support.service import new_service, running
from tests.support.station import BAD, EMPTY, GOOD, Shot, StationRoot, make_station
from tests.support.triggering import LiveCamera

FPS, DEADLINE_S = 120, 1.0
SHOWN = {GOOD: "ok", BAD: "ng", EMPTY: "unknown"}
# what is done to one part in so many
FAULTS = {"edge while busy": 20, "camera silent": 200, "chip gone": 500}
LINES = "\n".join(f'{role} = "{name}"' for role, name in SETTINGS.items())


class PartCamera(LiveCamera):
    """What is in view changes between two frames, never within one."""

    def __init__(self) -> None:
        super().__init__()
        self.looking = threading.Lock()
        self._frames: dict[Shot, Frame] = {shot: frame_of(shot, 0) for shot in SHOWN}

    def next_frame(self, timeout_s: float) -> Frame:
        time.sleep(1 / FPS)
        while self.show is None:
            time.sleep(0.002)
        with self.looking:
            self.number += 1
            drawn = self._frames[self.show]
            color = drawn.color.copy()
            color[0, 0] = self.number % 256
            now_ns = time.monotonic_ns()
            return replace(drawn, color=color, frame_number=self.number, captured_mono_ns=now_ns)

    def put(self, shot: Shot) -> None:
        with self.looking:
            self.show = shot


@dataclass
class Machine:
    """Triggers, and notes what came of it."""

    board: FakeBoard
    camera: PartCamera
    chance: random.Random
    edges: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    shown: dict[int, str] = field(default_factory=dict)  # by the number of the edge
    wrong: list[str] = field(default_factory=list)

    def part(self) -> None:
        """One part, with one fault at most."""
        fault = next((one for one, of in FAULTS.items() if self.chance.random() < 1 / of), "")
        self.counts[fault or "none"] += 1
        shot = self.chance.choices(list(SHOWN), (6, 3, 1))[0]
        self.camera.put(shot)
        if fault == "camera silent":
            self.camera.show = None
        begun_s = time.monotonic()
        self.pulse()
        number = self.edges
        if not self.wait(lambda: self.was_busy_since(begun_s), 1.0):
            self.counts["missed"] += 1
            return self.recover()
        if fault == "edge while busy":
            self.pulse()
        if fault == "chip gone":
            return self.lose_chip()
        if not self.wait(lambda: "busy" not in self.board.active, 2 * DEADLINE_S):
            self.wrong.append(f"{number}: busy beyond its deadline")
        self.note(number, shot, fault, time.monotonic() - begun_s)
        return self.recover() if fault else None

    def was_busy_since(self, begun_s: float) -> bool:
        return any(at_s > begun_s and "busy" in shown for at_s, shown in list(self.board.history))

    def pulse(self) -> None:
        self.edges += 1
        self.board.pulse()

    def note(self, number: int, shot: Shot, fault: str, took_s: float) -> None:
        # busy falls with the result; an edge while busy may have come after it, and ended it
        self.wait(lambda: "valid" in self.board.active, 0.02)
        shown = "".join(self.board.active & {"ok", "ng", "unknown"})
        self.shown[number] = shown
        if not fault:
            self.seconds.append(took_s)
        if shown not in (SHOWN[shot], "unknown", ""):
            self.wrong.append(f"{number}: {shown} for a part that is {SHOWN[shot]}")
        if shown != SHOWN[shot]:
            self.counts[f"shown {shown or 'nothing'}: {fault or 'no fault'}"] += 1
        if took_s > DEADLINE_S and shown in ("ok", "ng"):
            self.wrong.append(f"{number}: {shown} after its deadline")

    def lose_chip(self) -> None:
        self.board.vanish()
        wait_until(lambda: not self.board.active, 10, "the lines are held")
        self.board.come_back()
        self.recover()
        if self.board.verdict:
            self.wrong.append("a verdict was shown after the lines were lost")

    def recover(self) -> None:
        if self.camera.show is None:
            self.camera.put(EMPTY)
        wait_until(lambda: "ready" in self.board.active, 30, "not ready again")
        self.wait(lambda: "busy" not in self.board.active, 2 * DEADLINE_S)

    @staticmethod
    def wait(condition: Callable[[], bool], limit_s: float) -> bool:
        end_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end_s:
                return False
            time.sleep(0.001)
        return True


def run(station: StationRoot, parts: int, seed: int) -> tuple[Machine, dict[str, int]]:
    """The machine after its parts, and the counts of the station's state."""
    section = f'[gpio]\nenabled = true\nmode = "level"\ndeadline_ms = {DEADLINE_S * 1e3:.0f}'
    more = f'fps = {FPS}\n[decision]\nmode = "triggered"\n{section}\n{LINES}'
    config, camera = station.configure("realsense", None, more=more), PartCamera()
    with fake_board() as board:
        service = new_service(station, [], None, RunPlan(), config, make_camera=lambda _: camera)
        machine = Machine(board, camera, random.Random(seed))
        with running(service):
            board.wait("ready")
            for _ in range(parts):
                machine.part()
                board.calls.clear()
                del board.history[:-10]
            work = service.at_work
            assert work is not None
            wait_until(lambda: work._triggering.is_idle, 30, "parts are open")  # type: ignore[union-attr]
            counts = work.report.for_status()
        assert board.active == frozenset()
    return machine, counts


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_ten_thousand_parts_by_lines_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    parts, seed = int(os.environ.get("PARTS", "10000")), int(os.environ.get("SEED", "11"))
    station = make_station(tmp_path_factory.mktemp("gpio") / "station")
    machine, counts = run(station, parts, seed)
    p50, p99 = np.percentile(machine.seconds, [50, 99]) * 1e3
    told = ("triggers_accepted", "triggers_refused", "triggers_ignored", "verdicts_unsent")
    print(f"\nseed {seed}, {parts} parts, {machine.edges} edges: {dict(machine.counts)}")
    print({key: counts[key] for key in told})
    print(f"busy until the verdict p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    assert machine.wrong == []
    records = {one["n"]: one for one in committed(station.root)}
    print(f"reasons {dict(Counter(one['reason'] for one in records.values()))}")
    assert len(records) == counts["triggers_accepted"]
    names = {1: "ok", 2: "ng", 3: "unknown"}
    unlike = [
        n for n, shown in machine.shown.items() if shown not in ("", names[records[n]["code"]])
    ]
    assert unlike == []
    assert (
        counts["triggers_accepted"] + counts["triggers_refused"] + counts["triggers_ignored"]
        == machine.edges
    )
