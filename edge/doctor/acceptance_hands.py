"""The steps of an acceptance that need a camera, a wire, or a hand.

Verified: in the tests on stand-ins of the camera, of the lines and of the person. On a Jetson, with
a RealSense or with a real line: never executed.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from itertools import pairwise

from edge.board.usb import usb_cameras
from edge.camera.protocol import Camera
from edge.camera.supervised import supervised_camera
from edge.doctor.acceptance_bench import NOBODY, STOP, Bench, Done, StepFailed
from edge.doctor.desk import Desk
from edge.errors import CameraError, CameraLost
from edge.line.gpio_lines import Edge, Lines, LinesLost

FRAMES = 300  # 10 s of a camera at 30 frames per second
FRAME_S = 5.0
PULSES = 20
PULSE_S = 0.05
PATIENCE_S = 120.0  # for a person with a plug in the hand


def lacks_camera(bench: Bench) -> str:
    """A RealSense of its own."""
    camera = bench.subject.config.camera
    if bench.runs:
        return STOP
    if not camera.is_live:
        return f"[camera] of station.toml is {camera.kind}"
    if not usb_cameras(bench.subject.machine):
        return "no RealSense is plugged in"
    return ""


def _camera_of(bench: Bench) -> Camera:
    store = bench.subject.store
    contract = store.active().manifest.camera if store.active_product() else None
    return supervised_camera(bench.subject.config.camera, store.root, contract)


def watch_camera(camera: Camera) -> Done:
    """Frames of an open camera, each newer than the one before.

    Raises: StepFailed if one repeats itself or time stands still; CameraError if none come.
    """
    numbers, moments = [], []
    for _ in range(FRAMES):
        frame = camera.next_frame(FRAME_S)
        numbers.append(frame.frame_number)
        moments.append(frame.captured_mono_ns)
    steps = [later - earlier for earlier, later in pairwise(moments)]
    if min(steps) <= 0 or any(later <= earlier for earlier, later in pairwise(numbers)):
        raise StepFailed("a frame repeats the one before it, or its time stands still")
    rate = 1e9 * len(steps) / (moments[-1] - moments[0])
    lost = numbers[-1] - numbers[0] + 1 - FRAMES
    told = {"frames per s": round(rate, 2), "longest gap ms": round(max(steps) / 1e6, 1)}
    return Done(f"{FRAMES} frames, {lost} numbers left out", {**told, "left out": float(lost)})


def watch(bench: Bench) -> Done:
    """As watch_camera, of the station's camera."""
    camera = _camera_of(bench)
    try:
        camera.open()
        return watch_camera(camera)
    finally:
        camera.close()


def lacks_person_and_camera(bench: Bench) -> str:
    """The same, and a hand."""
    return lacks_camera(bench) or ("" if bench.desk.is_attended else NOBODY)


def pull_plug(camera: Camera, desk: Desk) -> Done:
    """The loss of the camera is noticed, and it is back once it is plugged in again.

    Raises: StepFailed if not, within PATIENCE_S each; CameraError if it gives no frame at first.
    """
    camera.open()
    camera.next_frame(FRAME_S)
    desk.tell("Pull the camera's USB plug now.")
    _await(lambda: not _gives_frame(camera), "frames went on: the plug was not pulled")
    desk.tell("Plug it in again.")
    began_s = time.monotonic()
    _await(lambda: _comes_back(camera), "no frame came after the plug was in again")
    seconds = round(time.monotonic() - began_s, 1)
    return Done("lost and found again", {"until a frame came, with the hand s": seconds})


def _await(is_so: Callable[[], bool], otherwise: str) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > end_s:
            raise StepFailed(f"{otherwise} within {PATIENCE_S:.0f} s")


def _gives_frame(camera: Camera) -> bool:
    try:
        camera.next_frame(FRAME_S)
    except CameraLost:  # an overdue frame too
        return False
    return True


def _comes_back(camera: Camera) -> bool:
    try:
        camera.close()
        camera.open()
        return _gives_frame(camera)
    except CameraError:
        time.sleep(0.5)
        return False


def unplug(bench: Bench) -> Done:
    """As pull_plug, of the station's camera."""
    camera = _camera_of(bench)
    try:
        return pull_plug(camera, bench.desk)
    finally:
        camera.close()


# --- discrete lines ---


def lacks_lines(bench: Bench) -> str:
    """A trigger, an output, and a hand that wires them."""
    gpio = bench.subject.config.gpio
    if bench.runs:
        return STOP
    if not gpio.enabled or not gpio.trigger or "ok" not in gpio.outputs:
        return "[gpio] of station.toml names no trigger and no output ok"
    return "" if bench.desk.is_attended else NOBODY


def loop(bench: Bench) -> Done:
    """As pulse_lines, of the station's lines, once they are wired."""
    from edge.line.gpio_chip import open_lines

    gpio = bench.subject.config.gpio
    bench.desk.confirm(f"Wire the output {gpio.ok} to the input {gpio.trigger}")
    try:
        lines = open_lines(gpio, has_trigger=True)
    except LinesLost as error:
        raise StepFailed(str(error)) from error
    try:
        return pulse_lines(lines)
    finally:
        lines.release()


def pulse_lines(lines: Lines) -> Done:
    """Every pulse of the output is one edge of the trigger. Raises: StepFailed."""
    seen: list[Edge] = []
    try:
        for _ in range(PULSES):
            lines.set({"ok": True})
            time.sleep(PULSE_S)
            lines.set({"ok": False})
            time.sleep(PULSE_S)
            seen += _edges_of(lines)
    except LinesLost as error:
        raise StepFailed(str(error)) from error
    if len(seen) != PULSES or seen[-1].number - seen[0].number != PULSES - 1:
        raise StepFailed(f"{PULSES} pulses gave {len(seen)} edges: check the wire and [gpio]")
    return Done(f"{PULSES} pulses, each seen once")


def _edges_of(lines: Lines) -> list[Edge]:
    """The edges that wait."""
    if lines.fd is None or not select.select([lines.fd], [], [], 0)[0]:
        return []
    return list(lines.read_edges())
