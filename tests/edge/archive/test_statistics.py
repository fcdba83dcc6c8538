"""The station's own count of false rejects against the truth, and the bound against scipy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

from edge.archive.filters import RecordFilter
from edge.archive.labels import add_label, read_labels
from edge.archive.statistics import FalseRejects, false_rejects, upper_bound
from tests.support.archive import THRESHOLD, judged, unknown, write_records

EVERY = RecordFilter(limit=None)


def planted(root: Path, parts: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Records of parts of which it is known whether they are defective; every tenth is UNKNOWN.

    Returns: (is it defective, score; NaN where UNKNOWN), by number from 1.
    """
    random = np.random.default_rng(17)
    defective = random.random(parts) < 0.08
    scores = np.where(defective, random.normal(14, 3, parts), random.normal(6, 1.6, parts))
    scores = np.maximum(0.1, scores.astype(np.float32).astype(float))
    scores[::10] = np.nan
    write_records(
        root,
        [
            unknown(seq) if np.isnan(score) else judged(seq, float(score))
            for seq, score in enumerate(scores, 1)
        ],
    )
    return defective, scores


def test_the_count_agrees_with_the_truth_on_1000_parts(tmp_path: Path) -> None:
    defective, scores = planted(tmp_path)
    ng, ok = scores > THRESHOLD, scores <= THRESHOLD
    labelled = ng | (ok & (np.arange(1000) % 20 == 0)) | (ok & defective)
    for index in np.flatnonzero(labelled):
        add_label(tmp_path, int(index) + 1, "bad" if defective[index] else "good")
    found = false_rejects(tmp_path, EVERY)
    truth = int((ng & ~defective).sum())
    assert truth > 5
    assert found.false_rejects == truth
    assert found.confirmed == int((ng & defective).sum())
    assert found.misses == int((ok & defective).sum())
    assert (found.ok, found.ng, found.unknown) == (ok.sum(), ng.sum(), 100)
    assert found.unlabelled == 0
    judged_good = int((~defective & ~np.isnan(scores)).sum())
    assert found.good == judged_good
    assert found.rate == truth / judged_good
    assert found.bound == pytest.approx(beta.ppf(0.95, truth + 1, judged_good - truth), rel=1e-9)


def test_what_nobody_looked_at_is_said(tmp_path: Path) -> None:
    write_records(tmp_path, [judged(n, 1.0 if n <= 40 else 20.0) for n in range(1, 51)])
    for seq, said in ((41, "good"), (42, "bad"), (43, "good"), (43, "none"), (1, "good")):
        add_label(tmp_path, seq, said)
    found = false_rejects(tmp_path, EVERY)
    assert (found.false_rejects, found.confirmed, found.unlabelled) == (1, 1, 8)
    assert found.checked == 1
    assert found.good == 41
    assert found.worst_bound == pytest.approx(beta.ppf(0.95, 10, 40), rel=1e-9)
    first, second, third = found.sentences()
    assert first.startswith("1 false reject in 41 good parts: 2.44%, with 95% confidence at most")
    assert second.startswith("8 NG parts without a label: if all were good, at most")
    assert third.startswith("0 misses")


def test_only_the_parts_that_are_asked_for(tmp_path: Path) -> None:
    write_records(
        tmp_path, [judged(n, 20.0, product="gear" if n > 5 else "washer") for n in range(1, 11)]
    )
    for seq in range(1, 11):
        add_label(tmp_path, seq, "good")
    found = false_rejects(tmp_path, RecordFilter(product="gear", codes=(1,), limit=1))
    assert (found.ng, found.false_rejects) == (5, 5)
    assert found.bound == 1.0


def test_without_a_part(tmp_path: Path) -> None:
    found = false_rejects(tmp_path, EVERY)
    assert found == FalseRejects()
    assert found.rate is None
    assert found.bound == 1.0
    assert "no rate" in found.sentences()[0]
    assert read_labels(tmp_path) == {}


@pytest.mark.parametrize(("parts", "bound"), [(59, 0.0495), (412, 0.0073), (299, 0.00997)])
def test_no_reject_among_so_many(parts: int, bound: float) -> None:
    assert upper_bound(0, parts) == pytest.approx(1 - 0.05 ** (1 / parts), abs=1e-12)
    assert upper_bound(0, parts) == pytest.approx(bound, rel=0.01)


@settings(deadline=None)
@given(parts=st.integers(1, 5000), share=st.floats(0, 1))
def test_the_bound_is_that_of_clopper_and_pearson(parts: int, share: float) -> None:
    rejected = round(parts * share)
    wanted = 1.0 if rejected == parts else beta.ppf(0.95, rejected + 1, parts - rejected)
    assert upper_bound(rejected, parts) == pytest.approx(wanted, rel=1e-6)
