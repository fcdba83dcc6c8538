"""What happens where a task runs: its steps, one after the other, in its folder.

A step that has succeeded is never repeated; a training that was interrupted goes on from its
checkpoint. Whoever is killed here leaves a folder that the next attempt goes on with.
"""

from __future__ import annotations

import json
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from edge.errors import BusyError
from edge.files import remove_tree, sync_directory, write_atomically, write_json
from edge.station.lock import locked
from trainer.runner.protocol import Outcome, Task, Used
from trainer.runner.step import Step, environment_of

TASK, LOG, STEPS, OUTCOME = "task.json", "task.log", "steps.json", "outcome.json"
DONE = "done.json"  # in a folder that has landed: what was run, on which inputs, what it took
LOCK = "work.lock"
SCRATCH = "scratch"  # of a task, for what is of no use afterwards
TAIL_LINES, TAIL_BYTES = 20, 16384
COMMAND = "$ python "  # begins the line of a log that says what runs from there on
ASK_AGAIN_S = 0.5


def hand_out(task: Task) -> None:
    """Write the task into its place, where `work` reads it."""
    task.place.mkdir(parents=True, exist_ok=True)
    write_atomically(task.place / TASK, task.model_dump_json(indent=1).encode())
    (task.place / OUTCOME).unlink(missing_ok=True)


def work(place: Path) -> Outcome:
    """Run what is left of the task in `place`.

    Another process that works on it, on whatever machine, is waited for.
    Returns: how it ended, which is also in the folder.
    """
    with ExitStack() as stack:
        try:
            task = Task.model_validate_json((place / TASK).read_bytes())
            _take(stack, task)
        except FileNotFoundError:  # it has landed meanwhile
            return Outcome(code=0)
        outcome = _run_steps(task)
        if outcome.code == 0 and task.landing is not None:
            _land(task, task.landing, outcome)
        else:
            write_json(place / OUTCOME, outcome.model_dump())
        return outcome


def _take(stack: ExitStack, task: Task) -> None:
    """Wait for the lock of the task's place. Raises: FileNotFoundError if it has landed."""
    while True:
        if not task.place.is_dir():
            raise FileNotFoundError(task.place)
        try:
            stack.enter_context(locked(task.place, LOCK, "a task"))
        except BusyError:
            time.sleep(ASK_AGAIN_S)
            continue
        landed = task.landing is not None and (task.landing / DONE).is_file()
        if landed or not (task.place / TASK).is_file():  # meanwhile
            remove_tree(task.place)
            raise FileNotFoundError(task.place)
        (task.place / OUTCOME).unlink(missing_ok=True)
        return


def _run_steps(task: Task) -> Outcome:
    used = _steps_done(task)
    for arguments in task.steps[len(used) :]:
        code, taken = _run_step(task, arguments)
        if code != 0:
            reason, tail = why(task.place, code)
            return Outcome(
                code=code, reason=reason, tail=tail, used=(*used, taken), machine=_machine()
            )
        used = (*used, taken)
        write_json(task.place / STEPS, [step.model_dump() for step in used])
    return Outcome(code=0, used=used, machine=_machine())


def _steps_done(task: Task) -> tuple[Used, ...]:
    """Those of earlier attempts. A task that lands nowhere begins anew."""
    path = task.place / STEPS
    if task.landing is None or not path.is_file():
        return ()
    return tuple(Used(**step) for step in json.loads(path.read_text(encoding="utf-8")))


def _run_step(task: Task, arguments: tuple[str, ...]) -> tuple[int, Used]:
    log = task.place / LOG
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{COMMAND}{shlex.join(arguments)}\n")
    step = Step(arguments, log, environment_of(task.threads))
    with _interrupts(step):
        return step.wait()


@contextmanager
def _interrupts(step: Step) -> Iterator[None]:
    """SIGINT and SIGTERM go to the step, which then ends in its own way."""

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            step.interrupt()

    former = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _land(task: Task, landing: Path, outcome: Outcome) -> None:
    """Write the done-marker and give the folder its name, at once and durably."""
    for name in (STEPS, OUTCOME):
        (task.place / name).unlink(missing_ok=True)
    remove_tree(task.place / SCRATCH)
    when = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    marker = {**task.record, **outcome.model_dump(include={"used", "machine"}), "at": when}
    write_json(task.place / DONE, {"kind": task.kind, **marker})
    task.place.rename(landing)
    sync_directory(landing.parent)


def why(place: Path, code: int) -> tuple[str, tuple[str, ...]]:
    """(one sentence, last lines of the log) for a task that ended with this code."""
    tail = tail_of(place / LOG)
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
        memory = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
        return f"killed by {name}{memory}", tail
    last = tail[-1] if tail else "nothing in its log"
    return f"{last.removeprefix('trainer: ')} (exit code {code})", tail


def tail_of(log: Path) -> tuple[str, ...]:
    """The last lines of a log, of its last command; none without one."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    commands = [number for number, line in enumerate(lines) if line.startswith(COMMAND)]
    return tuple(lines[commands[-1] if commands else 0 :][-TAIL_LINES:])


def outcome_of(task: Task, code: int) -> Outcome:
    """Of a task whose process ended with `code`, as its folder tells."""
    if task.landing is not None and (task.landing / DONE).is_file():
        return read_done(task.landing)
    try:
        return Outcome.model_validate_json((task.place / OUTCOME).read_bytes())
    except (OSError, ValueError):  # the process was killed before it could write one
        reason, tail = why(task.place, code or 1)
        return Outcome(code=code or 1, reason=reason, tail=tail)


def read_done(folder: Path) -> Outcome:
    """Of a folder that has landed. Raises: OSError, ValueError."""
    marker = json.loads((folder / DONE).read_text(encoding="utf-8"))
    return Outcome(code=0, used=marker["used"], machine=marker["machine"])


def _machine() -> str:
    return platform.node()


def main() -> None:
    """The process of one task: `python -m trainer.runner PLACE`."""
    code = work(Path(sys.argv[1])).code
    sys.exit(code if code >= 0 else 128 - code)
