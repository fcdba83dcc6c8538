"""What the experiment of tests/benchmarks/site.py counts: checked against counting by hand in
float64, on scores that were made up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scripts.write_docs import table_of
from tests.benchmarks.site import SCENES, SHOWN
from tests.benchmarks.site_counts import (
    LEAST_LOSS,
    WAYS,
    Answers,
    Outcome,
    Row,
    Table,
    Way,
    answers_at,
    draws_of,
    outcome_of,
    pooled,
    recovered,
)
from trainer.synthetic.scene_change import parse_scene

OUTCOME = Outcome(auroc=0.8, rejected=3, good=60, missed=10, defective=80, promised=1 / 11)


def row(way: Way, parts: int, auroc: float, rejected: int = 3, scene: str = "gain") -> Row:
    return Row(
        "MATS", "washer", scene, way, parts, replace(OUTCOME, auroc=auroc, rejected=rejected)
    )


def in_pairs(scores: np.ndarray, defective: np.ndarray) -> float:
    """I-AUROC by comparing every defective part with every good one."""
    bad, good = scores[defective].astype(np.float64), scores[~defective].astype(np.float64)
    above = (bad[:, None] > good).sum() + 0.5 * (bad[:, None] == good).sum()
    return float(above / (bad.size * good.size))


def test_the_counts_are_those_of_counting_by_hand() -> None:
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(3):
        scores = np.round(rng.normal(0, 1, 90), 1).astype(np.float32)  # with ties
        defective = rng.random(90) < 0.4
        scores[defective] += np.float32(0.7)
        draws.append(Answers(scores, rng.random(90) < 0.5, defective))
    found = outcome_of(draws, promised=0.05)
    assert found.auroc == pytest.approx(
        np.mean([in_pairs(one.scores, one.defective) for one in draws]), abs=1e-12
    )
    verdicts = [
        (bool(ok), bool(bad))
        for one in draws
        for ok, bad in zip(one.is_ok, one.defective, strict=True)
    ]
    assert found.rejected == verdicts.count((False, False))
    assert found.missed == verdicts.count((True, True))
    assert found.good + found.defective == len(verdicts) == 270
    assert found.false_rejects == found.rejected / found.good
    assert found.misses == found.missed / found.defective


def test_a_part_that_is_not_judged_is_rejected_and_a_score_at_the_threshold_is_ok() -> None:
    at, above = np.float32(0.1), np.nextafter(np.float32(0.1), np.float32(1))
    found = [(at, True), (above, True), (np.float32(0), False), (np.float32(0), True)]
    answers = answers_at(found, np.array([False, False, False, True]), 0.1)
    assert answers.is_ok.tolist() == [True, False, False, True]
    counts = outcome_of([answers], 0.0)
    assert (counts.rejected, counts.good, counts.missed, counts.defective) == (2, 3, 1, 1)


def test_what_is_recovered_is_a_share_of_what_retraining_wins_back() -> None:
    assert recovered(0.6, 0.9, 0.9) == pytest.approx(1.0)
    assert recovered(0.6, 0.75, 0.9) == pytest.approx(0.5)
    assert recovered(0.6, 0.5, 0.9) == pytest.approx(-1 / 3)  # it may harm
    assert recovered(0.9, 0.95, 0.9 + LEAST_LOSS / 2) is None  # nothing was lost
    assert recovered(0.9, 0.8, 0.7) is None


def test_products_together_are_sums_of_counts_and_means_of_aurocs() -> None:
    both = pooled([row("none", 0, 0.8, rejected=3), row("none", 0, 0.6, rejected=30)])
    assert both == replace(
        OUTCOME, auroc=pytest.approx(0.7), rejected=33, good=120, missed=20, defective=160
    )
    assert pooled([]) is None


def test_the_tables_have_a_cell_for_every_column_and_can_be_written() -> None:
    rows = [
        row("none", 0, 0.6, rejected=60),
        *(row("threshold", parts, 0.6) for parts in SHOWN),
        *(row("adapted", parts, 0.89) for parts in SHOWN),
        row("retrained", 0, 0.9),
    ]
    table = Table([*rows, row("none", 0, 0.9, scene="distance")])
    for columns, lines in (table.ranking(), table.verdicts(), table.by_parts()):
        written = table_of({"columns": columns, "rows": lines})
        assert {line.count("|") for line in written} == {len(columns) + 1}
    columns, lines = table.ranking()
    assert lines[0][2:] == [
        pytest.approx(60.0),
        pytest.approx(89.0),
        None,
        pytest.approx(90.0),
        pytest.approx(100 * 0.29 / 0.30, abs=0.005),
        "yes",
    ]
    assert lines[1][2:] == [pytest.approx(90.0), None, None, None, None, None]
    _, (first, _) = table.verdicts()
    assert first[2:8] == [9.09, 100.0, 5.0, 5.0, None, 5.0]


def test_numbers_of_parts_are_compared_over_scenes_that_have_all_of_them_for_every_system() -> None:
    one, other = row("adapted", 3, 0.8), row("adapted", 10, 0.9)
    apart = row("adapted", 10, 0.5, scene="distance")  # not shown 3 parts
    table = Table([one, other, apart])
    assert table.compared() == [one.scene]
    columns, lines = table.by_parts()
    ranked = columns.index("I-AUROC, shift, scale")
    assert [(line[1], line[ranked]) for line in lines] == [(3, 80.0), (10, 90.0)]
    second = replace(other, system="M3DM")  # the scene has no 3 parts of this system
    assert Table([*table.rows, second]).compared() == []


@pytest.mark.parametrize(
    ("auroc", "rejected", "told"),
    [
        (0.886, 10, "yes"),
        (0.884, 10, "no: ranking"),
        (0.89, 11, "no: false rejects"),
        (0.7, 12, "no: ranking, false rejects"),
    ],
)
def test_the_goal_is_95_percent_and_twice_the_promised_rate(
    auroc: float, rejected: int, told: str
) -> None:
    rows = [row("none", 0, 0.6), row("adapted", 10, auroc, rejected), row("retrained", 0, 0.9)]
    _, lines = Table(rows).ranking()
    assert lines[0][-1] == told


def test_a_row_survives_the_file() -> None:
    one = row("adapted", 10, 0.8)
    assert Row.read(one.plain()) == one
    assert one.way in WAYS


def test_the_parts_shown_are_different_ones_and_the_same_in_every_scene() -> None:
    for count in SHOWN:
        drawn = draws_of(80, count, 3)
        assert [len(set(one.tolist())) for one in drawn] == [count] * 3
        assert not np.array_equal(drawn[0], drawn[1])
        np.testing.assert_array_equal(drawn[2], draws_of(80, count, 3)[2])


def test_every_scene_is_one_that_can_be_synthesized() -> None:
    changes = {name: parse_scene(text) for name, text in SCENES.items() if text}
    assert len(set(changes.values())) == len(SCENES) - 1
