"""What the station does about a camera that gives no frames: the ladder of edge/camera/ladder.py,
carried out, told in the state and written to the audit table.

    0.5 s without a frame   counted: edge/runtime/capture.py
    2 s, or an error        a failure: one rung up

A camera of other settings than the product's (CameraMismatch) works: no remedy would change it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from edge.camera.device import NOTHING_TOLD, DeviceFacts
from edge.camera.ladder import Ladder, Rung
from edge.camera.remedies import NoDevice, Remedies
from edge.errors import CameraError, CameraLost, CameraMismatch
from edge.runtime.audit_rows import RowLimit

log = logging.getLogger(__name__)

RESETS = 2  # of the hardware, unless station.toml says otherwise
ACT = "camera"  # rows of the audit table
SENTENCE_CHARS = 400  # of a driver's words in a row and in the state
ROWS, ROWS_S = 60, 3600.0  # at most so many rows in this long: the table is never cut

Note = Callable[[str, Mapping[str, Any]], None]


class Healing:
    """Used by the capture thread; any thread may read `problem`, `is_fault` and the counters, each
    one number or reference.
    """

    def __init__(
        self,
        remedies: Remedies | None = None,
        resets: int = RESETS,
        note: Note = lambda _act, _detail: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """note: takes a row for the audit table, without waiting. changed: called after `problem`
        or `is_fault` changed.
        """
        self._remedies = remedies or NoDevice("played")
        self._ladder, self._rung = Ladder(resets), Rung.RESPAWN
        self._note, self._changed = note, changed
        self._began_s = 0.0
        self._rows = RowLimit(ROWS, ROWS_S)
        self._tried: dict[Rung, str] = {}  # what came of each remedy in this loss, at last
        self.told = NOTHING_TOLD  # what the device told before it was lost
        self.problem: str | None = None  # no frames, why, and what is done; None while frames come
        self.is_fault = False  # every remedy was tried
        self._is_to_start_anew = False  # written by any thread, each value as a whole
        self.hardware_resets = 0  # done since the start
        self.port_restarts = 0  # done since the start

    def climb(self, error: CameraError) -> CameraError:
        """The camera has failed once more. Returns the error to pass on: at the end of the ladder
        it says what to do.
        """
        if isinstance(error, CameraMismatch):
            self._ladder.start_anew()
            self._tell(str(error)[:SENTENCE_CHARS])
            return error
        if self._is_to_start_anew:
            self._is_to_start_anew, self._tried, self.is_fault = False, {}, False
            self._ladder.start_anew()
        if not self._ladder.failures:
            self._began_s = time.monotonic()
        self._rung = rung = self._ladder.climb()
        why, is_new = str(error)[:SENTENCE_CHARS], not self.is_fault
        if rung is Rung.FAULT:
            tried = "; ".join(f"{rung.value}: {what}" for rung, what in self._tried.items())
            error = CameraLost(
                f"no remedy helped ({tried or 'none is allowed'}): {self._remedies.advice}. {why}"
            )
            if not self.is_fault:
                log.error("camera: %s", error)
            self._tell(str(error), is_fault=True)
        else:
            self._tell(f"{why} ({rung.value} {self._ladder.number})")
        if is_new and rung in (Rung.RESPAWN, Rung.FAULT):
            self._row({"rung": rung.value, "failure": self._ladder.failures, "why": why})
        return error

    def act(self) -> None:
        """Carry out the rung that was climbed; the camera's process has ended. Starting it again is
        the caller's.
        """
        if self._rung is Rung.HARDWARE_RESET:
            self.hardware_resets += self._try(self._remedies.reset_hardware)
        elif self._rung is Rung.USB_PORT:
            self.port_restarts += self._try(self._remedies.restart_port)
        self._rung = Rung.RESPAWN

    def start_anew(self) -> None:
        """Try every remedy again if no frames come, from the first one on. For any thread."""
        self._is_to_start_anew = True

    def frame_came(self) -> None:
        """The camera works: the ladder starts anew."""
        self._is_to_start_anew = False
        if self.problem is None:
            return
        failures = self._ladder.failures
        self._ladder.start_anew()
        self._tried = {}
        self._tell(None)
        if not failures:
            return  # it was another camera than the product needs, or set otherwise
        lost_s = round(time.monotonic() - self._began_s, 1)
        self._row({"rung": "frames again", "failures": failures, "lost_s": lost_s})

    def _try(self, remedy: Callable[[DeviceFacts], str]) -> bool:
        """Whether it was done."""
        name = f"{self._rung.value} {self._ladder.number}"
        try:
            outcome, is_done = remedy(self.told), True
        except CameraError as error:
            outcome, is_done = f"skipped, {error}"[:SENTENCE_CHARS], False
        log.warning("camera: %s: %s", name, outcome)
        self._tried[self._rung] = outcome
        self._tell(f"no frames; {name}: {outcome}")
        failure = self._ladder.failures
        self._row({"rung": self._rung.value, "failure": failure, "outcome": outcome})
        return is_done

    def _tell(self, problem: str | None, is_fault: bool = False) -> None:
        before = (self.problem, self.is_fault)
        self.problem, self.is_fault = problem, is_fault
        if before != (problem, is_fault):
            self._changed()

    def _row(self, detail: Mapping[str, Any]) -> None:
        """A row of the audit table; of more than ROWS within ROWS_S the number is told later."""
        row = self._rows.limited(detail)
        if row is not None:
            self._note(ACT, row)
