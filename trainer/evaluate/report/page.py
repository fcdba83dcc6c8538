"""Choose what to show, count what the threshold does, fill the template."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from edge.files import write_atomically
from trainer import pictures
from trainer.evaluate.report import charts
from trainer.evaluate.report.model import Choice, KnownDefect, Report
from trainer.metrics import roc_curve
from trainer.pictures import HeatScale
from trainer.train.operating_points import operating_rows
from trainer.train.outliers import Outlier, outlier_question
from trainer.train.suspects import WHAT_TO_DO

NORMALS_SHOWN = 6
MISSED_SHOWN = 6
SHOWN_OF_A_TYPE = 4
VERDICTS = (  # where the report of a bundle shows its certificate
    "<!-- verdicts of the bundle's files -->"
)
GROUP_COLORS = {"depth": "#1d3b53", "color": "#d9662b", "both": "#7a9a3a", "logical": "#8a5a9e"}


@dataclass(frozen=True)
class Picture:
    """One image as the page shows it, its four pictures as data addresses; `relief` is empty
    without depth.
    """

    name: str
    defect: str
    score: str
    verdict: str
    mark: str
    photo: str
    heat: str
    close: str
    relief: str


@dataclass(frozen=True)
class Count:
    """Of `total` images of a row, the threshold rejects `rejected`."""

    rejected: int
    total: int

    @property
    def percent(self) -> float:
        """0..100; 0 for an empty row."""
        return 100 * self.rejected / max(1, self.total)


@dataclass(frozen=True)
class ChoiceShown:
    """What the threshold was chosen from, as the page shows it.

    outliers: each with its picture as a data address, "" without. question: what to decide about
    them. titles: of the table's columns. rows: whether it is the chosen one, and the cells.
    """

    guarantee: str
    outliers: list[tuple[Outlier, str]]
    question: str
    titles: list[str]
    rows: list[tuple[bool, list[str]]]
    suggestion: str | None


def write_report(path: Path, report: Report) -> None:
    """Write the page, atomically: one file that needs no other and no network.

    Raises: ValueError if the lists of the report differ in length.
    """
    count = len(report.names)
    if {
        len(report.defects),
        len(report.labels),
        len(report.scores),
        len(report.maps),
        len(report.truths),
    } != {count}:
        raise ValueError(
            f"the report of {report.product} has {count} names, but other lists of another length"
        )
    write_atomically(path, render(report).encode())


def add_verdicts(page: str, rows: Sequence[Sequence[str]], lines: Sequence[str]) -> str:
    """Return a report with the table of the bundle's files, where the page has its place for one.

    Args:
        page: what `render` returned. rows: of the table, its titles first. lines: what stands below
            it.
    A page of another origin is returned as it is.
    """
    section = _environment().get_template("certified.html").render(rows=rows, lines=lines)
    return page.replace(VERDICTS, section, 1)


def _environment() -> jinja2.Environment:
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment


def render(report: Report) -> str:
    """Return the page as HTML text."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            threshold=charts.number(report.threshold),
            found=_count(report, report.labels),
            refused=_count(report, ~report.labels),
            counts=_counts(report),
            total=(
                next((row for row in reversed(report.rows) if row.name == "all"), None)
                if report.is_comparison
                else None
            ),
            title=_title(report),
            charts=_score_charts(report) if len(report.names) else {},
            curves=charts.lines(report.curves),
            distributions=_distributions(report.drawn),
            group_colors=GROUP_COLORS,
            sections=_sections(report) if len(report.names) else [],
            choice=_choice_shown(report.choice) if report.choice else None,
            suspects=[
                (one, "" if image is None else pictures.jpeg(image))
                for one, image in report.suspects
            ],
            what_to_do=WHAT_TO_DO,
            outlined=sum(truth is None for truth in report.truths),
        )
    )


def _title(report: Report) -> str:
    """The product, and for other data than the run's own, which run judged which folder."""
    if report.occasion is None or report.occasion.own:
        return report.product
    run, data = Path(report.occasion.run).name, Path(report.occasion.data).name
    return f"{report.product}: run “{run}” judges the folder “{data}”"


def _choice_shown(choice: Choice) -> ChoiceShown:
    titles, *rows = operating_rows(choice.points)
    chosen = [point.threshold.rank == choice.rank for point in choice.points]
    return ChoiceShown(
        choice.guarantee,
        [
            (outlier, "" if image is None else pictures.jpeg(image))
            for outlier, image in choice.outliers
        ],
        (
            outlier_question([outlier for outlier, _ in choice.outliers], choice.rank)
            if choice.outliers
            else ""
        ),
        titles,
        list(zip(chosen, rows, strict=True)),
        choice.suggestion,
    )


def percent(value: float) -> str:
    """Write a share 0..1 in percent with one decimal; a dash where it is undefined.

    100.0 is exactly all.
    """
    if math.isnan(value):
        return "–"
    return "100.0" if value == 1 else f"{min(100 * value, 99.9):.1f}"


def _count(report: Report, chosen: NDArray[np.bool_]) -> Count:
    return Count(int(np.count_nonzero(report.rejected & chosen)), int(np.count_nonzero(chosen)))


def _counts(report: Report) -> dict[str, Count]:
    """Count what the threshold rejects, by name of the row it belongs to."""
    defects = np.array(report.defects, dtype=object)
    groups = {drawn.name: drawn.group for drawn in report.drawn}
    group_of = np.array([groups.get(name, "") for name in report.names], dtype=object)
    counts = {
        row.name: _count(report, (defects == row.name) & report.labels) for row in report.rows
    }
    counts |= {row.name: _count(report, group_of == row.name) for row in report.groups}
    return counts | {"all": _count(report, report.labels)}


def _score_charts(report: Report) -> dict[str, str]:
    """Draw the charts of the scores; the ROC curve only where both classes exist."""
    other = "synthetic defect" if report.synthetic else "defective"
    drawn = {"histogram": charts.histogram(report.scores, report.labels, report.threshold, other)}
    defects = np.array(report.defects, dtype=object)
    rows = {"good": report.scores[~report.labels]} if (~report.labels).any() else {}
    rows |= {
        str(name): report.scores[(defects == name) & report.labels]
        for name in _defect_types(report)
    }
    drawn["strips"] = charts.strips(rows, "good", report.threshold)
    if report.is_comparison:
        false_rate, true_rate = roc_curve(report.labels, report.scores)
        chosen = (
            _count(report, ~report.labels).percent / 100,
            _count(report, report.labels).percent / 100,
        )
        drawn["roc"] = charts.roc(false_rate, true_rate, chosen)
    return drawn


def _defect_types(report: Report) -> list[str]:
    """Types of the defective images, in alphabetical order."""
    return sorted(
        {name for name, label in zip(report.defects, report.labels, strict=True) if label}
    )


def _distributions(drawn: Sequence[KnownDefect]) -> list[str]:
    """Draw how large and how high the drawn defects are; one without height has no second
    figure.
    """
    charted = []
    if drawn:
        groups = [one.group for one in drawn]
        areas = [100 * one.area_share for one in drawn]
        charted.append(
            charts.scatter_distribution(areas, groups, "share of the part, %", GROUP_COLORS)
        )
    heights = [(abs(one.height_sigma), one.group) for one in drawn if one.height_sigma]
    if heights:
        values, groups = [height for height, _ in heights], [group for _, group in heights]
        charted.append(
            charts.scatter_distribution(
                values, groups, "height, sigma of the depth noise", GROUP_COLORS
            )
        )
    return charted


def _sections(report: Report) -> list[tuple[str, str, list[Picture]]]:
    """Choose the images worth looking at: title, explanation and pictures of each section."""
    order = np.argsort(report.scores, kind="stable")
    scale = pictures.heat_scale(report.maps, report.labels)
    missed = [int(i) for i in order if report.labels[i] and not report.rejected[i]][:MISSED_SHOWN]
    if report.synthetic:
        missed = []  # the faintest are meant to be missed; each strength is shown below
    normals = [int(i) for i in order[::-1] if not report.labels[i]][:NORMALS_SHOWN]
    chosen: list[tuple[str, str, list[int]]] = [
        ("Missed", "Defective parts that the threshold lets pass, the lowest score first.", missed),
        ("Most suspicious good parts", "The good parts with the highest scores.", normals),
    ]
    for defect in _defect_types(report):
        own = [int(i) for i in order if report.labels[i] and report.defects[i] == defect]
        places = np.linspace(0, len(own) - 1, min(SHOWN_OF_A_TYPE, len(own))).round().astype(int)
        chosen.append(
            (
                defect,
                "From the lowest score of its type to the highest.",
                [own[place] for place in places],
            )
        )
    return [
        (title, text, [_picture(report, i, scale) for i in shown])
        for title, text, shown in chosen
        if shown
    ]


def _picture(report: Report, index: int, scale: HeatScale) -> Picture:
    """Draw image `index` twice: with the truth's outline, and with the map."""
    image, truth, anomaly_map = report.image(index), report.truths[index], report.maps[index]
    defective, rejected = bool(report.labels[index]), bool(report.rejected[index])
    marks: Mapping[tuple[bool, bool], str] = {
        (True, True): "found",
        (True, False): "missed",
        (False, True): "false alarm",
        (False, False): "passed",
    }
    return Picture(
        name=report.names[index],
        defect=report.defects[index] + (" (not outlined)" if truth is None else ""),
        score=charts.number(float(report.scores[index])),
        verdict="NG" if rejected else "OK",
        mark=marks[defective, rejected],
        photo=pictures.photograph(image, truth),
        heat=pictures.heat(image, anomaly_map, truth, scale),
        close=pictures.close_up(image, anomaly_map, truth),
        relief=pictures.relief(report.height(index), anomaly_map, truth) if report.height else "",
    )
