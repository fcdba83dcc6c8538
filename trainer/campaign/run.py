"""Hand out what is left of a campaign."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge.errors import DataError
from trainer.campaign.board import PAGE, Board
from trainer.campaign.plan import Job
from trainer.runner.head import only_head
from trainer.runner.protocol import STOPPED, Outcome, Runner
from trainer.runner.work import DONE, read_done


def run_campaign(
    jobs: Sequence[Job], out: Path, runner: Runner, command: str, tell: Callable[[str], None]
) -> None:
    """Run every job that has not landed yet; page and table are written as it goes.

    command: as it was typed. Raises: BusyError for a second head, DataError if jobs failed.
    """
    with only_head(out, "trainer campaign"):
        board = Board(jobs, out, command, tell)
        left = []
        peaks: dict[str, float] = {}
        for job in jobs:
            outcome = _landed(job)
            if outcome is None:
                left.append(job)
                continue
            board.already_done(job, outcome)
            peaks[job.task.kind] = max(outcome.peak_mb, peaks.get(job.task.kind, 0.0))
        tell(
            f"{len(jobs) - len(left)} of {len(jobs)} jobs are done, {len(left)} are left; open"
            f" {out / PAGE} in a browser to see how far they are"
        )
        board.write()
        try:
            runner.run([_with_peak(job, peaks).task for job in left], board)
        except KeyboardInterrupt:
            tell(STOPPED)
            raise
        finally:
            board.write(ended=True)
        if failed := board.failed():
            raise DataError(
                f"{len(failed)} of {len(jobs)} jobs failed, the first is {failed[0].task.name}:"
                f" {out / PAGE} says why; the same command tries them again"
            )


def _landed(job: Job) -> Outcome | None:
    """How an earlier command has done it; None if none has."""
    return read_done(job.landing) if (job.landing / DONE).is_file() else None


def _with_peak(job: Job, peaks: dict[str, float]) -> Job:
    """The job with the peak that was measured of its kind, where the file names none."""
    task = job.task
    if task.memory_mb is not None or task.kind not in peaks:
        return job
    expected = task.model_copy(update={"memory_mb": round(peaks[task.kind])})
    return Job(job.product, job.column, job.seed, expected)
