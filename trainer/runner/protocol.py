"""What a runner is given, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel

ATTEMPTS = 2  # a job that dies is tried once more
STOPPING = (
    "stopping: {} running, each ends after its epoch with a checkpoint; press Ctrl-C again to stop"
    " at once"
)
STOPPED = "stopped: the same command goes on from here"


class Task(BaseModel, frozen=True, extra="forbid"):
    """One job: commands that run one after the other, and the folder that they fill.

    Every path is absolute and means the same on each machine.

    name: for people. kind: tasks of one kind need about the same memory. steps: arguments of
    Python, such as `-m trainer train ...`; every machine has its own interpreter. place: folder of
    the task, with its log. landing: what `place` is renamed to when every step has succeeded, which
    is when the job is done; None: it stays, and whoever made the task knows what done means.
    record: what the done-marker says besides, commands and hashes of inputs.
    threads: of each step, whoever else computes on the machine: sums depend on it. gpus: cards that
    the job needs for itself. memory_mb: expected peak in MiB; None: unknown.
    """

    name: str
    kind: str
    steps: tuple[tuple[str, ...], ...]
    place: Path
    landing: Path | None = None
    record: dict[str, object] = {}
    threads: int = 1
    gpus: int = 0
    memory_mb: int | None = None


class Used(BaseModel, frozen=True):
    """What one step took.

    seconds: on the clock. cpu_s: of the processor, children included. peak_mb: most memory of one
    process, in MiB. read_mb, written_mb: passed to the operating system, in MiB, cached or not.
    """

    seconds: float
    cpu_s: float
    peak_mb: float
    read_mb: float
    written_mb: float


class Outcome(BaseModel, frozen=True):
    """How a task ended.

    code: 0: every step succeeded; negative: minus the signal that ended it. reason: why not, in one
    sentence. tail: last lines of its log. used: by step, of those that succeeded and the one that
    did not. machine: where.
    """

    code: int
    reason: str = ""
    tail: tuple[str, ...] = ()
    used: tuple[Used, ...] = ()
    machine: str = ""

    @property
    def peak_mb(self) -> float:
        """Most memory of one process of the task, in MiB; 0 where nothing was measured."""
        return max((step.peak_mb for step in self.used), default=0.0)


class Watch(Protocol):
    """Whom a runner tells; all are called in the runner's own thread."""

    def started(self, task: Task) -> None:
        """The task was handed over: it runs, or stands in the cluster's queue."""

    def finished(self, task: Task, outcome: Outcome) -> None:
        """It is done, or has failed in its last attempt."""

    def waited(self) -> None:
        """Time has passed, a few seconds at most: a runner looks again at what it handed over."""

    def stopping(self, count: int) -> None:
        """After Ctrl-C: so many tasks of this machine are asked to end, which is waited for."""


class Runner(Protocol):
    """Runs tasks somewhere."""

    def run(self, tasks: Sequence[Task], watch: Watch) -> None:
        """Run every task, each at most ATTEMPTS times, and return when none is left.

        Raises: MissingDependency without the cluster's library, ConfigError if the cluster cannot
        be reached, KeyboardInterrupt after Ctrl-C, once the trainings that run on this machine have
        written their checkpoints.
        """
