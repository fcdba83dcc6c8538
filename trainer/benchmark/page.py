"""benchmark.md, benchmark.json and benchmark.html of the results there are so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from edge.files import write_atomically, write_json
from trainer.benchmark.plan import Job
from trainer.benchmark.result import Result
from trainer.benchmark.tables import markdown, tables
from trainer.evaluate.report import charts
from trainer.pages import page_environment


def write_pages(out: Path, results: Mapping[Job, Result], planned: int, command: str) -> None:
    """Write all three, each atomically.

    Args:
        planned: how many runs there will be. command: that made them, so that they can be repeated.
    """
    made = tables(results)
    when = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    state = f"{len(results)} of {planned} runs"
    lines = ["# Benchmark", "", f"`{command}`, {state}, {when}.", "", *markdown(made)]
    write_atomically(out / "benchmark.md", ("\n".join(lines).rstrip() + "\n").encode())
    rows = [{**_job(job), **asdict(result)} for job, result in results.items()]
    write_json(
        out / "benchmark.json", {"command": command, "planned": planned, "at": when, "runs": rows}
    )
    page = (
        page_environment(Path(__file__).parent)
        .get_template("benchmark.html")
        .render(tables=made, command=command, state=state, when=when, plots=_plots(results))
    )
    write_atomically(out / "benchmark.html", page.encode())


def _job(job: Job) -> dict[str, object]:
    names = ("data", "category", "layout", "with_depth", "system", "preset", "seed", "epochs")
    return {name: getattr(job, name) for name in names}


def _plots(results: Mapping[Job, Result]) -> list[tuple[str, str]]:
    """(title, drawing): image AUROC and AUPRO per product, each the mean over its seeds; accuracy
    against speed over all.
    """
    plots = []
    for name, title in (("image_auroc", "I-AUROC, %"), ("aupro", "AUPRO, %")):
        points = means_by_product(results, name)
        if points:
            plots.append((f"{title}, mean of the seeds", charts.dots(name, points, title)))
    speed = {
        system: [
            (result.frames_per_s, result.image_auroc)
            for job, result in results.items()
            if job.system == system
            and result.frames_per_s is not None
            and result.image_auroc is not None
        ]
        for system in dict.fromkeys(job.system for job in results)
    }
    if any(speed.values()):
        title = "I-AUROC of every run against speed"
        plots.append((title, charts.cloud("speed", speed, "frames/s", "I-AUROC, %")))
    return plots


def means_by_product(
    results: Mapping[Job, Result], name: str
) -> dict[str, list[tuple[str, float]]]:
    """(system, mean over its seeds) by product; without those that have no such metric."""
    found: dict[tuple[str, str], list[float]] = {}
    for job, result in results.items():
        value = getattr(result, name)
        if value is not None:
            product = job.category if job.data == job.category else f"{job.data}/{job.category}"
            shown = product + ("" if job.with_depth else " color")
            found.setdefault((shown, job.system), []).append(value)
    means: dict[str, list[tuple[str, float]]] = {}
    for (product, system), values in found.items():
        means.setdefault(product, []).append((system, sum(values) / len(values)))
    return means
