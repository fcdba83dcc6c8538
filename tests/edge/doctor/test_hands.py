"""The steps of an acceptance that need a camera, a wire or a hand, on stand-ins of all three."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge.camera.supervised import SupervisedCamera
from edge.config import EdgeConfig
from edge.doctor import acceptance_hands
from edge.doctor.acceptance_bench import NOBODY, STOP, Bench, StepFailed
from edge.doctor.acceptance_hands import (
    FRAMES,
    PULSES,
    lacks_camera,
    lacks_lines,
    lacks_person_and_camera,
    pull_plug,
    pulse_lines,
    watch_camera,
)
from edge.doctor.desk import Terminal
from edge.doctor.finding import Subject
from edge.errors import CameraLost, EdgeError
from edge.line.gpio_lines import Edge, LinesLost
from edge.station.lock import RUN, locked
from edge.station.store import Store
from tests.support.board_tree import CAMERA, lay_board
from tests.support.desk import FakeDesk
from tests.support.fakes import ScriptedCamera, frame_of
from tests.support.station import EMPTY

FRAME_NS = 33_000_000
STREAM = [
    replace(frame_of(EMPTY, number), captured_mono_ns=number * FRAME_NS)
    for number in range(1, FRAMES + 1)
]


def bench(root: Path, desk: FakeDesk | None = None, **sections: Mapping[str, object]) -> Bench:
    config = EdgeConfig.model_validate(sections)
    return Bench(Subject(Store(root), root, config), desk or FakeDesk())


def test_frames_of_a_camera_are_counted_and_timed() -> None:
    done = watch_camera(ScriptedCamera(STREAM, interval_s=0.0))
    assert done.said == f"{FRAMES} frames, 0 numbers left out"
    assert done.numbers["frames per s"] == pytest.approx(30.3, abs=0.01)
    gap = [
        *STREAM[:100],
        *(replace(one, frame_number=one.frame_number + 7) for one in STREAM[100:]),
    ]
    assert watch_camera(ScriptedCamera(gap, interval_s=0.0)).numbers["left out"] == 7


@pytest.mark.parametrize("change", [{"frame_number": 99}, {"captured_mono_ns": 99 * FRAME_NS}])
def test_a_camera_that_repeats_itself_fails(change: Mapping[str, int]) -> None:
    stream = [*STREAM[:99], replace(STREAM[99], **change), *STREAM[100:]]
    with pytest.raises(StepFailed, match="repeats the one before it"):
        watch_camera(ScriptedCamera(stream, interval_s=0.0))


def test_a_camera_that_is_lost_while_it_is_watched_fails() -> None:
    with pytest.raises(CameraLost):
        watch_camera(ScriptedCamera([*STREAM[:5], CameraLost("gone")], interval_s=0.0))


def test_the_plug_is_pulled_and_put_in_again() -> None:
    script = [*STREAM[:3], CameraLost("gone"), CameraLost("no device"), *STREAM[3:5]]
    camera, desk = ScriptedCamera(script), FakeDesk()
    done = pull_plug(camera, desk)
    assert desk.told == ["Pull the camera's USB plug now.", "Plug it in again."]
    assert camera.opened == 3
    assert list(done.numbers) == ["until a frame came, with the hand s"]


def test_a_plug_that_nobody_touches_or_that_stays_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance_hands, "PATIENCE_S", 0.3)
    with pytest.raises(StepFailed, match="the plug was not pulled"):
        pull_plug(ScriptedCamera(STREAM), FakeDesk())
    lost = [CameraLost("gone") for _ in range(300)]
    with pytest.raises(StepFailed, match="no frame came after the plug was in again"):
        pull_plug(ScriptedCamera([STREAM[0], *lost]), FakeDesk())


class LoopedLines:
    """An output that is wired to the trigger. gives: edges for each pulse."""

    def __init__(self, gives: int = 1, is_gone: bool = False) -> None:
        self._read, self._write = os.pipe()
        self._gives, self._is_gone, self._edges, self.pulses = gives, is_gone, 0, 0

    @property
    def fd(self) -> int:
        return self._read

    def read_edges(self) -> Sequence[Edge]:
        count = len(os.read(self._read, 64))
        numbers = range(self._edges - count + 1, self._edges + 1)
        return [Edge(number * 1000, number) for number in numbers]

    def set(self, values: Mapping[str, bool]) -> None:
        if self._is_gone:
            raise LinesLost("the GPIO chip of the outputs is gone")
        if values["ok"]:
            self.pulses += 1
            self._edges += self._gives
            os.write(self._write, b"x" * self._gives)

    def release(self) -> None:
        os.close(self._read)
        os.close(self._write)


def test_every_pulse_of_a_wired_line_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptance_hands, "PULSE_S", 0.001)
    lines = LoopedLines()
    assert pulse_lines(lines).said == f"{PULSES} pulses, each seen once"
    assert lines.pulses == PULSES
    for gives in (0, 2):
        with pytest.raises(StepFailed, match=rf"{PULSES} pulses gave {gives * PULSES} edges"):
            pulse_lines(LoopedLines(gives))
    with pytest.raises(StepFailed, match="is gone"):
        pulse_lines(LoopedLines(is_gone=True))


def test_what_is_absent_is_named(tmp_path: Path) -> None:
    root = lay_board(tmp_path)
    live = {"camera": {"kind": "realsense"}}
    assert lacks_camera(bench(root, **live)) == ""
    assert lacks_person_and_camera(bench(root, **live)) == NOBODY
    assert lacks_person_and_camera(bench(root, FakeDesk(is_attended=True), **live)) == ""
    assert "is virtual" in lacks_camera(bench(root, camera={"kind": "virtual"}))
    (root / CAMERA / "product").write_text("keyboard")
    assert lacks_camera(bench(root, **live)) == "no RealSense is plugged in"
    wired = {"gpio": {"enabled": True, "trigger": "a", "ok": "b", "ng": "c"}}
    assert lacks_lines(bench(root, FakeDesk(is_attended=True), **wired)) == ""
    assert lacks_lines(bench(root, **wired)) == NOBODY
    assert "names no trigger" in lacks_lines(bench(root))
    with locked(Store(root).data, RUN, "edge run"):
        assert lacks_camera(bench(root, **live)) == lacks_lines(bench(root, **wired)) == STOP


def test_a_camera_of_the_station_is_tried_in_a_process_of_its_own(tmp_path: Path) -> None:
    camera = acceptance_hands._camera_of(bench(tmp_path, camera={"kind": "realsense"}))
    assert isinstance(camera, SupervisedCamera)


def test_a_terminal_tells_a_shutdown_from_a_cut(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    before = signal.getsignal(signal.SIGTERM)
    terminal = Terminal()
    assert terminal.wait_for_cut(0.05) is False
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert terminal.wait_for_cut(60.0) is True
    assert signal.getsignal(signal.SIGTERM) is before
    monkeypatch.setattr("builtins.input", lambda _: (_ for _ in ()).throw(EOFError))
    with pytest.raises(EdgeError, match="nobody answered"):
        terminal.confirm("Wire it")
    terminal.tell("well")
    assert capsys.readouterr().out == "well\n"
