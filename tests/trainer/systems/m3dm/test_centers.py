"""Centers: farthest points against brute force in float64, and the curve against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.systems.m3dm.centers import CurvePoints, farthest_points, hilbert_order


def disc(size: int, radius: float, seed: int = 0) -> Tensor:
    """(1, size * size) a disc at a random place, without a few cells."""
    random = np.random.default_rng(seed)
    row, column = random.uniform(0.4, 0.6, 2) * size
    v, u = np.mgrid[:size, :size]
    inside = (np.hypot(v - row, u - column) < radius) & (random.random((size, size)) > 0.05)
    return torch.from_numpy(inside.astype(np.float32)).reshape(1, -1)


@pytest.mark.parametrize("seed", range(3))
def test_farthest_points_are_those_of_brute_force(seed: int) -> None:
    random = np.random.default_rng(seed)
    points, foreground = random.normal(size=(2, 60, 3)), random.random((2, 60)) < 0.7
    got = farthest_points(
        torch.from_numpy(points), torch.from_numpy(foreground.astype(np.float64)), 12
    )
    for number in range(2):
        allowed = np.flatnonzero(foreground[number])
        chosen = [max(allowed, key=lambda i: (points[number, i] ** 2).sum())]
        while len(chosen) < 12:
            gaps = [
                min(((points[number, i] - points[number, j]) ** 2).sum() for j in chosen)
                for i in allowed
            ]
            chosen.append(allowed[int(np.argmax(gaps))])
        assert got[number].tolist() == [int(i) for i in chosen]


def test_farthest_points_of_fewer_points_repeat_and_never_leave_the_foreground() -> None:
    points = torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(0))
    foreground = torch.zeros(1, 20)
    foreground[0, [3, 8, 17]] = 1
    chosen = farthest_points(points, foreground, 6)[0].tolist()
    assert set(chosen[:3]) == {3, 8, 17}
    assert set(chosen) == {3, 8, 17}


@pytest.mark.parametrize("grid", [(32, 32), (24, 40), (7, 5)])
def test_the_curve_passes_every_cell_once(grid: tuple[int, int]) -> None:
    order = hilbert_order(grid)
    assert sorted(order.tolist()) == list(range(grid[0] * grid[1]))
    if grid[0] == grid[1]:
        rows, columns = order // grid[1], order % grid[1]
        steps = (rows.diff().abs() + columns.diff().abs()).tolist()
        assert set(steps) == {1}, "on a square of a power of two it only ever goes to a neighbor"


@pytest.mark.parametrize(
    ("grid", "cells"), [((32, 32), 400), ((24, 40), 77), ((24, 40), 960), ((32, 32), 1)]
)
def test_centers_have_equal_ranks_along_the_curve(grid: tuple[int, int], cells: int) -> None:
    generator = torch.Generator().manual_seed(cells)
    foreground = torch.zeros(2, grid[0] * grid[1])
    for image in foreground:
        image[torch.randperm(len(image), generator=generator)[:cells]] = 1
    got = CurvePoints(grid, 48)(foreground)
    for image, chosen in zip(foreground, got, strict=True):
        inside = [cell for cell in hilbert_order(grid).tolist() if image[cell] > 0]
        assert chosen.tolist() == [inside[int((g + 0.5) * cells / 48)] for g in range(48)]


@pytest.mark.parametrize("count", [48, 100, 128])
def test_no_rounding_turns_a_rank_into_the_next(count: int) -> None:
    """Another runtime may divide by multiplying with an inverse."""
    wanted = CurvePoints((32, 32), count).center_ranks(torch.arange(1.0, 1025.0)[:, None])
    assert float((wanted - wanted.round()).abs().min()) > 0.2 / count


def test_the_curve_covers_a_part_nearly_as_well_as_farthest_points() -> None:
    """The largest gap may be twice theirs; the mean one is hardly larger.

    On the cells of a grid, so many to a side.
    """
    v, u = np.mgrid[:32, :32]
    places = torch.from_numpy(
        np.stack([v.ravel(), u.ravel(), 0 * u.ravel()], axis=1).astype(np.float32)
    )
    for seed in range(4):
        foreground = disc(32, 11, seed)
        cells = places[foreground[0] > 0]
        gaps = []
        for chosen in (
            CurvePoints((32, 32), 64)(foreground),
            farthest_points(places[None], foreground, 64),
        ):
            assert (foreground[0, chosen[0]] == 1).all()
            gaps.append(torch.cdist(cells, places[chosen[0]]).amin(dim=1))
        curve, farthest = gaps
        assert float(curve.max()) <= 2.5 * float(farthest.max())
        assert float(curve.mean()) <= 1.15 * float(farthest.mean())


def test_an_empty_foreground_gives_a_cell_of_the_grid() -> None:
    chosen = CurvePoints((8, 8), 16)(torch.zeros(1, 64))
    assert chosen.shape == (1, 16)
    assert chosen.unique().tolist() == [int(hilbert_order((8, 8))[-1])]
