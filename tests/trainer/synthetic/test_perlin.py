"""The noise is Perlin's, and a mask is on the part, neither empty nor too large."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from trainer.synthetic.perlin import (
    LEAST_PX,
    Mask,
    anomaly_mask,
    perlin_mask,
    perlin_noise,
    some_pieces,
)


def by_loops(
    height: int, width: int, cells: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Perlin's definition, one pixel and one corner after the other, in float64."""
    angle = rng.uniform(0, 2 * math.pi, (cells[0] + 1, cells[1] + 1))
    noise = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y, x = (row + 0.5) * cells[0] / height, (column + 0.5) * cells[1] / width
            top, left = int(y), int(x)
            for corner_y in (top, top + 1):
                for corner_x in (left, left + 1):
                    dy, dx = y - corner_y, x - corner_x
                    slope = (
                        math.cos(angle[corner_y, corner_x]) * dx
                        + math.sin(angle[corner_y, corner_x]) * dy
                    )
                    noise[row, column] += falloff(abs(dy)) * falloff(abs(dx)) * slope
    return math.sqrt(2) * noise


def falloff(t: float) -> float:
    return 1 - (6 * t**5 - 15 * t**4 + 10 * t**3)


@pytest.mark.parametrize(
    ("size", "cells"),
    [((16, 16), (1, 1)), ((33, 20), (4, 7)), ((24, 31), (13, 2)), ((5, 7), (9, 8))],
)
def test_noise_is_perlins(size: tuple[int, int], cells: tuple[int, int]) -> None:
    drawn = perlin_noise(*size, cells, np.random.default_rng(7))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, by_loops(*size, cells, np.random.default_rng(7)), atol=3e-6)


def test_noise_fills_its_range_and_never_leaves_it() -> None:
    drawn = np.stack(
        [perlin_noise(64, 64, (8, 8), np.random.default_rng(seed)) for seed in range(30)]
    )
    assert np.abs(drawn).max() <= 1
    assert np.abs(drawn).max() > 0.8
    assert abs(drawn.mean()) < 0.02


def test_a_piece_is_a_whole_piece_of_the_mask() -> None:
    mask = np.zeros((40, 40), np.bool_)
    for corner in range(0, 40, 8):
        mask[corner : corner + 3, corner : corner + 4] = mask[
            corner : corner + 3, 36 - corner : 40 - corner
        ] = True
    whole = cv2.connectedComponents(mask.astype(np.uint8))[0] - 1
    counts = set()
    for seed in range(30):
        kept = some_pieces(mask, np.random.default_rng(seed))
        assert not (kept & ~mask).any()
        assert kept.sum() % 12 == 0
        counts.add(cv2.connectedComponents(kept.astype(np.uint8))[0] - 1)
    assert whole > 4
    assert counts == {1, 2, 3, 4}


def disc(height: int, width: int, radius: float) -> Mask:
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - height / 2, x - width / 2) < radius


@pytest.mark.parametrize(
    "foreground",
    [disc(128, 96, 40), disc(64, 64, 200), disc(60, 80, 6)],
    ids=["part", "everything", "tiny part"],
)
@pytest.mark.parametrize(
    ("least", "most"), [(0.0005, 0.2), (0.01, 0.05), (0.3, 0.31), (0.02, 0.02)]
)
def test_masks_keep_their_bounds(foreground: Mask, least: float, most: float) -> None:
    pixels = foreground.sum()
    for seed in range(60):
        mask = anomaly_mask(foreground, np.random.default_rng(seed), least, most)
        assert not (mask & ~foreground).any()
        smallest = max(math.ceil(least * pixels), LEAST_PX)
        assert smallest <= mask.sum() <= max(int(most * pixels), smallest)


def test_small_damages_and_large_ones_are_drawn() -> None:
    foreground = disc(256, 256, 90)
    shares = [
        anomaly_mask(foreground, np.random.default_rng(s)).sum() / foreground.sum()
        for s in range(200)
    ]
    below = [np.mean(np.array(shares) < bound) for bound in (0.01, 0.03)]
    assert 0.2 < below[0] < 0.7
    assert below[1] < 0.9


def test_the_same_generator_gives_the_same_mask() -> None:
    foreground = disc(64, 64, 25)
    first, again, other = (
        anomaly_mask(foreground, np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_perlin_cannot_meet_becomes_one_blob_near_one_place() -> None:
    foreground = disc(128, 128, 60)
    mask = anomaly_mask(foreground, np.random.default_rng(0), least=0.02, most=0.02)
    rows, columns = np.nonzero(mask)
    assert mask.sum() == math.ceil(0.02 * foreground.sum())
    assert max(np.ptp(rows), np.ptp(columns)) < 50


def test_without_foreground_there_is_no_mask() -> None:
    assert not anomaly_mask(np.zeros((32, 32), np.bool_), np.random.default_rng(0)).any()


def test_images_smaller_than_a_cell_have_masks() -> None:
    assert perlin_mask(3, 2, np.random.default_rng(0)).shape == (3, 2)
    assert anomaly_mask(np.ones((3, 2), np.bool_), np.random.default_rng(0)).sum() == LEAST_PX
