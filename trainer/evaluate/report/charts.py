"""Charts as inline SVG text: sharp when printed, a few kilobytes each, no script and no font to
load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

NORMAL, DEFECTIVE, ACCENT = "#5b8db8", "#d9662b", "#1d3b53"
SERIES = ("#1d3b53", "#d9662b", "#5b8db8", "#7a9a3a", "#8a5a9e", "#b58900")

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Axis:
    """One axis: from values to pixels, linear or logarithmic.

    Attributes:
        low, high: the values at its ends; both over 0 if `log`.
        start, end: the pixels at its ends.
        log: True for a logarithmic axis.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value; values beyond the ends sit on them."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        value = min(max(value, self.low), self.high)
        share = (scale(value) - scale(self.low)) / ((scale(self.high) - scale(self.low)) or 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values along the axis, three to eight of them."""
        if not self.log:
            return _round_steps(self.low, self.high)
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        factors = (1, 2, 5) if last - first <= 2 else (1,)
        values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
        return [value for value in values if self.low <= value <= self.high]


def score_axis(scores: Floats, threshold: float, start: float, end: float) -> Axis:
    """Choose the axis for scores: logarithmic where they are positive and span more than a factor
    of 20.
    """
    every = np.append(np.asarray(scores, dtype=np.float64), threshold)
    low, high = float(every.min()), float(every.max())
    if low > 0 and high / low > 20:
        return Axis(low / 1.2, high * 1.2, start, end, log=True)
    margin = 0.04 * (high - low) or 1.0
    return Axis(low - margin, high + margin, start, end)


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
    x = score_axis(scores, threshold, 50, 620)
    pixels = np.array([x(float(score)) for score in scores])
    edges = np.linspace(x.start, x.end, 39)
    counts = {
        NORMAL: np.histogram(pixels[~labels], edges)[0],
        DEFECTIVE: np.histogram(pixels[labels], edges)[0],
    }
    y = Axis(0, max(1, *(int(count.max()) for count in counts.values())), 230, 24)
    bars = [
        _bar(left + 0.8, right - left - 1.6, y(0), y(float(count)), color)
        for color, row in counts.items()
        for left, right, count in zip(edges[:-1], edges[1:], row, strict=True)
        if count
    ]
    parts = [
        *_x_axis(x, 230, "image score"),
        *_y_axis(y, 50, "images"),
        *bars,
        *_threshold(x, threshold, 230),
    ]
    return _svg(
        640, 275, parts, f"Histogram of image scores, normal and {other}, with the threshold"
    )


def strips(rows: Mapping[str, Floats], normal: str, threshold: float) -> str:
    """Draw one dot per image in one row per defect type, the threshold across all rows.

    Args:
        rows: scores by row name, each (n,) finite.
        normal: name of the row of normal images.
        threshold: drawn as a line.
    """
    height = 24 * len(rows) + 14
    x = score_axis(np.concatenate(list(rows.values())), threshold, 150, 1040)
    parts = _x_axis(x, height, "image score")
    for index, (name, scores) in enumerate(rows.items()):
        middle = 26 + 24 * index
        parts.append(f'<line x1="150" x2="1040" y1="{middle}" y2="{middle}" class="grid"/>')
        parts.append(
            f'<text x="142" y="{middle + 4}" class="label" text-anchor="end">{escape(name)}</text>'
        )
        color = NORMAL if name == normal else DEFECTIVE
        parts += [
            f'<circle cx="{x(float(score)):.1f}" cy="{middle + (place % 5 - 2) * 2}" r="3.6"'
            f' fill="{color}" fill-opacity="0.6"/>'
            for place, score in enumerate(scores)
        ]
    parts += _threshold(x, threshold, height)
    return _svg(1060, height + 45, parts, "Scores of all images by defect type")


def roc(false_rate: Floats, true_rate: Floats, chosen: tuple[float, float]) -> str:
    """Draw the ROC curve, with the point the threshold stands at.

    Args:
        false_rate: (k,) ascending, 0..1.
        true_rate: (k,), 0..1.
        chosen: false and true positive rate at the threshold.
    """
    x, y = Axis(0, 1, 50, 290), Axis(0, 1, 250, 14)
    line = " ".join(
        f"{x(float(a)):.1f},{y(float(b)):.1f}" for a, b in zip(false_rate, true_rate, strict=True)
    )
    parts = [
        *_x_axis(x, 250, "normal parts rejected"),
        *_y_axis(y, 50, "defective parts found"),
        f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" class="diagonal"/>',
        (
            f'<polygon points="{x(0)},{y(0)} {line} {x(1)},{y(0)}" fill="{DEFECTIVE}"'
            ' fill-opacity="0.08"/>'
        ),
        f'<polyline points="{line}" fill="none" stroke="{DEFECTIVE}" stroke-width="2.2"/>',
        f'<circle cx="{x(chosen[0]):.1f}" cy="{y(chosen[1]):.1f}" r="5" class="chosen"/>',
        (
            f'<text x="{x(chosen[0]) + 9:.1f}" y="{y(chosen[1]) + 14:.1f}" class="label">the'
            " threshold</text>"
        ),
    ]
    return _svg(310, 295, parts, "ROC curve of the image scores")


def lines(curves: Mapping[str, Sequence[float]]) -> list[tuple[str, str]]:
    """Draw each training curve on its own axes, since their losses have no common unit.

    Args:
        curves: loss per epoch by name; not finite values and empty curves are left out.
    Returns: name and SVG of each.
    """
    kept = {
        name: [(i + 1, v) for i, v in enumerate(values) if math.isfinite(v)]
        for name, values in curves.items()
    }
    return [
        (name, _line_chart(points, color))
        for (name, points), color in zip(
            kept.items(), SERIES * (1 + len(kept) // len(SERIES)), strict=False
        )
        if points
    ]


def scatter_distribution(
    values: Sequence[float], groups: Sequence[str], label: str, colors: Mapping[str, str]
) -> str:
    """Draw a stacked histogram of one property of the drawn defects, colored by group.

    Args:
        values: (n) finite.
        groups: (n) group of each.
        label: what the values are, with the unit.
        colors: of each group.
    """
    low, high = min(values), max(values)
    log = low > 0 and high / low > 12
    x = (
        Axis(low / 1.15, high * 1.15, 50, 430, log)
        if log
        else Axis(min(0.0, low), high * 1.08 or 1.0, 50, 430)
    )
    edges = np.linspace(x.start, x.end, 20)
    counts = {
        group: np.histogram(
            [x(v) for v, g in zip(values, groups, strict=True) if g == group], edges
        )[0]
        for group in colors
    }
    # colors is not empty
    y = Axis(0, max(1, int(sum(counts.values()).max())), 190, 14)  # type: ignore[union-attr]
    below = np.zeros(len(edges) - 1)
    parts = [*_x_axis(x, 190, label), *_y_axis(y, 50, "defects")]
    for group, row in counts.items():
        for left, right, base, count in zip(edges[:-1], edges[1:], below, row, strict=True):
            if count:
                parts.append(
                    _bar(
                        left + 0.8,
                        right - left - 1.6,
                        y(base),
                        y(base + count),
                        colors[group],
                        solid=True,
                    )
                )
        below += row
    return _svg(450, 235, parts, f"Distribution of {label}")


def dots(rows: Mapping[str, Sequence[tuple[str, float]]], label: str) -> str:
    """Draw one dot per value in one row per name, colored by series, with a legend.

    Args:
        rows: (series, value) pairs by row name, not empty.
        label: of the values' axis.
    """
    values = [value for row in rows.values() for _, value in row]
    series = list(dict.fromkeys(name for row in rows.values() for name, _ in row))
    colors = {name: SERIES[index % len(SERIES)] for index, name in enumerate(series)}
    margin = 0.05 * (max(values) - min(values)) or 1.0
    x = Axis(min(values) - margin, max(values) + margin, 230, 1040)
    height = 26 * len(rows) + 40
    parts = [*_x_axis(x, height, label), *_legend(colors, 230)]
    for index, (name, row) in enumerate(rows.items()):
        middle = 46 + 26 * index
        parts.append(f'<line x1="230" x2="1040" y1="{middle}" y2="{middle}" class="grid"/>')
        parts.append(
            f'<text x="222" y="{middle + 4}" class="label" text-anchor="end">{escape(name)}</text>'
        )
        parts += [
            f'<circle cx="{x(value):.1f}"'
            f' cy="{middle + (series.index(kind) - (len(series) - 1) / 2) * 5:.1f}" r="4"'
            f' fill="{colors[kind]}" fill-opacity="0.75"/>'
            for kind, value in row
        ]
    return _svg(1060, height + 45, parts, f"{label} of every run")


def cloud(series: Mapping[str, Sequence[tuple[float, float]]], along: str, up: str) -> str:
    """Draw (x, y) points of several series, with a legend.

    Args:
        series: points by name, at least one point in all.
        along, up: labels of the axes.
    """
    points = [point for row in series.values() for point in row]
    low_y, high_y = min(value for _, value in points), max(value for _, value in points)
    x = Axis(0, max(value for value, _ in points) * 1.08, 60, 620)
    margin = 0.08 * (high_y - low_y) or 1.0
    y = Axis(low_y - margin, high_y + margin, 260, 34)
    colors = {name: SERIES[index % len(SERIES)] for index, name in enumerate(series)}
    parts = [*_x_axis(x, 260, along), *_y_axis(y, 60, up), *_legend(colors, 60)]
    for name, row in series.items():
        parts += [
            f'<circle cx="{x(first):.1f}" cy="{y(second):.1f}" r="4" fill="{colors[name]}"'
            ' fill-opacity="0.75"/>'
            for first, second in row
        ]
    return _svg(640, 305, parts, f"{up} against {along}")


def _legend(colors: Mapping[str, str], left: float) -> list[str]:
    parts = []
    for index, (name, color) in enumerate(colors.items()):
        at = left + 100 * index
        parts.append(f'<circle cx="{at}" cy="14" r="5" fill="{color}"/>')
        parts.append(f'<text x="{at + 10}" y="18" class="label">{escape(name)}</text>')
    return parts


def number(value: float) -> str:
    """Write a number as short as it can be read: 0.002, 1.5, 120, 2e-05."""
    return f"{value:.3g}"


def _line_chart(points: Sequence[tuple[int, float]], color: str) -> str:
    values = [value for _, value in points]
    low, high = min(values), max(values)
    log = low > 0 and high / low > 20
    margin = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    y = (
        Axis(low / 1.1, high * 1.1, 190, 14, log=True)
        if log
        else Axis(low - margin, high + margin, 190, 14)
    )
    x = Axis(1, max(2, points[-1][0]), 62, 430)
    line = " ".join(f"{x(epoch):.1f},{y(value):.1f}" for epoch, value in points)
    parts = [
        *_x_axis(x, 190, "epoch"),
        *_y_axis(y, 62, "loss"),
        (
            f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"'
            ' stroke-linejoin="round"/>'
        ),
        f'<circle cx="{x(points[-1][0]):.1f}" cy="{y(values[-1]):.1f}" r="3.5" fill="{color}"/>',
    ]
    return _svg(450, 235, parts, "Training loss by epoch")


def _round_steps(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between low and high."""
    raw = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _x_axis(x: Axis, bottom: float, label: str) -> list[str]:
    parts = [f'<line x1="{x.start}" x2="{x.end}" y1="{bottom}" y2="{bottom}" class="axis"/>']
    for tick in x.ticks():
        at = f"{x(tick):.1f}"
        parts.append(f'<line x1="{at}" x2="{at}" y1="{bottom}" y2="{bottom + 4}" class="axis"/>')
        parts.append(
            f'<text x="{at}" y="{bottom + 17}" class="tick"'
            f' text-anchor="middle">{number(tick)}</text>'
        )
    middle = (x.start + x.end) / 2
    parts.append(
        f'<text x="{middle}" y="{bottom + 36}" class="label"'
        f' text-anchor="middle">{escape(label)}</text>'
    )
    return parts


def _y_axis(y: Axis, left: float, label: str) -> list[str]:
    parts = []
    for tick in y.ticks():
        at = f"{y(tick):.1f}"
        parts.append(f'<line x1="{left}" x2="{left + 2000}" y1="{at}" y2="{at}" class="grid"/>')
        parts.append(
            f'<text x="{left - 6}" y="{y(tick) + 4:.1f}" class="tick"'
            f' text-anchor="end">{number(tick)}</text>'
        )
    middle = (y.start + y.end) / 2
    turned = f'transform="translate(12 {middle}) rotate(-90)"'
    parts.append(f'<text {turned} class="label" text-anchor="middle">{escape(label)}</text>')
    return parts


def _bar(
    left: float, width: float, bottom: float, top: float, color: str, solid: bool = False
) -> str:
    opacity = 0.9 if solid else 0.62
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}"'
        f' fill="{color}" fill-opacity="{opacity}"/>'
    )


def _threshold(x: Axis, threshold: float, bottom: float) -> list[str]:
    at = x(threshold)
    share = (at - x.start) / (x.end - x.start)
    anchor = "start" if share < 0.15 else "end" if share > 0.85 else "middle"
    return [
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="15" y2="{bottom}" class="threshold"/>',
        (
            f'<text x="{at:.1f}" y="11" class="label strong" text-anchor="{anchor}">threshold'
            f" {number(threshold)}</text>"
        ),
    ]


def _svg(width: int, height: float, parts: Sequence[str], title: str) -> str:
    """Wrap the parts; the drawing scales with the page's column."""
    return (
        f'<svg viewBox="0 0 {width} {height:g}" role="img" preserveAspectRatio="xMidYMid meet">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
