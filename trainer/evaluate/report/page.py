"""Choose what to show, count what the threshold does, fill the template."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np

from edge.files import write_atomically
from trainer import pictures
from trainer.evaluate.report import charts
from trainer.evaluate.report.drawing import number
from trainer.evaluate.report.model import Choice, KnownDefect, Report, ReportedImage
from trainer.metrics import roc_curve
from trainer.pages import page_environment
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
MARKS: Mapping[tuple[bool, bool], str] = {  # (is defective, is rejected)
    (True, True): "found",
    (True, False): "missed",
    (False, True): "false alarm",
    (False, False): "passed",
}
GROUP_COLORS = {
    "relief": "#1d3b53",
    "color": "#d9662b",
    "both": "#7a9a3a",
    "material": "#c29a1f",
    "logical": "#8a5a9e",
}


@dataclass(frozen=True)
class ImageRow:
    """One line of the table of every image. value: the score to sort by. reasons: of an NG."""

    name: str
    defect: str
    value: float
    score: str
    verdict: str
    mark: str
    reasons: str


@dataclass(frozen=True)
class Picture:
    """One image as the page shows it. panels: the heading of each picture and the picture as a data
    address. reasons: which of several judgments make it NG.
    """

    name: str
    defect: str
    score: str
    verdict: str
    mark: str
    panels: list[tuple[str, str]]
    reasons: str


@dataclass(frozen=True)
class ScaleShown:
    """The color bar. low, high: map values at its ends. threshold_share: where on it, 0..1, the
    threshold lies; None beyond its ends.
    """

    low: str
    high: str
    threshold_share: float | None


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
    """Write the page, atomically: one file that needs no other and no network."""
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
    environment = page_environment(Path(__file__).parent)
    environment.filters["percent"] = percent
    return environment


def render(report: Report) -> str:
    """Return the page as HTML text."""
    script = (Path(__file__).parent / "report.js").read_text(encoding="utf-8")
    scale = (
        pictures.heat_scale([image.map for image in report.images], report.labels)
        if report.images
        else None
    )
    return (
        _environment()
        .get_template("report.html")
        .render(
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            ramp=_ramp(),
            scale=_scale_shown(scale, report.threshold) if scale else None,
            every_image=_every_image(report),
            report=report,
            threshold=number(report.threshold),
            found=_count(report, _of_kind(report, True)),
            refused=_count(report, _of_kind(report, False)),
            counts=_counts(report),
            total=(
                next((row for row in reversed(report.rows) if row.name == "all"), None)
                if report.is_comparison
                else None
            ),
            title=_title(report),
            charts=_score_charts(report) if report.images else {},
            curves=charts.curves(report.curves),
            distributions=_distributions(report.known),
            sections=_sections(report, scale) if scale else [],
            choice=_choice_shown(report.choice) if report.choice else None,
            suspects=[
                (one, "" if image is None else pictures.jpeg(image))
                for one, image in report.suspects
            ],
            what_to_do=WHAT_TO_DO,
            has_depth=any(image.height for image in report.images),
            outlined=sum(image.truth is None for image in report.images),
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


def _count(report: Report, images: Sequence[ReportedImage]) -> Count:
    return Count(sum(map(report.is_rejected, images)), len(images))


def _of_kind(report: Report, is_defective: bool) -> list[ReportedImage]:
    return [image for image in report.images if image.is_defective is is_defective]


def _counts(report: Report) -> dict[str, Count]:
    """Count what the threshold rejects, by name of the row it belongs to."""
    defective = _of_kind(report, True)
    groups = {known.name: known.group for known in report.known}
    by_type = {
        row.name: _count(report, [image for image in defective if image.defect == row.name])
        for row in report.rows
    }
    by_group = {
        row.name: _count(
            report, [image for image in report.images if groups.get(image.name) == row.name]
        )
        for row in report.groups
    }
    return by_type | by_group | {"all": _count(report, defective)}


def _score_charts(report: Report) -> dict[str, str]:
    """Draw the charts of the scores; the ROC curve only where both classes exist."""
    other = "with a synthetic defect" if report.is_synthetic else "defective"
    shown = (report.scores, report.labels, report.threshold, other)
    charted = {"histogram": charts.histogram(*shown), "zoom": charts.zoomed_histogram(*shown)}
    rows: dict[str, list[float]] = {}
    for image in sorted(report.images, key=lambda image: (image.is_defective, image.defect)):
        rows.setdefault(image.defect if image.is_defective else "good", []).append(image.score)
    charted["strips"] = charts.strips(
        {name: np.array(scores) for name, scores in rows.items()}, "good", report.threshold
    )
    if report.is_comparison:
        false_rate, true_rate = roc_curve(report.labels, report.scores)
        chosen = (
            _count(report, _of_kind(report, False)).percent / 100,
            _count(report, _of_kind(report, True)).percent / 100,
        )
        charted["roc"] = charts.roc(false_rate, true_rate, chosen)
    return charted


def _distributions(known: Sequence[KnownDefect]) -> list[str]:
    """Draw how large and how high the synthetic defects are; one without height has no second
    figure.
    """
    charted = []
    if known:
        groups = [one.group for one in known]
        areas = [100 * one.area_share for one in known]
        charted.append(charts.stacked("areas", areas, groups, "share of the part, %", GROUP_COLORS))
    heights = [(abs(one.height_sigma), one.group) for one in known if one.height_sigma]
    if heights:
        values, groups = [height for height, _ in heights], [group for _, group in heights]
        charted.append(
            charts.stacked(
                "heights", values, groups, "height, sigma of the depth noise", GROUP_COLORS
            )
        )
    return charted


def _ramp() -> str:
    """The heat colors as stops of a CSS gradient."""
    stops = np.linspace(0, 1, 9, dtype=np.float32)
    return ", ".join(f"rgb({r:.0f} {g:.0f} {b:.0f})" for r, g, b in pictures.colors_of(stops))


def _scale_shown(scale: HeatScale, threshold: float) -> ScaleShown:
    share = (threshold - scale.low) / (scale.high - scale.low)
    return ScaleShown(number(scale.low), number(scale.high), share if 0 <= share <= 1 else None)


def _every_image(report: Report) -> list[ImageRow]:
    """The highest score first."""
    return [
        ImageRow(
            image.name,
            image.defect,
            image.score,
            number(image.score),
            *_verdict(report, image),
            _reasons(report, image),
        )
        for image in sorted(report.images, key=lambda image: -image.score)
    ]


def _verdict(report: Report, image: ReportedImage) -> tuple[str, str]:
    """NG or OK, and what that is."""
    rejected = report.is_rejected(image)
    return "NG" if rejected else "OK", MARKS[image.is_defective, rejected]


def _reasons(report: Report, image: ReportedImage) -> str:
    """Which judgments make it NG; empty where the detector judges alone."""
    return ", ".join(image.reasons) if report.judgments else ""


def _sections(report: Report, scale: HeatScale) -> list[tuple[str, str, list[Picture]]]:
    """Choose the images worth looking at: title, explanation and pictures of each section."""
    rising = sorted(report.images, key=lambda image: image.score)
    good = [image for image in rising if not image.is_defective]
    defective = [image for image in rising if image.is_defective]
    missed = [image for image in defective if not report.is_rejected(image)][:MISSED_SHOWN]
    if report.is_synthetic:
        missed = []  # the faintest are meant to be missed; each strength is shown below
    chosen = [
        ("Missed", "Defective parts that the threshold lets pass, the lowest score first.", missed),
        (
            "Most suspicious good parts",
            "The good parts with the highest scores.",
            good[::-1][:NORMALS_SHOWN],
        ),
    ]
    for defect in sorted({image.defect for image in defective}):
        own = [image for image in defective if image.defect == defect]
        places = np.linspace(0, len(own) - 1, min(SHOWN_OF_A_TYPE, len(own))).round().astype(int)
        text = "From the lowest score of its type to the highest."
        chosen.append((defect, text, [own[place] for place in places]))
    return [
        (title, text, [_picture(report, image, scale) for image in shown])
        for title, text, shown in chosen
        if shown
    ]


def _picture(report: Report, image: ReportedImage, scale: HeatScale) -> Picture:
    """Draw an image: as it is, with the map, and enlarged."""
    color = image.color()
    panels = [
        ("image", pictures.photograph(color, image.truth)),
        ("anomaly map", pictures.heat(color, image.map, image.truth, scale, report.threshold)),
        ("close-up", pictures.close_up(color, image.map, image.truth)),
    ]
    if image.height:
        panels.append(("height", pictures.relief(image.height(), image.map, image.truth)))
    unknown = " (not outlined)" if image.truth is None else ""
    score = number(image.score)
    return Picture(
        image.name,
        image.defect + unknown,
        score,
        *_verdict(report, image),
        panels,
        _reasons(report, image),
    )
