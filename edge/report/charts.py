"""The charts of a report, as SVG text: no library, no script, sharp on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import escape

from edge.archive.query import Histogram
from edge.types import Code

COLORS = {Code.OK: "#4f8f5b", Code.NG: "#c2502b", Code.UNKNOWN: "#d9a520"}
INK, SOFT, LINE, THRESHOLD = "#1c2733", "#5d6b7a", "#dde4ea", "#1d3b53"
WIDTH, HEIGHT = 680, 190
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 22, 30
SPAN_X, SPAN_Y = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
LABELS_LEAST_PX = 62  # from one label of an axis to the next
DOTS_HEIGHT = 92


def histogram_chart(found: Histogram) -> str:
    """Parts by score: OK, NG and UNKNOWN on top of each other, the thresholds drawn across."""
    low, high = found.edges[0], found.edges[-1]
    columns = [
        {code: found.counts[code][index] for code in COLORS}
        for index in range(len(found.edges) - 1)
    ]
    marks = [
        _line_at(LEFT + SPAN_X * (value - low) / (high - low), f"threshold {value:.4g}")
        for value in found.thresholds
        if low <= value <= high
    ]
    ends = [(LEFT + SPAN_X * share, f"{low + (high - low) * share:.4g}") for share in
            (0.0, 0.25, 0.5, 0.75, 1.0)]  # fmt: skip
    return _svg("Parts by score", HEIGHT, [*_stacked(columns), *marks, *_below(ends, HEIGHT)])


def days_chart(by_day: Mapping[str, Mapping[int, int]]) -> str:
    """Parts by day, OK, NG and UNKNOWN on top of each other."""
    columns = [{code: by_day[day].get(code, 0) for code in COLORS} for day in by_day]
    step = SPAN_X / max(1, len(columns))
    every = max(1, -(-LABELS_LEAST_PX // max(1, int(step))))
    labels = [
        (LEFT + step * (index + 0.5), day) for index, day in enumerate(by_day) if index % every == 0
    ]
    return _svg("Parts by day", HEIGHT, [*_stacked(columns), *_below(labels, HEIGHT)])


def scores_chart(scores: Sequence[float], threshold: float | None) -> str:
    """One dot per part by its score, neighbors at different heights; the threshold across."""
    values = [*scores, *([] if threshold is None else [threshold])]
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def x_of(value: float) -> float:
        return LEFT + SPAN_X * (value - low) / (high - low)

    floor = DOTS_HEIGHT - BOTTOM
    dots = [
        f'<circle cx="{x_of(score):.1f}" cy="{floor - 8 - 7 * (index % 5)}" r="4"'
        f' fill="{COLORS[Code.OK]}" fill-opacity="0.7"/>'
        for index, score in enumerate(scores)
    ]
    marks = [] if threshold is None else [
        _line_at(x_of(threshold), f"threshold {threshold:.4g}", floor)
    ]  # fmt: skip
    ends = [(x_of(value), f"{value:.4g}") for value in (low, (low + high) / 2, high)]
    return _svg("Scores of the parts", DOTS_HEIGHT, [*dots, *marks, *_below(ends, DOTS_HEIGHT)])


def _stacked(columns: Sequence[Mapping[Code, int]]) -> list[str]:
    """Bars from the floor up, and the largest count beside the axis."""
    most = max([sum(column.values()) for column in columns] or [0]) or 1
    step = SPAN_X / max(1, len(columns))
    drawn = []
    for index, column in enumerate(columns):
        floor = float(TOP + SPAN_Y)
        for code, color in COLORS.items():
            height = SPAN_Y * column[code] / most
            floor -= height
            if column[code]:
                drawn.append(
                    f'<rect x="{LEFT + step * index + 0.5:.1f}" y="{floor:.2f}"'
                    f' width="{max(0.6, step - 1):.2f}" height="{max(height, 0.8):.2f}"'
                    f' fill="{color}"/>'
                )
    return [
        _text(LEFT - 6, TOP + 4, str(most), "end"),
        _text(LEFT - 6, TOP + SPAN_Y, "0", "end"),
        *drawn,
    ]


def _line_at(x: float, said: str, floor: float = TOP + SPAN_Y) -> str:
    anchor = "end" if x > LEFT + SPAN_X / 2 else "start"
    beside = x - 5 if anchor == "end" else x + 5
    return (
        f'<line x1="{x:.1f}" y1="{TOP - 12}" x2="{x:.1f}" y2="{floor}" stroke="{THRESHOLD}"'
        f' stroke-width="1.5" stroke-dasharray="5 3"/>{_text(beside, TOP - 6, said, anchor)}'
    )


def _below(labels: Sequence[tuple[float, str]], height: int) -> list[str]:
    floor = height - BOTTOM
    axis = f'<line x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}" stroke="{LINE}"/>'
    return [axis, *(_text(x, floor + 16, said, "middle") for x, said in labels)]


def _text(x: float, y: float, said: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" fill="{SOFT}">'
        f"{escape(said)}</text>"
    )


def _svg(title: str, height: int, inside: Sequence[str]) -> str:
    head = (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
        f' aria-label="{escape(title)}" font-family="inherit">'
    )
    return "".join([head, *inside, "</svg>"])
