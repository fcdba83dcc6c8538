"""Jobs under SLURM, as job arrays by submitit.

SLURM's queue decides where and when. A preempted job is queued again and goes on from its
checkpoint. A head that ends leaves its jobs in the queue; the next head finds what they have done.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from edge.errors import ConfigError
from edge.optional import optional_module
from trainer.runner.attempt import attempt
from trainer.runner.protocol import ATTEMPTS, Outcome, Task, Watch
from trainer.runner.work import hand_out, outcome_of

REMEDY = "Install it: pip install 'rgbd-inspection[slurm]'"
LOOK_EVERY_S = 1.0
FOLDER = "slurm"  # below the output folder: submitit's own files and SLURM's logs
JOBS = 1000  # in the queue at once; SLURM's own limit of an array is usually 1001
OPTIONS = {
    "gpus": "cards of a job",
    "minutes": "time limit of a job",
    "memory_gb": "memory of a job",
    "jobs": "most jobs in the queue at once",
    "account": "whom SLURM bills",
    "executor": "slurm, or submitit's own on this machine: local",
}


class SubmittedAttempt:
    """What SLURM runs. submitit calls `checkpoint` when the job is preempted or out of time."""

    def __call__(self, place: str) -> int:
        """See attempt."""
        return attempt(place)

    def checkpoint(self, place: str) -> Any:
        """The same again, queued: training goes on from its own checkpoint."""
        helpers = optional_module("submitit.helpers", REMEDY)
        return helpers.DelayedSubmission(self, place)


class SlurmRunner:
    """See Runner.

    text: `PARTITION?gpus=1&minutes=600`. out: the folder that all machines share.
    Raises: ConfigError for an unknown option.
    """

    def __init__(self, text: str, out: Path) -> None:
        self._partition, _, asked = text.partition("?")
        self._options = _options(text, asked)
        self._folder = out / FOLDER

    def run(self, tasks: Sequence[Task], watch: Watch) -> None:
        """See Runner."""
        waiting = deque((task, 1) for task in tasks)
        flying: dict[Any, tuple[Task, int]] = {}
        most = int(self._options.get("jobs", JOBS))
        executor = self._executor(tasks)
        while waiting or flying:
            if waiting and len(flying) <= most // 2:
                count = min(len(waiting), most - len(flying))
                batch = [waiting.popleft() for _ in range(count)]
                flying.update(zip(_submit(executor, batch), batch, strict=True))
                for task, number in batch:
                    if number == 1:
                        watch.started(task)
            for job in [one for one in flying if one.done()]:
                task, number = flying.pop(job)
                outcome = _outcome(task, job)
                if outcome.code == 0 or number == ATTEMPTS:
                    watch.finished(task, outcome)
                else:
                    waiting.append((task, number + 1))
            watch.waited()
            time.sleep(LOOK_EVERY_S)

    def _executor(self, tasks: Sequence[Task]) -> Any:
        """Raises: MissingDependency, ConfigError."""
        submitit = optional_module("submitit", REMEDY)
        kind = self._options.get("executor", "slurm")
        if kind == "slurm" and shutil.which("sbatch") is None:
            raise ConfigError(
                f"--runner slurm://{self._partition}: there is no sbatch here: give the command on"
                " a login node of the cluster"
            )
        executor = submitit.AutoExecutor(folder=str(self._folder), cluster=kind)
        threads = max((task.threads for task in tasks), default=1)
        executor.update_parameters(**_parameters(self._partition, self._options, threads))
        return executor


def _parameters(partition: str, options: Mapping[str, str], threads: int) -> dict[str, Any]:
    """As submitit names them."""
    given: dict[str, Any] = {
        "name": "trainer",
        "cpus_per_task": threads,
        "gpus_per_node": int(options.get("gpus", 0)),
        "timeout_min": int(options.get("minutes", 24 * 60)),
        "slurm_partition": partition,
        "slurm_array_parallelism": int(options.get("jobs", JOBS)),
    }
    if "memory_gb" in options:
        given["mem_gb"] = int(options["memory_gb"])
    if "account" in options:
        given["slurm_account"] = options["account"]
    return given


def _options(text: str, asked: str) -> dict[str, str]:
    """Raises: ConfigError."""
    options = dict(parse_qsl(asked, keep_blank_values=True))
    for name, value in options.items():
        if name not in OPTIONS:
            known = ", ".join(f"{key} ({what})" for key, what in OPTIONS.items())
            raise ConfigError(f"--runner slurm://{text}: no option {name!r}: there are {known}")
        if name == "executor":
            if value not in ("slurm", "local"):
                raise ConfigError(f"--runner slurm://{text}: executor is slurm or local")
        elif name != "account" and (not value.isdecimal() or (name != "gpus" and not int(value))):
            raise ConfigError(f"--runner slurm://{text}: {name}={value!r} is no whole number")
    return options


def _submit(executor: Any, batch: Sequence[tuple[Task, int]]) -> list[Any]:
    """One array."""
    for task, _ in batch:
        hand_out(task)
    with executor.batch():
        return [executor.submit(SubmittedAttempt(), str(task.place)) for task, _ in batch]


def _outcome(task: Task, job: Any) -> Outcome:
    """How one submission ended; SLURM may have killed it."""
    error = job.exception()
    if error is None:
        return outcome_of(task, job.result())
    found = outcome_of(task, 1)
    if found.code == 0:
        return found
    last = " ".join(str(error).split())[-200:]
    return found.model_copy(update={"reason": f"SLURM ended it: {last}"})
