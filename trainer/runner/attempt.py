"""One attempt at a task on another machine, as a cluster calls it."""

from __future__ import annotations

from pathlib import Path

from trainer.runner.step import Step
from trainer.runner.work import LOG


def attempt(place: str) -> int:
    """Run the task in `place`, in a process that ends with this one.

    Returns: the exit code; the folder tells more.
    """
    step = Step(["-m", "trainer.runner", place], Path(place) / LOG)
    try:
        return step.wait()[0]
    except BaseException:  # the cluster wants it to end
        step.interrupt()
        step.process.wait()
        raise
