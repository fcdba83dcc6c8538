"""A check in a process of its own, so that one that crashes or hangs takes none of the others."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from edge.files import write_atomically
from trainer.gpu_check.bench import Bench, CheckFailed, NotExecuted
from trainer.gpu_check.checks import Check
from trainer.gpu_check.report import CheckResult, Outcome

TAIL = 200  # characters of what a crashed check said last


def execute(check: Check, bench: Bench) -> CheckResult:
    """Run a check here; any other error than its own is a failure, too."""
    start_s = time.monotonic()
    outcome: Outcome
    numbers: dict[str, float] = {}
    try:
        done = check.act(bench)
        outcome, said, numbers = "passed", done.said, dict(done.numbers)
    except NotExecuted as error:
        outcome, said = "not executed", str(error)
    except CheckFailed as error:
        outcome, said = "failed", str(error)
    except Exception as error:  # noqa: BLE001 - a library of a GPU may raise anything
        outcome, said = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    seconds = time.monotonic() - start_s
    return CheckResult(
        name=check.name, outcome=outcome, said=said, seconds=seconds, numbers=numbers
    )


def command_of(check: Check, bench: Bench, answer: Path) -> list[str]:
    """The child's command; it writes its result to `answer`."""
    words = ["--check", check.name, "--work", str(bench.folder), "--answer", str(answer)]
    return [sys.executable, "-m", "trainer.gpu_check", *words, "--device", bench.device]


def answer_with(result: CheckResult, answer: Path) -> None:
    """In the child: hand the result to its parent."""
    write_atomically(answer, result.model_dump_json().encode())


def in_child(check: Check, command: Sequence[str], answer: Path, left_s: float) -> CheckResult:
    """Run the child and read its answer. left_s: of the whole time, above which nothing may take.

    Its output goes to files beside the answer.
    """
    limit_s, start_s = min(check.limit_s, left_s), time.monotonic()
    with answer.with_suffix(".log").open("wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return _stopped(check, limit_s)
        finally:
            _end(child)
    seconds = time.monotonic() - start_s
    try:
        return CheckResult.model_validate_json(answer.read_bytes())
    except (OSError, ValidationError):
        said = _crash(child.returncode, answer.with_suffix(".log"))
    return CheckResult(name=check.name, outcome="failed", said=said, seconds=seconds)


def _stopped(check: Check, limit_s: float) -> CheckResult:
    """It hung, or there was less time left than it may take."""
    if limit_s < check.limit_s:
        said = f"no time left: stopped after {limit_s:.0f} s"
        return CheckResult(name=check.name, outcome="not executed", said=said, seconds=limit_s)
    said = f"it did not end within {limit_s:.0f} s"
    return CheckResult(name=check.name, outcome="failed", said=said, seconds=limit_s)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and whatever it has started."""
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _crash(code: int, log: Path) -> str:
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    tail = " ".join(log.read_text("utf-8", "replace").split())[-TAIL:]
    return f"it crashed ({how})" + (f": {tail}" if tail else "")
