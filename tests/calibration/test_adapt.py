"""Site inputs from a few parts: what they do to the features, and that no part is measured by what
it has fitted itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.adapt import (
    LEAST_SCALE,
    MOST_SCALE,
    ROWS_OF_A_PART,
    Adaptable,
    PartFeatures,
    coreset,
    features_of,
    pooled,
    shift_and_scale,
)
from edge.bundle.manifest import ChannelStatistics
from edge.errors import EngineError

CHANNELS = 64
Scores = Callable[[list[PartFeatures], Adaptable], NDArray[np.float64]]


def parts_of(means: NDArray[np.float64], within: float = 0.1) -> list[PartFeatures]:
    return [PartFeatures(mean, np.full(means.shape[1], within**2)) for mean in means]


def adapted(values: NDArray[np.float64], tensors: dict[str, NDArray[np.float32]]) -> NDArray:
    return (values - tensors["shift"]) * tensors["scale"]


# --- what shift and scale do ---


@given(
    mean=st.floats(-50, 50), deviation=st.floats(0.1, 10),
    training=st.tuples(st.floats(-50, 50), st.floats(0.1, 10)),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_the_features_come_to_lie_where_they_were_in_training(
    mean: float, deviation: float, training: tuple[float, float]
) -> None:
    site = np.array([mean]), np.array([deviation])
    shift, scale = shift_and_scale(*site, np.array([training[0]]), np.array([training[1]]))
    assert (mean - shift[0]) * scale[0] == pytest.approx(training[0], abs=1e-6)
    assert LEAST_SCALE <= scale[0] <= MOST_SCALE
    if LEAST_SCALE < training[1] / deviation < MOST_SCALE:
        assert deviation * scale[0] == pytest.approx(training[1])


def test_the_parts_of_the_training_change_nothing() -> None:
    rng = np.random.default_rng(0)
    moments = [
        np.stack([rng.normal(3, 1, CHANNELS), rng.uniform(0.5, 2, CHANNELS)])[None].astype("f4")
        for _ in range(30)
    ]
    known = ChannelStatistics.of_parts(moments)
    parts = [features_of([{"moments": one}], with_rows=False) for one in moments]
    tensors = Adaptable(np.array(known.mean), np.array(known.deviation)).fit(parts)
    np.testing.assert_allclose(tensors["shift"], 0, atol=1e-5)
    np.testing.assert_allclose(tensors["scale"], 1, atol=1e-5)
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "shift": np.float32,
        "scale": np.float32,
    }


def test_channels_that_are_as_good_as_constant_stay_neutral() -> None:
    site = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1e-5, 1.0, 1.0])
    training = np.array([5.0, 5.0, 5.0, 5.0]), np.array([1.0, 1.0, 0.0, 2.0])
    shift, scale = shift_and_scale(*site, *training)
    assert shift[:3].tolist() == [0, 0, 0]
    assert scale.tolist() == [1, 1, 1, 2]
    dead = np.zeros(4)
    assert shift_and_scale(dead, dead, dead, dead)[1].tolist() == [1, 1, 1, 1]


def test_a_few_far_cells_do_not_move_a_channel() -> None:
    """Depth that has become noisy: most cells lie as in training, some holes lie 300 deviations
    away. The mean of all of them is nobody's. The second channel is only moved and spread.
    """
    rng = np.random.default_rng(2)
    noisy = rng.normal(0, 1, (5, 10_000))
    noisy[:, :800] = 300
    cells = np.stack([noisy, rng.normal(7, 1.9, (5, 10_000))], axis=1)  # parts, channels, cells
    parts = [PartFeatures(part.mean(axis=1), part.var(axis=1)) for part in cells]
    tensors = Adaptable(np.zeros(2), np.ones(2)).fit(parts)
    assert (tensors["shift"][0], tensors["scale"][0]) == (0, 1)
    assert adapted(cells[0, 1].mean(), tensors)[1] == pytest.approx(0, abs=0.05)


def test_one_odd_part_does_not_stop_a_correction() -> None:
    parts = [PartFeatures(np.full(1, 5.0), np.ones(1)) for _ in range(9)]
    odd = PartFeatures(np.full(1, 9.0), np.full(1, 100.0))
    tensors = Adaptable(np.zeros(1), np.ones(1)).fit([*parts, odd])
    assert tensors["shift"][0] > 4


def test_moments_of_several_frames_and_parts_are_pooled() -> None:
    rng = np.random.default_rng(1)
    cells = rng.normal(rng.normal(0, 2, (5, 1)), 1.5, (5, 4000))  # five parts of one channel
    outputs = [
        [{"moments": np.array([[[one.mean()], [one.var()]]], np.float32)}] * 3 for one in cells
    ]
    mean, deviation = pooled([features_of(frames, with_rows=False) for frames in outputs])
    assert mean[0] == pytest.approx(cells.mean(), abs=1e-5)
    assert deviation[0] == pytest.approx(cells.std(), rel=1e-5)


def test_a_graph_without_moments_and_moments_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(EngineError, match="gave no moments"):
        features_of([{"score": np.zeros(1)}], with_rows=False)
    with pytest.raises(EngineError, match="not finite"):
        features_of([{"moments": np.full((1, 2, 3), np.nan)}], with_rows=False)


# --- spare rows ---


def test_a_coreset_covers_what_the_rows_show() -> None:
    rng = np.random.default_rng(2)
    kinds = rng.normal(0, 100, (6, 8))
    rows = (kinds[:, None] + rng.normal(0, 1, (6, 50, 8))).reshape(-1, 8)
    chosen = coreset(rows, 6)
    assert sorted(chosen // 50) == [0, 1, 2, 3, 4, 5]  # one of each kind
    assert len(set(coreset(rows, 64).tolist())) == 64
    assert coreset(rows[:3], 6).tolist() == [0, 1, 2]


def test_rows_are_cells_of_the_part_as_they_are_after_shift_and_scale() -> None:
    features = np.arange(2 * 4 * 4, dtype=np.float32).reshape(1, 2, 4, 4)
    map_ = np.zeros((1, 1, 8, 8), np.float32)
    map_[0, 0, 2:6, 4:] = 1.0  # rows 1 and 2, columns 2 and 3 of the features
    moments = np.array([[[8.0, 8.0], [4.0, 4.0]]], np.float32)
    part = features_of([{"moments": moments, "features": features, "map": map_}], with_rows=True)
    assert part.rows is not None
    assert part.rows.tolist() == [[6, 22], [7, 23], [10, 26], [11, 27]]
    tensors = Adaptable(np.array([16.0, 16.0]), np.array([4.0, 4.0]), spare=6).fit([part, part])
    np.testing.assert_allclose(tensors["scale"], 2)
    assert tensors["spare_valid"].tolist() == [1] * 6
    mean = adapted(part.rows, tensors)
    assert {tuple(row) for row in tensors["spare"].tolist()} == {tuple(row) for row in mean}


def test_many_cells_are_thinned_and_few_rows_leave_room() -> None:
    features = np.random.default_rng(3).normal(0, 1, (1, 2, 64, 64)).astype(np.float32)
    map_ = np.ones((1, 1, 64, 64), np.float32)
    moments = np.ones((1, 2, 2), np.float32)
    part = features_of([{"moments": moments, "features": features, "map": map_}], with_rows=True)
    assert part.rows is not None
    assert 0.5 * ROWS_OF_A_PART < len(part.rows) <= ROWS_OF_A_PART
    few = PartFeatures(part.mean, part.variance, part.rows[:3])
    tensors = Adaptable(np.ones(2), np.ones(2), spare=8).fit([few])
    assert tensors["spare_valid"].tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert not tensors["spare"][3:].any()


def test_what_a_part_fits_is_left_out_when_it_is_scored() -> None:
    rng = np.random.default_rng(4)
    parts = [
        PartFeatures(mean, np.ones(2), np.full((5, 2), number, np.float32))
        for number, mean in enumerate(rng.normal(0, 1, (4, 2)))
    ]
    adaptable = Adaptable(np.zeros(2), np.ones(2), spare=64)
    for number, tensors in enumerate(adaptable.left_out(parts)):
        others = [part for part in parts if part is not parts[number]]
        for name, tensor in adaptable.fit(others).items():
            np.testing.assert_array_equal(tensors[name], tensor)
        rows = tensors["spare"] / tensors["scale"] + tensors["shift"]
        kinds = set(np.round(rows[tensors["spare_valid"] > 0, 0]).astype(int).tolist())
        assert kinds == {0, 1, 2, 3} - {number}


# --- the false-reject rate that comes of it ---


def naive(parts: list[PartFeatures], adaptable: Adaptable) -> NDArray[np.float64]:
    """Every part scored under the site inputs that it has fitted too."""
    tensors = adaptable.fit(parts)
    return np.array([distance(part.mean, tensors) for part in parts])


def left_out(parts: list[PartFeatures], adaptable: Adaptable) -> NDArray[np.float64]:
    each = adaptable.left_out(parts)
    return np.array(
        [distance(part.mean, tensors) for part, tensors in zip(parts, each, strict=True)]
    )


def distance(mean: NDArray[np.float64], tensors: dict[str, NDArray[np.float32]]) -> float:
    """A detector whose score is the mean square over the channels, which lie at 0 in training."""
    return float((adapted(mean, tensors) ** 2).mean())


def rejected(scores_of: Scores, count: int, seed: int, fit: slice = slice(None)) -> float:
    """Share of later normal parts above the highest of the scores, over many stations."""
    rng = np.random.default_rng(seed)
    adaptable = Adaptable(np.zeros(CHANNELS), np.ones(CHANNELS))
    rates = []
    for _ in range(300):
        place, spread = rng.normal(0, 3, CHANNELS), rng.uniform(0.7, 1.4, CHANNELS)
        means = place + spread * rng.normal(0, 1, (count + 200, CHANNELS))
        parts = parts_of(means[:count])
        threshold = scores_of(parts, adaptable).max()
        tensors = adaptable.fit(parts[fit])
        later = (adapted(means[count:], tensors) ** 2).mean(axis=1)
        rates.append(float((later > threshold).mean()))
    return float(np.mean(rates))


@pytest.mark.parametrize(("count", "least"), [(5, 0.9), (10, 0.7), (20, 0.25)])
def test_parts_that_are_scored_by_what_they_fitted_reject_most_later_parts(
    count: int, least: float
) -> None:
    """1 / (k + 1) is promised; the naive way rejects 8 in 10 after ten parts, not 1 in 11."""
    assert rejected(naive, count, seed=5) > least


@pytest.mark.parametrize("count", [5, 10, 20])
def test_left_out_parts_reject_no_more_than_they_promise(count: int) -> None:
    """Fewer where parts are few: each was scored under what one part less has fitted."""
    promised = 1 / (count + 1)
    assert 0.25 * promised < rejected(left_out, count, seed=6) < 1.1 * promised


def test_parts_that_fitted_nothing_reject_what_is_proven() -> None:
    """Half of the parts fit, the other half prove: 1 / 6 for the highest of five."""

    def proving_half(parts: list[PartFeatures], adaptable: Adaptable) -> NDArray[np.float64]:
        tensors = adaptable.fit(parts[::2])
        return np.array([distance(part.mean, tensors) for part in parts[1::2]])

    every_other = slice(None, None, 2)
    assert rejected(proving_half, 10, seed=7, fit=every_other) == pytest.approx(1 / 6, rel=0.2)
