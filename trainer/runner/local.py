"""Jobs on this machine: a process and a core or a graphics card for each, memory respected."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from edge.errors import ConfigError
from trainer.runner.memory import Memory, taken_mb
from trainer.runner.protocol import ATTEMPTS, Task, Watch
from trainer.runner.step import Step, environment_of
from trainer.runner.work import LOG, hand_out, outcome_of

LOOK_EVERY_S = 0.1
TRY_EVERY_S = 1.0  # whether more fits into memory: other programs give some back, too


@dataclass
class _Job:
    """A task on its way. alone: nothing else may run beside it. gpu: the card that it sees."""

    task: Task
    attempt: int = 1
    alone: bool = False
    gpu: str | None = None
    step: Step | None = None

    def memory_mb(self) -> float:
        """What its processes take now."""
        return 0.0 if self.step is None else taken_mb(self.step.process.pid)


class LocalRunner:
    """See Runner. slots: most jobs at once; None: one for each card, or for each core."""

    def __init__(self, slots: int | None = None, memory: Memory | None = None) -> None:
        self._slots = slots
        self._memory = memory or Memory()

    def run(self, tasks: Sequence[Task], watch: Watch) -> None:
        """See Runner."""
        waiting = deque(_Job(task) for task in tasks)
        running: list[_Job] = []
        gpus = _gpus_for(tasks)
        slots = self._slots_for(tasks, gpus)
        tried_s = 0.0
        try:
            while waiting or running:
                ended = [job for job in running if job.step and job.step.has_ended()]
                for job in ended:
                    running.remove(job)
                    self._end(job, waiting, watch)
                if ended or time.monotonic() - tried_s > TRY_EVERY_S:
                    self._start_what_fits(waiting, running, slots, gpus, watch)
                    tried_s = time.monotonic()
                watch.waited()
                time.sleep(LOOK_EVERY_S)
        except BaseException as error:
            if running and isinstance(error, KeyboardInterrupt):
                watch.stopping(len(running))
            _interrupt(running)
            raise

    def _slots_for(self, tasks: Sequence[Task], gpus: Sequence[str]) -> int:
        if gpus:
            return min(self._slots or len(gpus), len(gpus))
        threads = max((task.threads for task in tasks), default=1)
        return self._slots or max(1, len(os.sched_getaffinity(0)) // threads)

    def _start_what_fits(
        self,
        waiting: deque[_Job],
        running: list[_Job],
        slots: int,
        gpus: Sequence[str],
        watch: Watch,
    ) -> None:
        """In order, but a task that does not fit lets one of another kind pass."""
        taken = [(one.task, one.memory_mb()) for one in running]
        refused: set[str] = set()
        for job in list(waiting):
            if len(running) >= slots:
                return
            if job.task.kind in refused or not self._fits(job, running, taken):
                refused.add(job.task.kind)
                continue
            waiting.remove(job)
            if job.task.gpus:
                job.gpu = next(gpu for gpu in gpus if all(gpu != other.gpu for other in running))
            _start(job)
            running.append(job)
            taken.append((job.task, 0.0))
            watch.started(job.task)

    def _fits(
        self, job: _Job, running: Sequence[_Job], taken: Sequence[tuple[Task, float]]
    ) -> bool:
        if running and (job.alone or any(other.alone for other in running)):
            return False
        return self._memory.fits(job.task, taken)

    def _end(self, job: _Job, waiting: deque[_Job], watch: Watch) -> None:
        """Learn its peak; then it is finished, or waits for its next attempt."""
        assert job.step is not None
        outcome = outcome_of(job.task, job.step.wait()[0])
        if outcome.peak_mb:
            self._memory.learn(job.task.kind, outcome.peak_mb)
        if outcome.code == 0 or job.attempt == ATTEMPTS:
            watch.finished(job.task, outcome)
            return
        alone = outcome.code == -signal.SIGKILL  # perhaps for want of memory
        waiting.appendleft(_Job(job.task, job.attempt + 1, alone))


def _start(job: _Job) -> None:
    hand_out(job.task)
    arguments = ["-m", "trainer.runner", str(job.task.place)]
    environment = environment_of(job.task.threads, job.gpu)
    job.step = Step(arguments, job.task.place / LOG, environment)


def _interrupt(running: Sequence[_Job]) -> None:
    """End all, with their checkpoints."""
    steps = [job.step for job in running if job.step is not None]
    for step in steps:
        with suppress(ProcessLookupError):
            step.interrupt()
    for step in steps:
        step.wait()


def _gpus_for(tasks: Sequence[Task]) -> list[str]:
    """Cards for tasks that need one, as CUDA_VISIBLE_DEVICES names them. Raises: ConfigError."""
    if not any(task.gpus for task in tasks):
        return []
    if any(task.gpus > 1 for task in tasks):
        raise ConfigError("a job takes one graphics card: no system trains on several")
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = _listed() if named is None else [name for name in named.split(",") if name.strip()]
    if not gpus:
        raise ConfigError("jobs with device cuda: no graphics card is seen here, see nvidia-smi")
    return gpus


def _listed() -> list[str]:
    """Numbers of the cards that the driver knows."""
    if shutil.which("nvidia-smi") is None:
        return []
    told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    lines = [line for line in told.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))]
