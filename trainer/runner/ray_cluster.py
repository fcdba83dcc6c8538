"""Jobs on a Ray cluster: Ray knows which machine is free, and runs a lost machine's jobs elsewhere.

Only the path of the job's folder goes over the wire. Every machine has this package installed and
sees the folder under the same path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from edge.errors import ConfigError
from edge.optional import optional_module
from trainer.runner.attempt import attempt
from trainer.runner.protocol import ATTEMPTS, Outcome, Task, Watch
from trainer.runner.work import LOG, hand_out, outcome_of, tail_of

REMEDY = "Install it: pip install 'rgbd-inspection[ray]'"
LOST_MACHINES = 3  # that one job survives, besides its own attempts
LOOK_EVERY_S = 1.0
OBJECTS_BYTES = 80 << 20  # of a cluster that is started here: nothing large ever lies in it


class RayRunner:
    """See Runner. address: `local` starts a cluster on this machine, `auto` is the one that this
    machine is a node of, `HOST:PORT` that of a Ray client server, usually port 10001.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def run(self, tasks: Sequence[Task], watch: Watch) -> None:
        """See Runner."""
        ray = optional_module("ray", REMEDY)
        with _connected(ray, self._address):
            flying: dict[Any, tuple[Task, int]] = {}
            for task in tasks:
                flying[_submit(ray, task)] = (task, 1)
                watch.started(task)
            while flying:
                ended, _ = ray.wait(list(flying), num_returns=1, timeout=LOOK_EVERY_S)
                for reference in ended:
                    task, number = flying.pop(reference)
                    outcome = _outcome(ray, task, reference)
                    if outcome.code == 0 or number == ATTEMPTS:
                        watch.finished(task, outcome)
                    else:
                        flying[_submit(ray, task)] = (task, number + 1)
                watch.waited()


def _submit(ray: ModuleType, task: Task) -> Any:
    hand_out(task)
    needs: dict[str, Any] = {"num_cpus": task.threads, "num_gpus": task.gpus, "name": task.name}
    if task.memory_mb is not None:
        needs["memory"] = task.memory_mb << 20
    remote = ray.remote(attempt).options(max_retries=LOST_MACHINES, **needs)
    return remote.remote(str(task.place))


def _outcome(ray: ModuleType, task: Task, reference: Any) -> Outcome:
    """How one submission ended."""
    try:
        code = ray.get(reference)
    except ray.exceptions.RayError as error:
        reason = f"Ray gave it up: {' '.join(str(error).split())[:200]}"
        return Outcome(code=1, reason=reason, tail=tail_of(task.place / LOG))
    return outcome_of(task, code)


@contextmanager
def _connected(ray: ModuleType, address: str) -> Iterator[None]:
    """Raises: ConfigError if the cluster cannot be reached."""
    try:
        if address == "local":
            quiet = {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES}
            ray.init("local", log_to_driver=False, logging_level="ERROR", **quiet)
        else:
            named = address if address == "auto" else f"ray://{address}"
            ray.init(named, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, OSError, RuntimeError, ValueError, ImportError) as error:
        why = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"--runner ray://{address}: no Ray cluster answers ({why}): check `ray status` there,"
            " and that both have the same Ray and Python"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()
