"""`edge calibrate` as a child of the running station, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from edge.camera.process import PACKAGES, child_environment
from edge.errors import CalibrationError, on_one_line

LIMIT_S = 1800.0  # opening an engine may take minutes, and parts are shown by hand
LOOK_S = 0.1
COMMAND = (sys.executable, "-m", "edge", "calibrate")
REFUSED = "edge: "  # how the command line begins the sentence of a refusal
SAVED = "saved"  # the line of its report that says what was kept


def calibrate(
    root: Path, words: Sequence[str], stopping: threading.Event, moved: Callable[[], None]
) -> str:
    """Run `edge calibrate WORDS` and wait for its end.

    Args:
        stopping: ends it. moved: called several times a second, for the watchdog.
    Returns: what was saved. Raises: CalibrationError, with the sentence of the command.
    """
    child = subprocess.Popen(
        [*COMMAND, *words, "--root", str(root.absolute())],
        cwd=PACKAGES,
        env=child_environment(),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    end_s = time.monotonic() + LIMIT_S
    while True:
        with suppress(subprocess.TimeoutExpired):
            said, complained = child.communicate(timeout=LOOK_S)
            break
        moved()
        if stopping.is_set() or time.monotonic() > end_s:
            _kill(child)
    if child.returncode == 0:
        return _line(said, SAVED) or "done"
    why = _line(complained, REFUSED).removeprefix(REFUSED)
    raise CalibrationError(why or _how_it_ended(child.returncode, complained))


def _kill(child: subprocess.Popen[str]) -> None:
    """With whatever it has started, such as a camera's process."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _how_it_ended(code: int, complained: str) -> str:
    """Without a sentence of its own: it was killed here, or is broken."""
    if code < 0:
        return f"`edge calibrate` was ended by {signal.Signals(-code).name}"
    *_, last = complained.strip().splitlines() or [""]
    return f"`edge calibrate` failed ({on_one_line(last)}): report it"


def _line(text: str, begin: str) -> str:
    """The last line that begins so, with single spaces; empty where there is none."""
    lines = [line for line in text.splitlines() if line.startswith(begin)]
    return on_one_line(" ".join(lines[-1].split())) if lines else ""
