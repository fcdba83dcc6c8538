"""Results as the papers print them: a row per category and their mean, I-AUROC / P-AUROC / AUPRO
per system; then what each system costs, and every run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.benchmark.plan import Job
from trainer.benchmark.published import Published, known_set, published_rows
from trainer.benchmark.result import TRIPLE, Result, triple
from trainer.evaluate.rows import GROUPS

METRICS = ("image_auroc", "pixel_auroc", "aupro")
Results = Mapping[Job, Result]
Row = list[str]


@dataclass(frozen=True)
class Table:
    """One table: a title, its columns' names, its rows, all as text."""

    title: str
    columns: Row
    rows: list[Row]
    note: str = ""


def tables(results: Results) -> list[Table]:
    """Per data set: means over the seeds, groups of synthetic defects, costs, every run, and what
    the papers publish.
    """
    made = []
    for data, with_depth in _kinds(results):
        chosen = {
            job: result
            for job, result in results.items()
            if (job.data, job.with_depth) == (data, with_depth)
        }
        title = data if with_depth or not _has_depth(results, data) else f"{data}, color only"
        made.append(means(title, chosen))
        if any(result.groups for result in chosen.values()):
            made.append(by_group(title, chosen))
        made += [costs(title, chosen), every_run(title, chosen), *published(title, chosen)]
    return made


def means(title: str, results: Results) -> Table:
    """Rows: categories and, of several, their mean; a column per system.

    Metrics are means over the seeds that have a result.
    """
    systems, categories = _systems(results), _categories(results)
    wanted = len({job.seed for job in results})
    rows = []
    for category in categories:
        found = [_of(results, system, category) for system in systems]
        rows.append([category, *(_mean_cell(of_system, wanted) for of_system in found)])
    if len(categories) > 1:
        rows.append(["**mean**", *(_mean_of_means(results, system) for system in systems)])
    seeds = ", ".join(str(seed) for seed in sorted({job.seed for job in results}))
    note = f"{TRIPLE} in percent, mean of seeds {seeds}."
    return Table(title, ["category", *systems], rows, note)


def costs(title: str, results: Results) -> Table:
    """A row per system: means over its runs."""
    rows = []
    for system in _systems(results):
        good = [result for result in _of(results, system) if not result.error]
        millions = [None if one.parameters is None else one.parameters / 1e6 for one in good]
        seconds, speed = [one.seconds for one in good], [one.frames_per_s for one in good]
        rows.append([system, _number(seconds, 0), _number(millions), _number(speed)])
    return Table(
        f"{title}: costs",
        ["system", "training, s", "parameters, million", "frames/s"],
        rows,
        "Means over all runs. Parameters: backbone included. frames/s: the deployed graph in"
        " float32 torch on this machine.",
    )


def every_run(title: str, results: Results) -> Table:
    """A row per run; a failed one says why."""
    rows = []
    for job, result in results.items():
        values = "failed" if result.error else triple([getattr(result, name) for name in METRICS])
        seconds = _number([result.seconds], 0)
        remark = result.error or result.machine
        rows.append([job.category, job.system, str(job.seed), values, seconds, remark])
    columns = ["category", "system", "seed", TRIPLE, "training, s", "ran on, or why it failed"]
    return Table(f"{title}: every run", columns, rows)


def by_group(title: str, results: Results) -> Table:
    """Image AUROC per group of synthetic defects, mean over categories and seeds."""
    systems = _systems(results)
    occurring = {name for result in results.values() for name in result.groups or {}}
    names = [name for name in GROUPS if name in occurring]
    rows = []
    for name in names:
        row = [name]
        for system in systems:
            row.append(
                _number(
                    (r.groups or {}).get(name) for job, r in results.items() if job.system == system
                )
            )
        rows.append(row)
    note = (
        "I-AUROC of the defects that change only height (relief), only color, or both; material: of"
        " absent, extra and displaced material; logical: of normal elements in the wrong places."
    )
    return Table(f"{title}: by group of defects", ["defects", *systems], rows, note)


def published(title: str, results: Results) -> list[Table]:
    """The papers' own results, where these categories belong to a published data set."""
    categories = _categories(results)
    first = next(iter(results))
    data = known_set(first.layout, categories, first.with_depth)
    found: list[Published] = (
        [] if data is None else published_rows(data, _systems(results), categories)
    )
    if not found:
        return []
    rows = [
        [row.system, row.category, triple([row.image_auroc, row.pixel_auroc, row.aupro])]
        for row in found
    ]
    note = (
        f"From the papers, on the whole of {data}, with other backbones, sizes and machines than"
        " above."
    )
    return [Table(f"{title}: published", ["system", "category", TRIPLE], rows, note)]


def markdown(made: Iterable[Table]) -> list[str]:
    """The tables as lines of Markdown."""
    lines: list[str] = []
    for table in made:
        lines += [f"## {table.title}", ""]
        lines += [table.note, ""] if table.note else []
        lines += [f"| {' | '.join(table.columns)} |", "|" + "---|" * len(table.columns)]
        lines += [f"| {' | '.join(row)} |" for row in table.rows]
        lines.append("")
    return lines


def _kinds(results: Results) -> list[tuple[str, bool]]:
    return list(dict.fromkeys((job.data, job.with_depth) for job in results))


def _has_depth(results: Results, data: str) -> bool:
    return any(
        job.data == data and job.layout in ("mvtec3d", "folder", "recording") for job in results
    )


def _systems(results: Results) -> list[str]:
    return list(dict.fromkeys(job.system for job in results))


def _categories(results: Results) -> list[str]:
    return sorted({job.category for job in results})


def _of(results: Results, system: str, category: str | None = None) -> list[Result]:
    """Of one system, of one category or of all."""
    return [
        result
        for job, result in results.items()
        if job.system == system and category in (None, job.category)
    ]


def _mean_cell(found: Sequence[Result], wanted: int) -> str:
    """The mean of the runs of one system on one category, and whether some of the `wanted` seeds
    lack.
    """
    good = [result for result in found if not result.error]
    if not good:
        return "failed" if found else "not run"
    cell = triple([_mean([getattr(result, name) for result in good]) for name in METRICS])
    if len(good) < len(found):
        return f"{cell} ({len(found) - len(good)} failed)"
    return f"{cell} ({len(found)} of {wanted} seeds)" if len(found) < wanted else cell


def _mean_of_means(results: Results, system: str) -> str:
    """The mean over categories of their means over seeds."""
    rows = []
    for category in _categories(results):
        good = [result for result in _of(results, system, category) if not result.error]
        if good:
            rows.append([_mean([getattr(result, name) for result in good]) for name in METRICS])
    if not rows:
        return "-"
    return f"**{triple([_mean(column) for column in zip(*rows, strict=True)])}**"


def _mean(values: Iterable[float | None]) -> float | None:
    """Of the values that are known; None without any."""
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else None


def _number(values: Iterable[float | None], digits: int = 1) -> str:
    value = _mean(values)
    return "-" if value is None else f"{value:.{digits}f}"
