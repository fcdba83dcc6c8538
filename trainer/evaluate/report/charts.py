"""The charts of the report and of the benchmark page, each as SVG text (drawing.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.evaluate.report.drawing import Chart, chart, number

NORMAL, DEFECTIVE, THRESHOLD = "#5b8db8", "#d9662b", "#1d3b53"
SERIES = ("#1d3b53", "#d9662b", "#5b8db8", "#7a9a3a", "#8a5a9e", "#b58900")
BINS = 38
LOG_FROM = 20  # positive values that span this factor stand on a logarithmic axis
Floats = NDArray[np.floating]


def histogram(
    scores: Floats, labels: NDArray[np.bool_], threshold: float, other: str = "defective"
) -> str:
    """Count normal and defective images by score, the threshold drawn across.

    Args:
        scores: (n,) finite.
        labels: (n,) bool, True = defective.
        threshold: drawn as a line.
        other: what the defective images are called.
    """
    low, high, log = score_limits(scores, threshold)
    edges = np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)
    with chart("histogram", f"Histogram of image scores, normal and {other}") as plot:
        _bars(plot, scores, labels, edges, other)
        _threshold(plot, threshold)
        plot.axes.set_xlim(low, high)
        if log:
            plot.logarithmic("x")
        plot.label("image score", "images")
        plot.legend()
    return plot.svg


def zoomed_histogram(
    scores: Floats, labels: NDArray[np.bool_], threshold: float, other: str = "defective"
) -> str:
    """The histogram around the threshold, on a linear axis; arguments as in `histogram`."""
    low, high = limits_around(scores, labels, threshold)
    outside = int(np.count_nonzero((scores < low) | (scores > high)))
    with chart("zoom", f"Histogram of image scores near the threshold, normal and {other}") as plot:
        _bars(plot, scores, labels, np.linspace(low, high, BINS + 1), other)
        _threshold(plot, threshold)
        plot.axes.set_xlim(low, high)
        plot.label(f"image score near the threshold ({outside} of {len(scores)} images outside)")
        plot.legend()
    return plot.svg


def score_limits(scores: Floats, threshold: float) -> tuple[float, float, bool]:
    """The ends of an axis for scores, and whether it is logarithmic: where all are positive and
    span more than LOG_FROM.
    """
    every = np.append(np.asarray(scores, dtype=np.float64), threshold)
    low, high = float(every.min()), float(every.max())
    if low > 0 and high / low > LOG_FROM:
        return low / 1.2, high * 1.2, True
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin, False


def limits_around(
    scores: Floats, labels: NDArray[np.bool_], threshold: float
) -> tuple[float, float]:
    """Of the zoom: 1.5 times as far from the threshold, on both sides, as the median normal score;
    without a normal image as the median score.
    """
    reference = scores[~labels] if (~labels).any() else scores
    reach = 1.5 * abs(threshold - float(np.median(reference)))
    reach = reach or 0.1 * abs(threshold) or 1.0
    return threshold - reach, threshold + reach


def strips(rows: Mapping[str, Floats], normal: str, threshold: float) -> str:
    """Draw one dot per image in one row per defect type, the threshold across all rows.

    Args:
        rows: scores by row name, each (n,) finite.
        normal: name of the row of normal images.
        threshold: drawn as a line.
    """
    low, high, log = score_limits(np.concatenate(list(rows.values())), threshold)
    with chart("strips", "Scores of all images by defect type", 0.9 + 0.24 * len(rows)) as plot:
        for index, (name, scores) in enumerate(rows.items()):
            apart = index + (np.arange(len(scores)) % 5 - 2) * 0.09  # equal scores stay countable
            color = NORMAL if name == normal else DEFECTIVE
            plot.axes.scatter(scores, apart, s=20, color=color, alpha=0.6, linewidths=0)
        _threshold(plot, threshold)
        _name_rows(plot, list(rows))
        plot.axes.set_xlim(low, high)
        if log:
            plot.logarithmic("x")
        plot.label("image score")
        plot.legend()
    return plot.svg


def roc(false_rate: Floats, true_rate: Floats, chosen: tuple[float, float]) -> str:
    """Draw the ROC curve, with the point the threshold stands at.

    Args:
        false_rate: (k,) ascending, 0..1.
        true_rate: (k,), 0..1.
        chosen: false and true positive rate at the threshold.
    """
    with chart("roc", "ROC curve of the image scores") as plot:
        plot.axes.plot([0, 1], [0, 1], color="#b9c4ce", linestyle=":", label="guessing")
        plot.axes.fill_between(false_rate, true_rate, color=DEFECTIVE, alpha=0.08, linewidth=0)
        plot.axes.plot(false_rate, true_rate, color=DEFECTIVE, linewidth=2, label="the detector")
        plot.axes.plot(
            *chosen,
            "o",
            markersize=8,
            markerfacecolor="white",
            markeredgecolor=THRESHOLD,
            markeredgewidth=2,
            label="at the threshold",
            clip_on=False,
            zorder=4,
        )
        plot.label("share of normal parts rejected", "share of defective parts found")
        plot.legend()
    return plot.svg


def curves(losses: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """Draw each training curve on its own axes, since their losses have no common unit.

    Args:
        losses: loss per epoch by name; not finite values and empty curves are left out.
    Returns: name and SVG of each.
    """
    kept = {
        name: [(epoch, loss) for epoch, loss in enumerate(values, 1) if math.isfinite(loss)]
        for name, values in losses.items()
    }
    return [
        (name, _curve(f"curve{index}", points, SERIES[index % len(SERIES)]))
        for index, (name, points) in enumerate(kept.items())
        if points
    ]


def _curve(name: str, points: Sequence[tuple[int, float]], color: str) -> str:
    epochs, losses = zip(*points, strict=True)
    with chart(name, "Training loss by epoch", 2.2) as plot:
        plot.axes.plot(epochs, losses, color=color, linewidth=1.8, marker="o", markersize=2.5)
        if min(losses) > 0 and max(losses) / min(losses) > LOG_FROM:
            plot.axes.set_ylim(min(losses) / 1.1, max(losses) * 1.1)
            plot.logarithmic("y")
        plot.axes.xaxis.get_major_locator().set_params(integer=True)
        plot.label("epoch", "loss")
    return plot.svg


def stacked(
    name: str, values: Sequence[float], groups: Sequence[str], label: str, colors: Mapping[str, str]
) -> str:
    """Draw a stacked histogram of one property of the synthetic defects, colored by group.

    Args:
        name: unique on the page.
        values: (n) finite.
        groups: (n) group of each.
        label: what the values are, with the unit.
        colors: of each group.
    """
    low, high = min(values), max(values)
    log = low > 0 and high / low > LOG_FROM / 2
    ends = (low / 1.15, high * 1.15) if log else (min(0.0, low), high * 1.08 or 1.0)
    edges = np.geomspace(*ends, 20) if log else np.linspace(*ends, 20)
    occurring = [group for group in colors if group in groups]
    with chart(name, f"Distribution of {label}", 2.4) as plot:
        plot.axes.hist(
            [[v for v, g in zip(values, groups, strict=True) if g == group] for group in occurring],
            edges,
            stacked=True,
            rwidth=0.9,
            color=[colors[group] for group in occurring],
            label=occurring,
        )
        plot.axes.set_xlim(*ends)
        if log:
            plot.logarithmic("x")
        plot.axes.yaxis.get_major_locator().set_params(integer=True)
        plot.label(label, "defects")
        plot.legend(4)
    return plot.svg


def dots(name: str, rows: Mapping[str, Sequence[tuple[str, float]]], label: str) -> str:
    """Draw one dot per value in one row per name, colored by series.

    Args:
        name: unique on the page.
        rows: (series, value) pairs by row name, not empty.
        label: of the values' axis.
    """
    series = list(dict.fromkeys(kind for row in rows.values() for kind, _ in row))
    with chart(name, f"{label} of every run", 0.9 + 0.3 * len(rows)) as plot:
        for number_of, kind in enumerate(series):
            apart = (number_of - (len(series) - 1) / 2) * 0.12  # equal values stay visible
            points = [
                (value, index + apart)
                for index, row in enumerate(rows.values())
                for other, value in row
                if other == kind
            ]
            plot.axes.scatter(
                *zip(*points, strict=True),
                s=26,
                color=SERIES[number_of % len(SERIES)],
                alpha=0.75,
                linewidths=0,
                label=kind,
            )
        _name_rows(plot, list(rows))
        plot.label(label)
        plot.legend(5)
    return plot.svg


def cloud(
    name: str, series: Mapping[str, Sequence[tuple[float, float]]], along: str, up: str
) -> str:
    """Draw (x, y) points of several series.

    Args:
        name: unique on the page.
        series: points by name, at least one point in all.
        along, up: labels of the axes.
    """
    with chart(name, f"{up} against {along}") as plot:
        for index, (kind, points) in enumerate(series.items()):
            if points:
                plot.axes.scatter(
                    *zip(*points, strict=True),
                    s=30,
                    color=SERIES[index % len(SERIES)],
                    alpha=0.75,
                    linewidths=0,
                    label=kind,
                )
        plot.axes.set_xlim(left=0)
        plot.label(along, up)
        plot.legend(5)
    return plot.svg


def _bars(
    plot: Chart, scores: Floats, labels: NDArray[np.bool_], edges: Floats, other: str
) -> None:
    """Normal and defective images, each with its number; what overlaps is seen through."""
    for chosen, color, name in ((~labels, NORMAL, "good"), (labels, DEFECTIVE, other)):
        if chosen.any():
            plot.axes.hist(
                scores[chosen], edges, color=color, alpha=0.65, label=f"{name} ({chosen.sum()})"
            )
    plot.axes.yaxis.get_major_locator().set_params(integer=True)


def _threshold(plot: Chart, threshold: float) -> None:
    plot.axes.axvline(
        threshold,
        color=THRESHOLD,
        linestyle="--",
        linewidth=1.4,
        label=f"threshold {number(threshold)}",
        gid="threshold",
    )


def _name_rows(plot: Chart, names: Sequence[str]) -> None:
    """Names at the left, the first on top."""
    plot.axes.set_yticks(range(len(names)), names)
    plot.axes.set_ylim(len(names) - 0.5, -0.5)
    plot.axes.tick_params(axis="y", length=0, labelcolor="#1c2733")
