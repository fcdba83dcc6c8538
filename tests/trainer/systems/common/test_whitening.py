"""Fixed projections: unit covariance, unit deviation, principal axes, and the bound of all."""

from __future__ import annotations

import torch

from trainer.systems.common.whitening import BOUND, PrincipalAxes, Whiten


def test_whitening_gives_unit_covariance() -> None:
    rows = torch.randn(500, 6) @ torch.randn(6, 6) + 3
    whiten = Whiten(6)
    whiten.fit(rows, 0.0)
    white = whiten(rows.T[None, :, :, None])[0, :, :, 0]
    assert torch.allclose(white @ white.T / 500, torch.eye(6), atol=1e-3)


def test_a_faint_channel_weighs_as_much_as_a_loud_one() -> None:
    rows = torch.randn(2000, 3) * torch.tensor([1e-3, 1.0, 50.0]) + 3
    whiten = Whiten(3)
    whiten.fit_each_channel(rows)
    white = whiten(rows.T[None, :, :, None])[0, :, :, 0]
    assert torch.allclose(white.std(dim=1), torch.ones(3), atol=1e-3)


def test_principal_axes_keep_the_directions_that_vary_least() -> None:
    rows = torch.randn(2000, 3) * torch.tensor([1.0, 0.01, 10.0])
    axes = PrincipalAxes(3, 1)
    axes.fit(rows, 0.0)
    assert int(axes.matrix[0].abs().argmax()) == 1
    assert abs(float(axes(rows.T[None, :, :, None]).std()) - 1) < 0.01


def test_beyond_the_bound_features_are_clipped() -> None:
    """A flow extrapolates without bound: one cell would fill the map's range, and INT8's."""
    whiten = Whiten(2)
    white = whiten(torch.tensor([1e6, -1e6])[None, :, None, None])
    assert white.flatten().tolist() == [BOUND, -BOUND]
