"""The normal silhouette is laid over a part in the pose it has, whatever is absent from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, optimize
from torch import Tensor

from trainer.graph.silhouette import ANGLES, FLOOR, NormalSilhouette
from trainer.train.silhouette import fit_silhouette

SIDE = 96
Shape = NDArray[np.float64]


def plate(turn: float, x: float, y: float, *changes: str, size: float = 1.0) -> Tensor:
    """A soft silhouette (1, 1, SIDE, SIDE) of an L with a bore around its own origin; turn in
    degrees, place in cells.
    """
    v, u = np.mgrid[:SIDE, :SIDE].astype(np.float64)
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    a, b = (cos * (u - x) + sin * (v - y)) / size, (cos * (v - y) - sin * (u - x)) / size
    if "ring" in changes:
        edge = np.maximum(np.hypot(a, b) - 24, 12 - np.hypot(a, b))
    else:
        edge = np.maximum(np.abs(a) - 28, np.abs(b) - 18)  # > 0 outside
        edge = np.maximum(edge, -np.maximum(-a + 2, -b - 3))
        edge = np.maximum(edge, 7 - np.hypot(a + 14, b))
    if "broken" in changes:
        edge = np.maximum(edge, -12 - a)
    if "burr" in changes:
        edge = np.minimum(edge, np.maximum(np.abs(a + 8) - 5, np.abs(b + 20) - 5))
    return torch.from_numpy(np.clip(0.5 - edge, 0, 1)).float()[None, None]


def normal_parts(count: int = 24, *changes: str, spread: float = 0.0) -> Tensor:
    random = np.random.default_rng(0)
    return torch.cat(
        [
            plate(
                random.uniform(0, 360),
                *random.uniform(40, 56, 2),
                *changes,
                size=1 + random.normal(0, spread),
            )
            for _ in range(count)
        ]
    )


def fitted(parts: Tensor) -> NormalSilhouette:
    normal = NormalSilhouette((SIDE, SIDE)).eval()
    fit_silhouette(normal, parts, torch.ones_like(parts))
    return normal


@pytest.fixture(scope="module")
def normal() -> NormalSilhouette:
    return fitted(normal_parts())


def difference(normal: NormalSilhouette, part: Tensor) -> Shape:
    with torch.no_grad():
        return np.asarray(normal(part, torch.ones_like(part))[0][0, 0].double())


def laid(normal: NormalSilhouette, pose: NDArray[np.float64]) -> Shape:
    """The normal silhouette in a pose, by scipy in float64."""
    mean = np.asarray(normal.mean[0, 0].double())
    cos, sin = np.cos(pose[0]), np.sin(pose[0])
    to_own = np.array([[cos, -sin], [sin, cos]])  # rows y, x
    center = (SIDE - 1) / 2 - to_own @ np.array([pose[2], pose[1]])
    return np.asarray(ndimage.affine_transform(mean, to_own, center, order=1))


@pytest.mark.parametrize("turn", [0.0, 1.4, 88.6, 181.0, 270.0, 333.3])
@pytest.mark.parametrize("changes", [(), ("broken",), ("burr",)])
def test_the_pose_is_that_of_a_search_by_scipy(
    normal: NormalSilhouette, turn: float, changes: tuple[str, ...]
) -> None:
    whole, part = plate(turn, 50.3, 44.8), plate(turn, 50.3, 44.8, *changes)
    image = np.asarray(whole[0, 0].double())
    with torch.no_grad():
        pose = np.asarray(normal.pose(part, torch.ones_like(part))[0].double())

    def cost(pose: NDArray[np.float64]) -> float:
        return float(np.square(laid(normal, pose) - image).sum())

    starts = [pose + np.array([angle, 0, 0]) for angle in np.deg2rad([0, 90, 180, 270])]
    best = min(
        (optimize.minimize(cost, start, method="Nelder-Mead") for start in starts),
        key=lambda found: float(found.fun),
    ).x
    off = (pose[0] - best[0] + np.pi) % (2 * np.pi) - np.pi
    assert abs(np.rad2deg(off)) < 0.6
    assert np.hypot(*(pose[1:] - best[1:])) < 0.3


@pytest.mark.parametrize("change", ["broken", "burr"])
def test_the_difference_is_the_absent_and_the_extra_material_and_nothing_else(
    normal: NormalSilhouette, change: str
) -> None:
    for turn in (17.0, 140.0, 290.0):
        good, bad = plate(turn, 47.0, 49.0), plate(turn, 47.0, 49.0, change)
        truth = np.asarray(((good - bad).abs() > 0.5)[0, 0])
        unusual = difference(normal, bad)
        assert unusual[ndimage.binary_erosion(truth, iterations=2)].min() > 3
        assert unusual[~ndimage.binary_dilation(truth, iterations=3)].max() < 2


def test_it_is_counted_in_deviations_of_normal_parts() -> None:
    parts = normal_parts(32, spread=0.03)
    normal = fitted(parts)
    with torch.no_grad():
        pose = normal.pose(parts, torch.ones_like(parts))
        x, y = normal.own(pose)
    aligned = np.stack(
        [
            ndimage.map_coordinates(
                np.asarray(part[0].double()),
                np.array([yc + np.sin(a) * U + np.cos(a) * V, xc + np.cos(a) * U - np.sin(a) * V]),
                order=1,
            )
            for part, (a, xc, yc) in zip(parts, pose.double().tolist(), strict=True)
        ]
    )
    assert x.shape == y.shape == (32, SIDE, SIDE)
    assert np.abs(aligned.std(axis=0) - np.asarray(normal.deviation[0, 0])).max() < 0.1
    assert float(normal.deviation.max()) > 2 * FLOOR


V, U = np.mgrid[:SIDE, :SIDE].astype(np.float64) - (SIDE - 1) / 2


def test_what_was_not_seen_neither_counts_nor_pulls(normal: NormalSilhouette) -> None:
    part, seen = plate(75.0, 48.0, 47.0, "broken"), torch.ones(1, 1, SIDE, SIDE)
    seen[ndimage.binary_dilation(np.asarray(plate(75.0, 48.0, 47.0) != part), iterations=4)] = 0
    with torch.no_grad():
        assert float(normal(part, seen)[0].max()) < 2


def test_a_ring_is_searched_in_few_turns_and_judged_in_all() -> None:
    normal = fitted(normal_parts(24, "ring", spread=0.01))
    assert len(torch.unique(normal.poses[:, 0])) <= ANGLES / 4
    assert difference(normal, plate(33.0, 50.0, 45.0, "ring")).max() < 2
    assert difference(normal, plate(33.0, 50.0, 45.0, "ring", "broken")).max() > 5


def test_parts_of_which_none_is_like_another_are_all_normal() -> None:
    random = np.random.default_rng(1)
    shapes = [
        plate(random.uniform(0, 360), 48, 48, *(("broken",) if n % 2 else ("burr",)))
        for n in range(16)
    ]
    assert difference(fitted(torch.cat(shapes)), plate(20.0, 48.0, 48.0, "broken")).max() < 4


def test_an_empty_view_and_one_of_another_shape_give_finite_numbers(
    normal: NormalSilhouette,
) -> None:
    wide = NormalSilhouette((64, 96))
    image = torch.zeros(2, 1, 64, 96)
    with torch.no_grad():
        assert torch.isfinite(wide(image, torch.ones_like(image))[0]).all()
        assert torch.isfinite(
            normal(torch.zeros(1, 1, SIDE, SIDE), torch.ones(1, 1, SIDE, SIDE))[0]
        ).all()
