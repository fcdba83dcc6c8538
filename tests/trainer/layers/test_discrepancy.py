"""Discrepancies and distillation losses against their definitions, position by position, in
float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.layers.discrepancy import (
    feature_distance,
    flat_distance,
    hard_distance,
    matched,
    mean_per_image,
)


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    teacher = generator.normal(size=(2, 5, 3, 4))
    return (
        teacher,
        teacher + 0.5 * generator.normal(size=teacher.shape),
        (generator.random((2, 1, 3, 4)) < 0.7) * 1.0,
    )


def test_the_distance_is_one_minus_the_cosine(
    pair: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    teacher, student, _ = pair
    got = feature_distance(torch.from_numpy(teacher), torch.from_numpy(student))
    assert got.shape == (2, 1, 3, 4)
    for n, v, u in np.ndindex(2, 3, 4):
        assert float(got[n, 0, v, u]) == pytest.approx(
            1 - _cosine(teacher[n, :, v, u], student[n, :, v, u]), abs=1e-6
        )


def test_equal_features_are_at_distance_zero_and_opposite_ones_at_two() -> None:
    features = torch.randn(1, 4, 2, 2)
    assert float(feature_distance(features, 3 * features).abs().max()) < 1e-6
    assert torch.allclose(feature_distance(features, -features), torch.tensor(2.0), atol=1e-4)


def test_a_floor_shortens_weak_features_and_leaves_strong_ones(
    pair: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    teacher, student, _ = pair
    got = feature_distance(torch.from_numpy(teacher), torch.from_numpy(student), 0.7)
    for n, v, u in np.ndindex(2, 3, 4):
        first, second = (
            one[n, :, v, u] / np.sqrt((one[n, :, v, u] ** 2).sum() + 5 * 0.7)
            for one in (teacher, student)
        )
        assert float(got[n, 0, v, u]) == pytest.approx(
            0.5 * ((first - second) ** 2).sum(), abs=1e-6
        )
    ones = torch.ones(1, 5, 1, 1)
    strong, weak = (float(feature_distance(ones * by, -ones * by, 1.0)) for by in (30, 0.03))
    assert strong > 1.99
    assert weak < 0.01


def test_a_position_without_any_feature_is_no_nan() -> None:
    got = feature_distance(torch.zeros(1, 4, 2, 2), torch.randn(1, 4, 2, 2))
    assert torch.isfinite(got).all()


def test_flattened_maps_are_compared_inside_the_mask(
    pair: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    teacher, student, mask = pair
    expected = np.mean(
        [1 - _cosine((teacher * mask)[n].ravel(), (student * mask)[n].ravel()) for n in range(2)]
    )
    got = flat_distance(*(torch.from_numpy(one) for one in pair))
    assert float(got) == pytest.approx(expected, abs=1e-9)


def test_the_hardest_positions_are_the_highest_of_a_sorted_list(
    pair: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    mask = pair[2]
    distance = np.random.default_rng(1).random((2, 1, 3, 4))
    expected = np.mean([np.sort(distance[n][mask[n] > 0])[-3:].mean() for n in range(2)])
    got = hard_distance(torch.from_numpy(distance), torch.from_numpy(mask), 3)
    assert float(got) == pytest.approx(expected, abs=1e-12)


def test_an_image_with_fewer_positions_than_the_hardest_counts_those_it_has() -> None:
    mask = torch.zeros(2, 1, 2, 2)
    mask[0, 0, 0, 0] = 1
    got = hard_distance(
        torch.tensor([0.4, 9.0, 9.0, 9.0]).view(1, 1, 2, 2).repeat(2, 1, 1, 1), mask, 3
    )
    assert float(got) == pytest.approx(0.2)  # 0.4 of the first image, nothing of the second


def test_every_image_weighs_the_same_however_large_its_part_is() -> None:
    distance = torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 9.0, 9.0, 9.0]]).view(2, 1, 2, 2)
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]).view(2, 1, 2, 2)
    assert float(mean_per_image(distance, mask)) == pytest.approx(2.0)


def test_a_student_of_another_scale_is_matched_inside_the_mask(
    pair: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    teacher, student, mask = pair
    got = matched(*(torch.from_numpy(one) for one in (teacher, 7 * student, mask))).numpy()
    for n in range(2):
        factor = np.linalg.norm((teacher * mask)[n]) / np.linalg.norm((student * mask)[n])
        np.testing.assert_allclose(got[n], factor * student[n], rtol=1e-5)


def test_an_empty_mask_gives_no_nan() -> None:
    ones = torch.ones(1, 3, 2, 2)
    assert torch.isfinite(matched(ones, ones, torch.zeros(1, 1, 2, 2))).all()
