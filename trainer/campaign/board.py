"""How far a campaign is: a line on the terminal for each job, and a page that renews itself."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge.files import sentence_of, write_atomically, write_json
from trainer.benchmark.result import TRIPLE, triple
from trainer.campaign.plan import RUN, Job
from trainer.pages import page_environment
from trainer.runner.protocol import STOPPING, Outcome, Task
from trainer.runner.work import LOG
from trainer.train.run_folder import REPORT, SUMMARY

PAGE, TABLE = "campaign.html", "campaign.json"
RENEW_S = 5  # the browser reads the page again after this long
WRITE_EVERY_S = 2.0  # and it is not written more often,
WRITE_SHARE = 10.0  # nor in more than a tenth of the head's time
WAITING, HANDED, DONE, FAILED = "waiting", "handed over", "done", "failed"
STOPPED = "not finished"  # after the end: it was handed over, and goes on with the same command
NOTHING = "trained and evaluated, there are no defective parts to compare"
METRICS = ("image_auroc", "pixel_auroc", "aupro_30")


@dataclass
class Row:
    """One job. metrics: I-AUROC, P-AUROC and AUPRO in percent, None where there are none."""

    job: Job
    state: str = WAITING
    outcome: Outcome | None = None
    metrics: tuple[float | None, ...] = (None, None, None)


class Board:
    """See trainer.runner.protocol.Watch. tell: gets the lines. command: that made the campaign."""

    def __init__(
        self, jobs: Sequence[Job], out: Path, command: str, tell: Callable[[str], None]
    ) -> None:
        self.rows = {job.task.place: Row(job) for job in jobs}
        self._out, self._command, self._tell = out, command, tell
        self._next_s = 0.0
        self._is_written = self._is_refused = False

    def already_done(self, job: Job, outcome: Outcome) -> None:
        """By an earlier command."""
        self._done(self.rows[job.task.place], outcome)

    def started(self, task: Task) -> None:
        """See Watch."""
        self.rows[task.place].state = HANDED
        self.write()

    def finished(self, task: Task, outcome: Outcome) -> None:
        """See Watch."""
        row = self.rows[task.place]
        if outcome.code == 0:
            self._done(row, outcome)
            seconds = sum(step.seconds for step in outcome.used)
            shown = triple(row.metrics)
            said = f"{NOTHING if shown == '-' else f'{TRIPLE} {shown}'}, {seconds:.0f} s"
        else:
            row.state, row.outcome = FAILED, outcome
            said = f"failed: {outcome.reason}"
        over = self.count(DONE) + self.count(FAILED)
        self._tell(f"{over} of {len(self.rows)}: {task.name}: {said}")
        if outcome.code != 0:
            for line in outcome.tail:
                self._tell(f"  | {line}")
        self.write()

    def waited(self) -> None:
        """See Watch: what came too soon after the last writing is written now."""
        if not self._is_written:
            self.write()

    def stopping(self, count: int) -> None:
        """See Watch."""
        self._tell(STOPPING.format(count))

    def count(self, state: str) -> int:
        """Jobs in this state."""
        return sum(row.state == state for row in self.rows.values())

    def failed(self) -> list[Job]:
        """Those that failed."""
        return [row.job for row in self.rows.values() if row.state == FAILED]

    def write(self, ended: bool = False) -> None:
        """The page and the table, each atomically. ended: nothing runs any more.

        Where they cannot be written, which is said once, the jobs go on.
        """
        began_s = time.monotonic()
        self._is_written = ended or began_s >= self._next_s
        if not self._is_written:
            return
        if ended:
            for row in self.rows.values():
                row.state = STOPPED if row.state == HANDED else row.state
        try:
            self._write_files(ended)
        except OSError as error:
            if not self._is_refused:
                self._tell(f"the page is out of date: {sentence_of(error)}")
            self._is_refused = True
        else:
            self._is_refused = False
        now_s = time.monotonic()
        self._next_s = now_s + max(WRITE_EVERY_S, WRITE_SHARE * (now_s - began_s))

    def _write_files(self, ended: bool) -> None:
        """Raises: OSError."""
        states = (DONE, FAILED, STOPPED if ended else HANDED, WAITING)
        counts = {state: self.count(state) for state in states}
        when = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
        rows = [_plain(row, self._out) for row in self.rows.values()]
        told = {"command": self._command, "at": when, "ended": ended, "counts": counts}
        write_json(self._out / TABLE, {**told, "jobs": rows})
        page = (
            page_environment(Path(__file__).parent)
            .get_template("campaign.html")
            .render(
                **told, rows=rows, table=self._cells(), columns=self._columns(), renew_s=RENEW_S
            )
        )
        write_atomically(self._out / PAGE, page.encode())

    def _done(self, row: Row, outcome: Outcome) -> None:
        row.state, row.outcome, row.metrics = DONE, outcome, metrics_of(row.job)

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(row.job.column for row in self.rows.values()))

    def _cells(self) -> list[tuple[str, list[str]]]:
        """(product, a cell per column), each the mean over its seeds."""
        of: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows.values():
            of.setdefault((row.job.product, row.job.column), []).append(row)
        columns = self._columns()
        products = dict.fromkeys(product for product, _ in of)
        return [
            (product, [_cell(of.get((product, column), [])) for column in columns])
            for product in products
        ]


def metrics_of(job: Job) -> tuple[float | None, ...]:
    """In percent, of all its test images; None where a product has no defective ones."""
    summary = json.loads((job.landing / RUN / SUMMARY).read_text(encoding="utf-8"))
    overall = summary["rows"][-1] if summary["rows"] else {}
    values = [overall.get(name) for name in METRICS]
    return tuple(None if value is None else 100 * float(value) for value in values)


def _cell(rows: Sequence[Row]) -> str:
    done = [row for row in rows if row.state == DONE]
    states = [row.state for row in rows if row.state != DONE]
    if not done:
        return ", ".join(dict.fromkeys(states)) or "-"
    means = tuple(_mean([row.metrics[number] for row in done]) for number in range(len(METRICS)))
    if not states:
        return triple(means)
    failed = f", {states.count(FAILED)} failed" if FAILED in states else ""
    return f"{triple(means)} ({len(done)} of {len(rows)} seeds{failed})"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _plain(row: Row, out: Path) -> dict[str, object]:
    """For JSON and the page."""
    used = row.outcome.used if row.outcome else ()
    folder = row.job.landing if row.state == DONE else row.job.task.place
    shown_in = {DONE: folder / RUN / REPORT, WAITING: None}.get(row.state, folder / LOG)
    return {
        "name": row.job.task.name,
        "product": row.job.product,
        "column": row.job.column,
        "seed": row.job.seed,
        "state": row.state,
        "ended": row.state in (DONE, FAILED),
        "metrics": list(row.metrics),
        "shown": triple(row.metrics),
        "seconds": sum(step.seconds for step in used),
        "cpu_s": sum(step.cpu_s for step in used),
        "peak_mb": max((step.peak_mb for step in used), default=0.0),
        "machine": row.outcome.machine if row.outcome else "",
        "reason": row.outcome.reason if row.outcome else "",
        "tail": list(row.outcome.tail) if row.outcome else [],
        "folder": str(folder.relative_to(out)),
        "opens": str(shown_in.relative_to(out)) if shown_in else "",
    }
