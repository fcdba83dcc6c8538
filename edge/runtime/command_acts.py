"""What each command does to a running station. Called in the thread of the commands, one at a time;
each act returns when it has taken effect, or raises.

While one is at work `ready` is false, no part is judged and no trigger accepted. What changes the
root goes through the same code and the same lock as the command line: a power cut leaves the old
state or the new one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from edge.config import EdgeConfig
from edge.errors import CameraLost
from edge.line.commands import Command, CommandRefusal, Verb
from edge.runtime.active import OPEN_LIMIT_S, Fingerprint, fingerprint_of
from edge.runtime.calibrating import calibrate
from edge.runtime.capture import Capture
from edge.runtime.changes import Changes
from edge.runtime.commanding import Refused
from edge.runtime.current import CurrentBundle
from edge.runtime.health import Health
from edge.runtime.pause import Pause
from edge.runtime.starting import find_previous
from edge.station.numbers import product_of
from edge.station.store import Installed, Store

FRAMES_S = 10.0  # for frames to come again from a camera that was opened anew
LOOK_S = 0.02
OVER_SOCKET = ("plane", "expected", "parts")  # by the frames of this station's camera


@dataclass(frozen=True)
class Controls:
    """What the commands act on. gives_frames: whether another process gets frames over the socket.
    frames: how many were judged since the start. moved: for the watchdog, while the camera gives no
    frames on purpose.
    """

    store: Store
    config: EdgeConfig
    current: CurrentBundle
    changes: Changes
    capture: Capture
    health: Health
    pause: Pause
    is_between_parts: Callable[[], bool]
    gives_frames: Callable[[], bool]
    frames: Callable[[], int]
    moved: Callable[[], None]
    stopping: threading.Event


class CommandActs:
    """Carries out one command after the other."""

    def __init__(self, controls: Controls) -> None:
        self._on = controls
        self._acts: dict[Verb, Callable[[Command, str], str]] = {
            Verb.SELECT: self._select,
            Verb.CALIBRATE: self._calibrate,
            Verb.ROLLBACK: self._roll_back,
            Verb.RESTART_CAMERA: self._restart_camera,
            Verb.RESET: self._reset,
            Verb.PAUSE: self._pause,
            Verb.RESUME: self._resume,
        }

    def carry_out(self, command: Command, who: str) -> str:
        """Returns what has come of it, in a sentence. Raises: Refused, EdgeError."""
        on = self._on
        if not on.pause.begin(on.is_between_parts):
            why = "a calibration" if on.pause.is_session else "a part"
            raise Refused(CommandRefusal.BUSY, f"{why} is open: send it again after its end")
        try:
            return self._acts[command.verb](command, who)
        finally:
            on.pause.end()

    def _select(self, command: Command, who: str) -> str:
        on, product = self._on, self._wanted_product(command)
        self._require_same_kind(on.store.installed(product))
        before = on.store.active_product()
        on.store.select(product, who)
        try:
            return self._await_judging()
        except Refused as refused:
            if before is None or before == product:
                raise
            raise self._taken_back(refused, lambda: on.store.select(before, who)) from refused

    def _wanted_product(self, command: Command) -> str:
        """Raises: Refused if it is not installed."""
        store = self._on.store
        number = command.number
        product = command.product if number is None else product_of(store, number)
        if product is None or product not in store.products():
            known = ", ".join(store.products())
            asked = command.product or f"number {number}"
            raise Refused(
                CommandRefusal.UNKNOWN_PRODUCT, f"{asked} is not installed; there are: {known}"
            )
        return product

    def _require_same_kind(self, chosen: Installed) -> None:
        """How parts are told apart is decided at the start. Raises: Refused."""
        is_other = chosen.manifest.presence != self._on.current.get().manifest.presence
        if is_other and not self._on.config.decision.is_triggered:
            raise Refused(
                CommandRefusal.FAILED,
                f"{chosen.product} tells parts apart in another way than what judges: select it at"
                " the station and restart `edge run`",
            )

    def _roll_back(self, _: Command, who: str) -> str:
        store = self._on.store
        product = find_previous(store).product
        store.rollback(product, who)
        try:
            return self._await_judging()
        except Refused as refused:
            raise self._taken_back(refused, lambda: store.rollback(product, who)) from refused

    def _taken_back(self, refused: Refused, undo: Callable[[], object]) -> Refused:
        """What was active before is active again, unless the station stops: then its next start
        finds the new one.
        """
        if self._on.stopping.is_set():
            return refused
        undo()
        judging = self._await_judging()
        return Refused(CommandRefusal.FAILED, f"{refused}; {judging} as before")

    def _await_judging(self) -> str:
        """Wait until what is active judges. Raises: Refused if it cannot be opened."""
        on = self._on
        end_s = time.monotonic() + OPEN_LIMIT_S
        while not self._is_judging(fingerprint_of(on.store)):
            if time.monotonic() > end_s:
                raise Refused(CommandRefusal.FAILED, f"not open after {OPEN_LIMIT_S:g} s")
            self._wait()
        active = on.current.get()
        return f"{active.installed.product} {active.bundle} judges"

    def _is_judging(self, wanted: Fingerprint) -> bool:
        """Raises: Refused if it cannot be opened."""
        on = self._on
        refused = on.changes.refusal_of(wanted)
        if refused:
            raise Refused(CommandRefusal.FAILED, refused)
        is_taken = refused is not None and not on.current.is_waited_for
        return is_taken and on.current.get().fingerprint == wanted

    def _calibrate(self, command: Command, _: str) -> str:
        on = self._on
        words = [command.what, "--product", on.current.get().installed.product]
        if command.count is not None:
            words += ["--count", str(command.count)]
        if command.false_rejects is not None:
            words += ["--false-rejects", f"{command.false_rejects:.9f}"]
        over_socket = command.what in OVER_SOCKET and on.gives_frames()
        takes_none = command.what == "threshold" or over_socket
        needs_camera = on.config.camera.is_live and not takes_none
        starts = on.capture.starts
        with on.capture.lent() if needs_camera else nullcontext():
            saved = calibrate(on.store.root, words, on.stopping, on.moved)
        judging = self._await_judging()
        if needs_camera:
            self._await_frames(starts)
        return f"{saved}; {judging} with it"

    def _restart_camera(self, _: Command, __: str) -> str:
        starts = self._on.capture.starts
        self._on.capture.reopen()
        self._await_frames(starts)
        return "the camera was opened anew, frames come"

    def _await_frames(self, starts: int) -> None:
        """Raises: CameraLost if none is judged in time after the camera was opened once more."""
        capture, end_s = self._on.capture, time.monotonic() + FRAMES_S
        while capture.starts <= starts or capture.is_reopening:
            self._wait_until(end_s)
        judged = self._on.frames()
        while self._on.frames() <= judged:
            self._wait_until(end_s)

    def _reset(self, _: Command, __: str) -> str:
        on = self._on
        on.health.reset_counts()
        on.capture.healing.start_anew()
        return "ok, ng and unknown count from 0" + (
            "; the camera is tried again from the first remedy on"
            if on.capture.healing.problem
            else ""
        )

    def _pause(self, _: Command, __: str) -> str:
        self._on.pause.is_asked_for = True
        return "no part is judged until `resume`"

    def _resume(self, _: Command, __: str) -> str:
        self._on.pause.is_asked_for = False
        return "parts are judged"

    def _wait_until(self, end_s: float) -> None:
        if time.monotonic() > end_s:
            why = self._on.capture.healing.problem or "it delivers nothing"
            raise CameraLost(f"no frames within {FRAMES_S:g} s: {why}")
        self._wait()

    def _wait(self) -> None:
        """Raises: Refused if the station stops."""
        if self._on.stopping.wait(LOOK_S):
            raise Refused(
                CommandRefusal.FAILED, "the station stops: what is active judges at its next start"
            )
