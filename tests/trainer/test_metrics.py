"""Every metric against somebody else's implementation, or a threshold sweep that shares no code
with it.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import sklearn.metrics
import torch
import torchmetrics.functional.classification as torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainer import metrics
from trainer.metrics import (
    aupro,
    average_precision,
    image_auroc,
    pixel_auroc,
    pixel_curve,
    roc_curve,
)

Maps = list[NDArray[np.float32]]
Truths = list[NDArray[np.bool_] | None]


def _image_scores(
    seed: int, levels: int | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    labels = random.random(60) < 0.4
    scores = (random.random(60) + 0.3 * labels).astype(np.float32)
    return labels, scores if levels is None else np.round(scores * levels).astype(np.float32)


def _swept_precision(labels: NDArray[np.bool_], scores: NDArray[np.float32]) -> float:
    """Average precision: every distinct score as a threshold, from the highest."""
    total, recall = 0.0, 0.0
    for threshold in np.unique(scores)[::-1]:
        found = (scores >= threshold) & labels
        gained = found.sum() / labels.sum() - recall
        total += gained * found.sum() / (scores >= threshold).sum()
        recall += gained
    return total


@pytest.mark.parametrize("levels", [None, 3, 10])
@pytest.mark.parametrize("seed", range(3))
def test_image_metrics_agree_with_torchmetrics_and_a_count_of_every_threshold(
    seed: int, levels: int | None
) -> None:
    labels, scores = _image_scores(seed, levels)
    assert average_precision(labels, scores) == pytest.approx(
        _swept_precision(labels, scores), abs=1e-12
    )
    predicted, target = torch.sigmoid(torch.from_numpy(scores)), torch.from_numpy(labels).int()
    assert image_auroc(labels, scores) == pytest.approx(
        torchmetrics.binary_auroc(predicted, target).item(), abs=1e-6
    )
    other = torchmetrics.binary_average_precision(predicted, target).item()
    assert average_precision(labels, scores) == pytest.approx(other, abs=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=12))
@settings(max_examples=200, deadline=None)
def test_image_auroc_is_the_share_of_pairs_in_order_with_ties_half(
    images: list[tuple[bool, int]],
) -> None:
    defective = [score for label, score in images if label]
    normal = [score for label, score in images if not label]
    got = image_auroc(
        np.array([label for label, _ in images]), np.array([float(score) for _, score in images])
    )
    if not defective or not normal:
        assert np.isnan(got)
        return
    pairs = [(d > n) + 0.5 * (d == n) for d in defective for n in normal]
    assert got == pytest.approx(sum(pairs) / len(pairs))


def test_roc_curve_has_the_area_of_the_auroc_and_a_corner_at_every_distinct_score() -> None:
    labels, scores = _image_scores(4, levels=8)
    false_rate, true_rate = roc_curve(labels, scores)
    thresholds = np.unique(scores)[::-1]
    np.testing.assert_allclose(
        false_rate, [0, *((scores[~labels] >= threshold).mean() for threshold in thresholds)]
    )
    np.testing.assert_allclose(
        true_rate, [0, *((scores[labels] >= threshold).mean() for threshold in thresholds)]
    )
    assert np.trapezoid(true_rate, false_rate) == pytest.approx(image_auroc(labels, scores))
    with pytest.raises(ValueError, match="normal and defective"):
        roc_curve(np.ones(3, bool), np.arange(3.0))


def _pixel_data(seed: int, levels: int | None = None, size: int = 24) -> tuple[Maps, Truths]:
    """Six images: three defective with regions that touch at corners or lie apart, three normal."""
    random = np.random.default_rng(seed)
    maps: Maps = []
    truths: Truths = []
    for index in range(6):
        truth = np.zeros((size, size), bool)
        if index < 3:
            truth[2:6, 2:6] = truth[6:8, 6:8] = True  # one region: they meet at a corner
            truth[15 + index : 17 + index, 10:20] = True
            truth[22, 1] = True  # a region of one pixel
        anomaly_map = random.random((size, size)) + 0.5 * truth * random.random()
        maps.append(
            (anomaly_map if levels is None else np.round(anomaly_map * levels)).astype(np.float32)
        )
        truths.append(truth)
    return maps, truths


def _swept_aupro(maps: Maps, truths: Truths, limit: float) -> float:
    """Every distinct value as a threshold, every region counted anew; the curve by interpolation on
    a fine grid.
    """
    known = [(m, t) for m, t in zip(maps, truths, strict=True) if t is not None]
    thresholds = np.unique(np.concatenate([m.ravel() for m, _ in known]))[::-1]
    labeled = [scipy.ndimage.label(t, structure=np.ones((3, 3))) for _, t in known]
    rates, overlaps = [0.0], [0.0]
    for threshold in thresholds:
        alarms = sum(((m >= threshold) & ~t).sum() for m, t in known)
        shares = [
            (m[numbers == region] >= threshold).mean()
            for (m, _), (numbers, count) in zip(known, labeled, strict=True)
            for region in range(1, count + 1)
        ]
        rates.append(alarms / sum((~t).sum() for _, t in known))
        overlaps.append(float(np.mean(shares)))
    area = 0.0
    for x0, x1, y0, y1 in zip(rates, rates[1:], overlaps, overlaps[1:], strict=False):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0) if x1 > x0 else y1
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.mark.parametrize("levels", [None, 4, 20])
@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3, 1.0])
def test_aupro_equals_a_brute_force_sweep_over_every_threshold(
    limit: float, levels: int | None
) -> None:
    maps, truths = _pixel_data(1, levels)
    assert aupro(maps, truths, limit) == pytest.approx(_swept_aupro(maps, truths, limit), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 5])
def test_pixel_auroc_agrees_with_scikit_learn_over_all_pixels(levels: int | None) -> None:
    maps, truths = _pixel_data(2, levels)
    wanted = sklearn.metrics.roc_auc_score(
        np.stack([t for t in truths if t is not None]).ravel(), np.stack(maps).ravel()
    )
    assert pixel_auroc(maps, truths) == pytest.approx(wanted, abs=1e-12)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, truths = _pixel_data(3, levels=7)
    whole = pixel_curve(maps, truths)
    monkeypatch.setattr(metrics, "CHUNK_PIXELS", 700)
    pieces = pixel_curve(maps, truths)
    np.testing.assert_array_equal(pieces.above, whole.above)
    np.testing.assert_array_equal(pieces.equal, whole.equal)
    assert pieces.normal_pixels == whole.normal_pixels


def test_a_small_region_weighs_as_much_as_a_large_one() -> None:
    truth = np.zeros((20, 20), bool)
    truth[0:10, 0:10] = True
    truth[19, 19] = True
    found_large, found_small = np.zeros((20, 20), np.float32), np.zeros((20, 20), np.float32)
    found_large[:10, :10] = 1
    found_small[19, 19] = 1
    assert aupro([found_large], [truth], 0.3) == pytest.approx(aupro([found_small], [truth], 0.3))
    assert pixel_auroc([found_large], [truth]) > pixel_auroc([found_small], [truth])


def test_an_image_without_pixel_truth_does_not_count_in_the_pixel_metrics() -> None:
    maps, truths = _pixel_data(5)
    wanted = pixel_curve(maps, truths)
    more = pixel_curve([*maps, maps[0] * 100], [*truths, None])
    assert (more.auroc(), more.aupro()) == (wanted.auroc(), wanted.aupro())


def test_a_perfect_map_has_every_metric_at_one() -> None:
    _, truths = _pixel_data(6)
    curve = pixel_curve([t.astype(np.float32) for t in truths if t is not None], truths)
    assert curve.auroc() == 1
    assert curve.aupro(0.3) == pytest.approx(1)
    assert curve.aupro(0.05) == pytest.approx(1)


def test_a_coarse_map_is_brought_to_the_size_of_its_truth() -> None:
    truth = np.zeros((64, 64), bool)
    truth[16:32, 16:32] = True
    coarse = truth[::4, ::4].astype(np.float32)
    assert pixel_auroc([coarse], [truth]) > 0.99


def test_metrics_gather_the_single_functions() -> None:
    maps, truths = _pixel_data(7)
    labels = np.array([t is not None and bool(t.any()) for t in truths])
    scores = np.array([m.max() for m in maps])
    row = metrics.metrics_of("all", labels, scores, maps, truths)
    assert (row.name, row.normal, row.defective) == ("all", 3, 3)
    assert row.image_auroc == image_auroc(labels, scores)
    assert row.average_precision == average_precision(labels, scores)
    assert row.pixel_auroc == pixel_auroc(maps, truths)
    limits = (0.3, 0.05, 0.01)
    wanted = tuple(aupro(maps, truths, limit) for limit in limits)
    assert (row.aupro_30, row.aupro_05, row.aupro_01) == wanted
    assert len(set(wanted)) == len(limits)


def test_a_metric_without_one_of_the_classes_is_nan() -> None:
    normal, score = np.zeros((4, 4), bool), np.zeros((4, 4), np.float32)
    assert np.isnan(pixel_auroc([score], [normal]))
    assert np.isnan(aupro([score], [normal]))
    assert np.isnan(pixel_auroc([score], [None]))
    assert np.isnan(pixel_auroc([score], [~normal]))
    assert np.isnan(image_auroc(np.array([True]), np.array([1.0])))
    assert np.isnan(average_precision(np.array([False]), np.array([1.0])))


def test_what_cannot_be_ranked_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        image_auroc(np.array([True, False]), np.array([np.nan, 1.0]))
    with pytest.raises(ValueError, match="not finite"):
        pixel_auroc([np.full((2, 2), np.inf, np.float32)], [np.eye(2, dtype=bool)])
    with pytest.raises(ValueError, match="belong together"):
        pixel_auroc([np.zeros((2, 2), np.float32)], [])
    with pytest.raises(ValueError, match="one length"):
        image_auroc(np.array([True]), np.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="limit"):
        aupro([np.zeros((2, 2), np.float32)], [np.eye(2, dtype=bool)], 0.0)
