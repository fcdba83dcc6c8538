"""The step of a calibration that a person is guided through by the page: a child process of the
station carries it out, as a client of its socket.

The child writes what is saved: the page itself may only read what judges. One step at a time; its
child ends with the station, and a step that was cut short is told as interrupted.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from edge.camera.process import PACKAGES, child_environment
from edge.control.guide import BEGUN, FOLDER, GuideBegin, GuideOrder, GuideState, Refusal
from edge.errors import BusyError, CalibrationError, EdgeError, StorageError
from edge.files import make_folder, read_bytes, remove_tree, sentence_of, write_atomically

log = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "edge", "calibrate", "guided", "--root")
STATE_LIMIT = 64 << 10  # characters of one line
STOP_S = 60.0  # to stop by itself; what it does at a time takes seconds


class Guide:
    """The step that is at work, and how far it is. Thread-safe."""

    def __init__(self, root: Path, data: Path) -> None:
        """data: var/lib/edge of the root."""
        self._root, self._folder = root, data / FOLDER
        self._lock = threading.Lock()  # guards what follows
        self._stopping = False
        self._child: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._state = _interrupted(self._folder)

    def told(self) -> GuideState | None:
        """How far the last step is; None before the first."""
        return self._state

    def begin(self, begun: GuideBegin) -> None:
        """Start a step; its state is there at once.

        Raises: BusyError if one is at work, StorageError if the disk refuses.
        """
        with self._lock:
            state = self._state
            if state is not None and not state.is_over:
                raise BusyError(
                    f"{state.who} is calibrating this station ({state.what}): wait for the end, or"
                    " stop it"
                )
            try:
                remove_tree(self._folder)
                make_folder(self._folder)
                write_atomically(self._folder / BEGUN, begun.model_dump_json().encode())
                child = self._started()
            except OSError as error:
                raise StorageError(sentence_of(error)) from error
            self._child, self._state = child, GuideState(what=begun.what, who=begun.who)
            self._reader = threading.Thread(
                target=self._read, args=(child,), name="guide", daemon=True
            )
            self._reader.start()
        self._say(child, begun.model_dump_json())

    def tell(self, order: GuideOrder) -> None:
        """Hand an order to the step that is at work. Raises: CalibrationError if none is."""
        with self._lock:
            state, child = self._state, self._child
        if child is None or state is None or state.is_over:
            raise CalibrationError("no calibration is at work any more: begin it again")
        self._say(child, order.model_dump_json())
        if order.order == "stop":
            self._end_later(child)

    def stop(self, timeout_s: float) -> None:
        """The station ends, and the step with it."""
        with self._lock:
            self._stopping = True
            child, reader = self._child, self._reader
        if child is not None:
            _kill(child)
        if reader is not None:
            reader.join(timeout_s)

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, str(self._root.absolute())],
            cwd=PACKAGES,
            env=child_environment(),
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def _say(self, child: subprocess.Popen[str], line: str) -> None:
        assert child.stdin is not None
        with suppress(OSError, ValueError):  # it has ended: its reader says how
            child.stdin.write(f"{line}\n")
            child.stdin.flush()

    def _end_later(self, child: subprocess.Popen[str]) -> None:
        """A child that hangs must not hold the line, nor the next step."""
        timer = threading.Timer(STOP_S, self._end, (child,))
        timer.name, timer.daemon = "guide stop", True
        timer.start()

    def _end(self, child: subprocess.Popen[str]) -> None:
        with self._lock:
            hangs = child is self._child and self._state is not None and not self._state.is_over
        if hangs:
            log.error("guide: the step has not stopped within %.0f s: it is ended", STOP_S)
            _kill(child)

    # --- the thread that reads ---

    def _read(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        with child:
            while line := child.stdout.readline(STATE_LIMIT):
                try:
                    self._note(child, GuideState.model_validate_json(line))
                except ValidationError:
                    log.error("guide: the child says something strange: %.200r", line)
            _kill(child)  # whatever it is doing, nobody hears of it any more
        code = child.returncode
        state = self._state
        if state is not None and not state.is_over and not self._stopping:
            why = f"the step has ended by itself (exit code {code}): see the log, and report it"
            refusal = Refusal(why="failed", text=why)
            self._note(child, state.model_copy(update={"phase": "refused", "refusal": refusal}))

    def _note(self, child: subprocess.Popen[str], state: GuideState) -> None:
        with self._lock:
            if child is not self._child:
                return
            self._state = state
            if state.is_over:
                (self._folder / BEGUN).unlink(missing_ok=True)
                log.info("guide=%s who=%s %s %s", state.what, state.who, state.phase, state.why)


def _interrupted(folder: Path) -> GuideState | None:
    """The step that was at work when the station ended; None where none was."""
    try:
        begun = GuideBegin.model_validate_json(read_bytes(folder / BEGUN, limit=STATE_LIMIT))
    except (EdgeError, OSError, ValidationError):
        return None
    return GuideState(what=begun.what, who=begun.who, phase="ended", why="interrupted")


def _kill(child: subprocess.Popen[str]) -> None:
    """With whatever it has started, such as a camera's process."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
