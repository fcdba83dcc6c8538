"""Results as the papers print them: a row per category and their mean, I-AUROC / P-AUROC / AUPRO
per system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.benchmark.plan import Job
from trainer.benchmark.published import Published, known_set, published_rows
from trainer.benchmark.run import Result

FIGURES = ("image_auroc", "pixel_auroc", "aupro")
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
    """Per data set: means over the seeds, every run, groups of drawn defects, and what the papers
    publish.
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
        made.append(every_run(title, chosen))
        made += published(title, chosen)
    return made


def means(title: str, results: Results) -> Table:
    """Rows: categories and, of several, their mean.

    Figures are means over the seeds that have a result.
    """
    systems, categories = _systems(results), _categories(results)
    wanted = len({job.seed for job in results})
    rows = []
    for category in categories:
        row = [category]
        for system in systems:
            found = [
                r for job, r in results.items() if (job.category, job.system) == (category, system)
            ]
            row += _cells(found, wanted)
        rows.append(row)
    if len(categories) > 1:
        mean = ["**mean**"]
        for system in systems:
            mean += _mean_cells(results, system)
        rows.append(mean)
    columns = [
        "category",
        *(f"{system}{what}" for system in systems for what in ("", ", s", ", M", ", frames/s")),
    ]
    seeds = ", ".join(str(seed) for seed in sorted({job.seed for job in results}))
    return Table(
        title,
        columns,
        rows,
        f"I-AUROC / P-AUROC / AUPRO in percent, mean of seeds {seeds}; s: seconds of training; M:"
        " million parameters, backbone included; frames/s: the deployed graph in float32 torch on"
        " this machine.",
    )


def every_run(title: str, results: Results) -> Table:
    """A row per run; a failed one says why."""
    rows = []
    for job, result in results.items():
        what = result.error or _triple([getattr(result, name) for name in FIGURES])
        rows.append([job.category, job.system, str(job.seed), what, result.machine])
    return Table(
        f"{title}: every run",
        ["category", "system", "seed", "I-AUROC / P-AUROC / AUPRO", "ran on"],
        rows,
    )


def by_group(title: str, results: Results) -> Table:
    """Image AUROC per group of drawn defects, mean over categories and seeds."""
    systems = _systems(results)
    names = sorted({name for result in results.values() for name in result.groups or {}})
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
        "I-AUROC of the defects that change only height, only color, or both; logical: of flawless"
        " elements in the wrong places."
    )
    return Table(f"{title}: by group of defects", ["defects", *systems], rows, note)


def published(title: str, results: Results) -> list[Table]:
    """The papers' own figures, where these categories belong to a published data set."""
    categories = _categories(results)
    first = next(iter(results))
    data = known_set(first.layout, categories, first.with_depth)
    found: list[Published] = (
        [] if data is None else published_rows(data, _systems(results), categories)
    )
    if not found:
        return []
    rows = [
        [row.system, row.category, _triple([row.image_auroc, row.pixel_auroc, row.aupro])]
        for row in found
    ]
    note = (
        f"From the papers, on the whole of {data}, with other backbones, sizes and machines than"
        " above."
    )
    return [
        Table(
            f"{title}: published", ["system", "category", "I-AUROC / P-AUROC / AUPRO"], rows, note
        )
    ]


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


def _cells(found: Sequence[Result], wanted: int) -> Row:
    """Figures, seconds, parameters and speed of the runs of one system on one category, of `wanted`
    seeds.
    """
    good = [result for result in found if not result.error]
    if not good:
        return ["failed" if found else "not run", "-", "-", "-"]
    figures = _triple([_mean([getattr(result, name) for result in good]) for name in FIGURES])
    if len(good) < len(found):
        figures += f" ({len(found) - len(good)} failed)"
    elif len(found) < wanted:
        figures += f" ({len(found)} of {wanted} seeds)"
    millions = [None if result.parameters is None else result.parameters / 1e6 for result in good]
    return [
        figures,
        _number([result.seconds for result in good], 0),
        _number(millions),
        _number([result.frames_per_s for result in good]),
    ]


def _mean_cells(results: Results, system: str) -> Row:
    """The mean over categories of their means over seeds."""
    own = {
        job: result for job, result in results.items() if job.system == system and not result.error
    }
    if not own:
        return ["-"] * 4
    means_of = [
        [
            _mean([getattr(r, name) for job, r in own.items() if job.category == category])
            for name in FIGURES
        ]
        for category in _categories(own)
    ]
    whole = _triple([_mean([row[number] for row in means_of]) for number in range(len(FIGURES))])
    return [f"**{whole}**", *_cells(list(own.values()), len(own))[1:]]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _number(values: Iterable[float | None], digits: int = 1) -> str:
    value = _mean(values)
    return "-" if value is None else f"{value:.{digits}f}"


def _triple(values: Sequence[float | None]) -> str:
    return " / ".join("-" if value is None else f"{value:.1f}" for value in values)
