"""What another threshold would have done: counts that agree with the station's own rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.archive.labels import Label
from edge.archive.query import Row
from edge.page import charts
from edge.page.charts import (
    BINS,
    LEFT,
    MOST_TICKS,
    PLOT_HEIGHT,
    PLOT_WIDTH,
    count_axis,
    day_bars,
    histogram,
    score_axis,
)
from edge.page.engineer import STEPS
from edge.page.what_if import comparable, effect_of, percentile
from tests.support.recorded import fields_of


def row(seq: int, label: str | None = None, **changed: Any) -> Row:
    fields = {**fields_of(seq), **changed}
    said = None if label is None else Label(seq, fields["judged_at"], label, "", "q", "")
    return Row(seq, fields, said)


def judged(*rows: Row) -> Any:
    return comparable(rows).parts


def test_the_threshold_that_judged_changes_no_verdict() -> None:
    found = comparable([row(seq) for seq in range(500, 0, -1)])
    assert found.threshold == 2.0
    effect = effect_of(found.parts, 2.0)
    assert (effect.newly_rejected, effect.newly_accepted) == ((), ())
    assert effect.rejected["unlabeled"] == sum(part.code == 2 for part in found.parts) > 10


def test_another_threshold_counts_by_label() -> None:
    parts = judged(
        row(9, "good", score=1.0, code=1),
        row(8, "good", score=3.0, code=2),
        row(7, "bad", score=3.5, code=2),
        row(6, "bad", score=1.2, code=1),
        row(5, None, score=0.5, code=1),
    )
    effect = effect_of(parts, 1.1)
    assert effect.rejected == {"good": 1, "bad": 2, "unlabeled": 0}
    assert effect.accepted == {"good": 1, "bad": 0, "unlabeled": 1}
    assert [part.seq for part in effect.newly_rejected] == [6]
    assert [part.seq for part in effect_of(parts, 3.2).newly_accepted] == [8]


@pytest.mark.parametrize("score", [0.1, 13.25, 1 / 3, 1e-7])
def test_a_score_at_the_threshold_is_accepted_as_float32(score: float) -> None:
    exact = float(np.float32(score))
    (part,) = judged(row(1, score=exact, code=1))
    assert not part.is_rejected(score), "the same float32"
    assert not part.is_rejected(exact)
    assert part.is_rejected(float(np.nextafter(np.float32(score), np.float32(0))))


@pytest.mark.parametrize("huge", [1e300, 3.5e38])
def test_a_threshold_beyond_float32_rejects_nothing(huge: float) -> None:
    (part,) = judged(row(1, score=5.0, code=2))
    assert not part.is_rejected(huge)
    assert part.is_rejected(-huge)


@pytest.mark.parametrize(
    ("key", "value"),
    [("bundle", "2.0.0-ffffffffffff"), ("engine", "tensorrt"), ("model_state", "abc")],
)
def test_parts_that_something_else_judged_are_left_out_and_counted(key: str, value: str) -> None:
    older = [row(seq, **{key: value}) for seq in (3, 2, 1)]
    found = comparable([row(5), row(4), *older])
    assert [part.seq for part in found.parts] == [5, 4]
    assert found.others == 3


def test_unjudged_parts_and_damaged_records_are_passed_over() -> None:
    rows = [row(5, code=3), row(4, score=None), row(3, score="2"), row(2, code=7), row(1)]
    assert [part.seq for part in comparable(rows).parts] == [1]
    assert comparable(rows[:4]).threshold is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_percentiles_are_measured_values(share: float, expected: float) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected
    assert percentile([], share) is None
    assert percentile([7.0], share) == 7.0


def test_a_histogram_holds_every_part_once() -> None:
    rng = np.random.default_rng(0)
    scores = rng.lognormal(0, 1.2, 1000).tolist()
    axis = score_axis(scores, 2.0)
    assert axis.logarithmic, "scores span more than a factor of 20"
    bars = histogram({"good": scores[:300], "unlabeled": scores[300:]}, axis)
    assert sum(bar.count for bar in bars.bars) == 1000
    one = PLOT_HEIGHT / bars.y.high
    assert all(bar.height == pytest.approx(bar.count * one, abs=0.2) for bar in bars.bars)
    assert all(LEFT <= bar.x <= LEFT + PLOT_WIDTH for bar in bars.bars)
    assert len({bar.x for bar in bars.bars}) <= BINS


@pytest.mark.parametrize("scores", [[0.0], [-1.0, 2.0], [5.0, 5.0], [1e-30, 1e30]])
def test_every_score_lies_on_the_axis(scores: list[float]) -> None:
    axis = score_axis(scores, scores[0])
    assert all(0 <= axis.share(score) <= 1 for score in scores)
    assert axis.low < min(scores) or axis.low < max(scores)
    assert histogram({"good": scores}, axis).bars
    assert 1 <= len(axis.ticks()) <= MOST_TICKS


def test_days_stand_beside_each_other_in_order() -> None:
    bars = day_bars({"2026-11-20": {"ok": 5, "ng": 1}, "2026-11-21": {"ok": 3}}, ("ok", "ng"))
    assert [bar.kind for bar in bars.bars] == ["ok", "ng", "ok"]
    assert bars.bars[0].x == bars.bars[1].x < bars.bars[2].x
    assert bars.bars[1].y + bars.bars[1].height == pytest.approx(bars.bars[0].y, abs=0.11)
    assert [mark for _, mark in bars.marks] == ["11-20", "11-21"]
    assert count_axis(0).high >= 1


def test_the_script_draws_where_the_chart_does() -> None:
    folder = Path(charts.__file__).parent
    script = (folder / "static/threshold.js").read_text(encoding="utf-8")
    assert f"LEFT = {LEFT}, PLOT = {PLOT_WIDTH}, STEPS = {STEPS}" in script
    template = (folder / "templates/charts.html").read_text(encoding="utf-8")
    assert f'viewBox="0 0 {charts.WIDTH} {charts.HEIGHT}"' in template
    assert f'x1="{LEFT}" x2="{LEFT + PLOT_WIDTH}"' in template
    assert f'y1="{charts.TOP}" y2="{charts.TOP + PLOT_HEIGHT}"' in template
