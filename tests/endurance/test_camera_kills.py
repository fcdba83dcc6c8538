"""The camera's process is killed at random moments, also while it starts: frames come again, none
is torn or stale, and nothing is left behind.

`make endurance` kills 1,000 times and prints the figures. Otherwise: KILLS=50 SEED=3 pytest -s -m
long tests/endurance/test_camera_kills.py.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from edge.camera.contract import find_staleness
from edge.camera.supervised import SupervisedCamera, supervised_camera
from edge.runtime.capture import Capture
from edge.runtime.mailbox import Mailbox
from edge.sections import CameraConfig
from edge.types import Frame
from tests.support.broker import wait_until
from tests.support.patience import slowness

pytest.importorskip("pyrealsense2", reason="the software device is librealsense's")

HEIGHT, WIDTH, IMAGES, FPS = 480, 640, 4, 60
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP)
AGAIN_S = 5.0  # of a process that is dead at once, from the signal to the next frame
STALL_S = 2.0  # of one that is stopped: until it is given up
MAX_AGE_MS = 500.0
WARM_UP = 5  # kills before what the process holds is measured
GROWTH_MIB = 16.0  # of resident memory, over any number of kills
STATION: Any = SimpleNamespace(manifest=SimpleNamespace(camera=None))


def write_images(folder: Path) -> None:
    """Each is of one value everywhere, so that a torn frame shows: color 50 n, depth 500 + n."""
    folder.mkdir()
    for number in range(IMAGES):
        color = np.full((HEIGHT, WIDTH, 3), 50 * number, np.uint8)
        cv2.imwrite(str(folder / f"{number:04d}_color.png"), color)
        depth = np.full((HEIGHT, WIDTH), 500 + number, np.uint16)
        cv2.imwrite(str(folder / f"{number:04d}_depth.png"), depth)
    lens = {"fx": 600, "fy": 600, "cx": 319.5, "cy": 239.5, "depth_unit_m": 0.001}
    whole = {"width": WIDTH, "height": HEIGHT, **lens}
    (folder / "intrinsics.json").write_text(json.dumps(whole))


@dataclass
class Watched:
    """What the frames were that came, looked at in a thread of its own."""

    mailbox: Mailbox = field(default_factory=Mailbox)
    frames: int = 0
    last_s: float = 0.0
    wrong: list[str] = field(default_factory=list)
    stale: int = 0
    ending: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        previous: Frame | None = None
        while not self.ending.is_set():
            item = self.mailbox.take(0.1)
            if not isinstance(item, Frame):
                previous = None if item is not None else previous  # as judging does after a loss
                continue
            now_ns = time.monotonic_ns()
            if find_staleness(previous, item, now_ns, MAX_AGE_MS) is None:
                self.frames, self.last_s = self.frames + 1, time.monotonic()
            else:
                self.stale += 1
            previous = item
            self._find_torn(item)

    def _find_torn(self, frame: Frame) -> None:
        value = int(frame.color[0, 0, 0])
        whole = (frame.color == value).all() and value % 50 == 0
        read = frame.depth[frame.depth > 0]  # align leaves holes at the border
        if not whole or read.size < 0.9 * frame.depth.size or (read != 500 + value // 50).any():
            self.wrong.append(f"frame {frame.frame_number} is torn")


@dataclass
class Rig:
    capture: Capture
    cameras: list[SupervisedCamera]
    watched: Watched

    @property
    def pid(self) -> int | None:
        return self.cameras[-1].pid if self.cameras else None


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    write_images(folder / "belt")
    config = CameraConfig(kind="virtual", path="belt", fps=FPS)
    cameras: list[SupervisedCamera] = []

    def make(_: object) -> SupervisedCamera:
        cameras[:] = [supervised_camera(config, folder, loop=True, live=True)]
        return cameras[0]

    watched, stopping = Watched(), threading.Event()
    capture = Capture(make, lambda: STATION, watched.mailbox, stopping, FPS)
    threads = [threading.Thread(target=work) for work in (capture.run, watched.look)]
    for thread in threads:
        thread.start()
    try:
        yield Rig(capture, cameras, watched)
    finally:
        stopping.set()
        watched.ending.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)


@dataclass(frozen=True)
class Held:
    """By this process, with one camera at work."""

    descriptors: int
    threads: int
    processes: int
    mib: float

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        me = psutil.Process()
        children = len(me.children(recursive=True))
        return cls(me.num_fds(), me.num_threads(), children, me.memory_info().rss / 2**20)


def kill(rig: Rig, chance: random.Random, while_starting: bool) -> tuple[str, float]:
    """One signal at a random moment. Returns its name and the seconds until the next frame; after
    one while the process starts, another signal may come first.
    """
    if not while_starting:
        time.sleep(chance.uniform(0.0, 0.4))
    sent = chance.choice(SIGNALS)
    pid = rig.pid
    if pid is not None:
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            return "", 0.0
    since_s = time.monotonic()
    if while_starting:
        time.sleep(chance.uniform(0.0, 1.0))
        return "", 0.0
    # a frame that was on its way when the signal came is none of the next process
    wait_until(lambda: rig.pid not in (pid, None), 60, f"{sent.name}: no new process")
    started_s = time.monotonic()
    wait_until(lambda: rig.watched.last_s > started_s, 60, f"{sent.name}: no frame")
    return sent.name, rig.watched.last_s - since_s


def kill_at_random(folder: Path, kills: int, seed: int) -> None:
    chance, times, slowest = random.Random(seed), {}, slowness()
    with running_rig(folder) as rig:
        wait_until(lambda: rig.watched.frames, 60, "no frame")
        before = Held.now()
        for number in range(kills + WARM_UP):
            name, took_s = kill(rig, chance, while_starting=number % 4 == 3)
            if name:
                times.setdefault(name, []).append(took_s)
            if number % 50 == 0:
                slowest = max(slowest, slowness())
            if number + 1 == WARM_UP:
                wait_until(lambda n=rig.watched.frames: rig.watched.frames > n, 60, "no frame")
                before = Held.now()
        wait_until(lambda n=rig.watched.frames: rig.watched.frames > n + 5, 60, "no frame")
        after, watched = Held.now(), rig.watched
        print(
            f"\nseed {seed}, {kills + WARM_UP} signals, this machine {slowest:.1f} times slower"
            f" than a quiet one\n{watched.frames} frames, {len(watched.wrong)} torn,"
            f" {watched.stale} stale, {rig.capture.restarts} restarts\n{before}\n{after}"
        )
        for name, seconds in sorted(times.items()):
            median_s, longest_s = np.median(seconds), max(seconds)
            told = f"frames again after {median_s:.2f} s, {longest_s:.2f} s at most"
            print(f"{name:<8} {len(seconds):4} times, {told}")
        assert not watched.wrong, watched.wrong[:3]
        assert (after.threads, after.processes) == (before.threads, before.processes)
        assert after.descriptors <= before.descriptors
        assert after.mib < before.mib + GROWTH_MIB
    for name, seconds in times.items():
        limit_s = AGAIN_S + (STALL_S if name == "SIGSTOP" else 0.0)
        assert max(seconds) < limit_s * slowest, name
    assert not psutil.Process().children(recursive=True)


@pytest.mark.endurance
def test_kills_at_random_moments_leave_nothing_behind_and_tear_no_frame(tmp_path: Path) -> None:
    kill_at_random(tmp_path, kills=3, seed=1)


@pytest.mark.long
@pytest.mark.timeout(14_400)
def test_a_thousand_kills_at_random_moments(tmp_path: Path) -> None:
    kill_at_random(
        tmp_path, int(os.environ.get("KILLS", "1000")), int(os.environ.get("SEED", "13"))
    )
