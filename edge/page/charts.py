"""Where the marks of a chart stand, in units of its view box; templates/charts.html draws them. No
script, no style: colors come from the classes of page.css, so that charts follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 56, 8, 18, 26  # margins inside the view box
PLOT_WIDTH, PLOT_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
BINS = 48
LOG_FROM = 20  # positive scores that span this factor stand on a logarithmic axis
STEPS = (1, 2, 5, 10)
MOST_TICKS = 9  # on one axis


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on a line. logarithmic: needs low > 0."""

    low: float
    high: float
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """0 at `low`, 1 at `high`; values outside stand at the ends."""
        if self.logarithmic:
            value = max(value, self.low)
            at = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            at = (value - self.low) / (self.high - self.low)
        return min(1.0, max(0.0, at))

    def x(self, value: float) -> float:
        """In units of the view box, from the left."""
        return round(LEFT + PLOT_WIDTH * self.share(value), 1)

    def y(self, value: float) -> float:
        """In units of the view box, from the top."""
        return round(TOP + PLOT_HEIGHT * (1 - self.share(value)), 1)

    def ticks(self, about: int = 5) -> list[float]:
        """Round values between the ends."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            marks = [digit * 10.0**power for power in decades for digit in (1, 2, 5)]
        else:
            step = round_step((self.high - self.low) / about)
            first = math.ceil(self.low / step)
            marks = [number * step for number in range(first, first + 2 * about + 2)]
        inside = [mark for mark in marks if self.low <= mark <= self.high]
        return inside[:: max(1, math.ceil(len(inside) / MOST_TICKS))]


@dataclass(frozen=True)
class Bar:
    """One rectangle. kind: the class that colors it. where: the day, or empty. count: of parts."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    where: str
    count: int


@dataclass(frozen=True)
class Bars:
    """A chart of stacked bars. x, y: the axes. marks: (place from the left, text) below it."""

    bars: tuple[Bar, ...]
    y: Axis
    marks: tuple[tuple[float, str], ...]
    x: Axis | None = None


def round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in STEPS if step * power >= rough * (1 - 1e-9))


def count_axis(most: int) -> Axis:
    """From 0 to a round number that is at least `most`."""
    step = max(1.0, round_step(max(most, 1) / 4))
    return Axis(0, step * math.ceil(max(most, 1) / step))


def score_axis(scores: Sequence[float], threshold: float) -> Axis:
    """Over all scores and the threshold, with a margin."""
    low, high = min(*scores, threshold), max(*scores, threshold)
    if low > 0 and high / low > LOG_FROM:
        return Axis(low / 1.1, high * 1.1, logarithmic=True)
    margin = 0.04 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - margin, high + margin)


def day_bars(days: Mapping[str, Mapping[str, int]], kinds: Sequence[str]) -> Bars:
    """One stacked bar for each day.

    days: counts by kind for each day, oldest first. kinds: from the ground up.
    """
    y = count_axis(max((sum(counts.values()) for counts in days.values()), default=1))
    slot = PLOT_WIDTH / max(len(days), 1)
    width = min(0.8 * slot, 48.0)
    bars: list[Bar] = []
    marks = []
    every = math.ceil(len(days) / 8)
    for number, (day, counts) in enumerate(days.items()):
        middle = LEFT + slot * (number + 0.5)
        bars += _stack(middle - width / 2, width, [(k, counts.get(k, 0)) for k in kinds], y, day)
        if number % every == 0:
            marks.append((round(middle, 1), day[5:]))
    return Bars(tuple(bars), y, tuple(marks))


def histogram(scores: Mapping[str, Sequence[float]], axis: Axis) -> Bars:
    """Counts of scores in BINS intervals of `axis`, stacked by kind.

    scores: by kind, from the ground up.
    """
    counts = {kind: [0] * BINS for kind in scores}
    for kind, values in scores.items():
        for value in values:
            counts[kind][min(BINS - 1, int(axis.share(value) * BINS))] += 1
    totals = [sum(counts[kind][place] for kind in counts) for place in range(BINS)]
    y, width = count_axis(max(totals)), PLOT_WIDTH / BINS
    bars: list[Bar] = []
    for place in range(BINS):
        stack = [(kind, counts[kind][place]) for kind in counts]
        bars += _stack(LEFT + place * width, width - 1, stack, y, "")
    marks = tuple((axis.x(tick), f"{tick:.6g}") for tick in axis.ticks())
    return Bars(tuple(bars), y, marks, axis)


def polyline(values: Sequence[float], axis: Axis) -> str:
    """`points` of a line through values at equal distances, over the whole width."""
    step = PLOT_WIDTH / max(len(values) - 1, 1)
    return " ".join(
        f"{LEFT + number * step:.1f},{axis.y(value)}" for number, value in enumerate(values)
    )


def _stack(
    x: float, width: float, counts: Sequence[tuple[str, int]], y: Axis, where: str
) -> list[Bar]:
    bars, below = [], 0
    for kind, count in counts:
        if count:
            top, foot = y.y(below + count), y.y(below)
            size = round(width, 1), round(foot - top, 1)
            bars.append(Bar(round(x, 1), top, *size, kind, where, count))
            below += count
    return bars
