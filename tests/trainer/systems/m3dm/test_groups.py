"""Neighborhoods on a grid against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.systems.m3dm.groups import ASIDE, FAR, GridDistance, nearest_points, relative_groups


@pytest.mark.parametrize("grid", [(12, 16), (32, 32), (56, 28)])
def test_distances_are_those_between_cells(grid: tuple[int, int]) -> None:
    unit = 64 / max(grid)
    cells = torch.tensor([[0, 5, grid[0] * grid[1] - 1], [7, 7, 8]])
    got = GridDistance(grid)(cells).numpy()
    v, u = np.mgrid[: grid[0], : grid[1]]
    for image in range(2):
        for group in range(3):
            row, column = divmod(int(cells[image, group]), grid[1])
            expected = ((v - row - ASIDE[0]) ** 2 + (u - column - ASIDE[1]) ** 2) * unit**2
            assert np.allclose(got[image, group], expected.ravel(), rtol=1e-5, atol=1e-5)
    assert got.max() < FAR
    assert 2 * FAR < 65504, "distances and what is added to them are finite in float16"


def test_no_two_of_a_cells_neighbors_are_equally_far() -> None:
    """Or runtimes would choose differently: the gap is far above the rounding of float32."""
    distances = GridDistance((32, 32))(torch.tensor([[16 * 32 + 16]]))[0, 0].sort().values[:150]
    assert float((distances.diff() / distances[1:]).min()) > 1e-5


def test_the_nearest_are_those_of_brute_force_and_never_what_is_no_point() -> None:
    random = np.random.default_rng(0)
    valid = torch.from_numpy((random.random((2, 20 * 20)) < 0.5).astype(np.float32))
    cells = torch.from_numpy(random.integers(0, 400, (2, 9)))
    got = nearest_points(GridDistance((20, 20))(cells), valid, 16)
    for image in range(2):
        allowed = np.flatnonzero(valid[image].numpy())
        for group in range(9):
            row, column = divmod(int(cells[image, group]), 20)
            squared = (allowed // 20 - row) ** 2 + (allowed % 20 - column) ** 2
            chosen = got[image, group].numpy()
            assert set(chosen) <= set(allowed)
            mine = (chosen // 20 - row) ** 2 + (chosen % 20 - column) ** 2
            assert sorted(mine) == sorted(squared)[:16]


def test_members_are_relative_to_their_center_and_missing_ones_are_the_center() -> None:
    points = torch.rand(1, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0, 0.0]], dtype=torch.float64)
    centers, members = points[:, [1, 3]], torch.tensor([[[1, 0, 2], [3, 5, 4]]])
    got = relative_groups(points, valid, centers, members)[0]
    zero = torch.zeros(3, dtype=torch.float64)
    expected = [
        [zero, points[0, 0] - points[0, 1], zero],
        [zero, zero, points[0, 4] - points[0, 3]],
    ]
    torch.testing.assert_close(got, torch.stack([torch.stack(group) for group in expected]))
