"""PFA against its definition by loops, in float64: interpolate every point, then pool."""

from __future__ import annotations

import numpy as np
import torch

from trainer.systems.m3dm.groups import GridDistance
from trainer.systems.m3dm.pfa import NEAREST, SOFTEN, PointFeatureAlignment, interpolation


def test_equals_interpolating_every_point_and_pooling_over_the_part() -> None:
    random = np.random.default_rng(0)
    grid, size, groups = (8, 12), (4, 4), 7
    cells = torch.from_numpy(np.stack([random.permutation(96)[:groups] for _ in range(2)]))
    distances = GridDistance(grid).double()(cells)
    features = torch.from_numpy(random.normal(size=(2, groups, 5)))
    weight = torch.from_numpy(random.choice([0.0, 0.25, 1.0], (2, 1, *grid)))
    weight[:, :, :2, :3] = 0
    got = PointFeatureAlignment(grid, size)(features, distances, weight).numpy()
    for image in range(2):
        for i in range(4):
            for j in range(4):
                total, share = np.zeros(5), 0.0
                for row in range(2 * i, 2 * i + 2):
                    for column in range(3 * j, 3 * j + 3):
                        away = distances[image, :, row * 12 + column].numpy()
                        near = np.argsort(away)[:NEAREST]
                        shares = 1 / (away[near] + SOFTEN)
                        point = (
                            features[image].numpy()[near] * (shares / shares.sum())[:, None]
                        ).sum(axis=0)
                        total += point * float(weight[image, 0, row, column])
                        share += float(weight[image, 0, row, column])
                expected = total / share if share else np.zeros(5)
                assert np.allclose(got[image, :, i, j], expected, rtol=1e-9, atol=1e-9), (
                    image,
                    i,
                    j,
                )
    assert not got[:, :, 0, 0].any()


def test_weights_sum_to_one_and_a_center_keeps_its_own_features() -> None:
    cells = torch.tensor([[3, 40, 77, 90, 12]])
    weights = interpolation(GridDistance((10, 10))(cells))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 100))
    assert ((weights > 0).sum(dim=1) == NEAREST).all()
    assert all(
        float(weights[0, group, cell]) > 0.98 for group, cell in enumerate(cells[0].tolist())
    )


def test_centers_in_the_same_cell_share_its_points() -> None:
    """Fewer cells than groups: the same cell several times, all of which may be the nearest."""
    weights = interpolation(GridDistance((10, 10))(torch.tensor([[3, 3, 3, 3, 90]])))
    assert bool(torch.isfinite(weights).all())
    torch.testing.assert_close(weights[0, :4, 3], torch.full((4,), 0.25), rtol=0, atol=1e-3)
