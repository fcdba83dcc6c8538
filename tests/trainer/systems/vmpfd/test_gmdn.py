"""The mixture density network against torch.distributions in float64, its floor, and what it
learns.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, distributions

from trainer.systems.vmpfd.gmdn import (
    Mixture,
    MixtureDensityNetwork,
    bounded,
    greatest_density,
    log_likelihood,
    log_sum_exp,
)

FLOOR = 0.02


def network(
    dims: int = 3, components: int = 4, floor: float = FLOOR, loud: float = 1.0
) -> tuple[MixtureDensityNetwork, Tensor]:
    """A network in float64, its last layers `loud` times as strong, and conditions (2, 5, 6)."""
    torch.manual_seed(0)
    net = MixtureDensityNetwork(6, dims, components, 8, floor).double()
    with torch.no_grad():
        net.shapes.normal_()
        for part in (net.weights, net.means, net.scales):
            last = part[-1]
            assert isinstance(last, torch.nn.Linear)
            last.weight.mul_(loud)
    return net, torch.randn(2, 5, 6, dtype=torch.float64)


def factors(mixture: Mixture) -> Tensor:
    """P, (N, T, K, D, D)."""
    return mixture.scale.unsqueeze(-1) * mixture.shape


@pytest.mark.parametrize(("dims", "components"), [(1, 1), (3, 4), (8, 2)])
def test_the_density_is_that_of_torchs_mixture(dims: int, components: int) -> None:
    net, condition = network(dims, components, loud=5.0)
    y = torch.randn(2, 5, 7, dims, dtype=torch.float64)
    with torch.no_grad():
        mixture = net(condition)
        given = log_likelihood(y, mixture)
        factor = factors(mixture)
        normals = distributions.MultivariateNormal(
            mixture.mean, torch.linalg.inv(factor.transpose(-1, -2) @ factor)
        )
        whole = distributions.MixtureSameFamily(
            distributions.Categorical(logits=mixture.log_weights), normals
        )
        wanted = torch.stack([whole.log_prob(y[:, :, place]) for place in range(7)], dim=2)
    torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-9)


def test_it_integrates_to_one() -> None:
    net, condition = network(dims=2, components=3)
    steps = torch.linspace(-12, 12, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps).expand(1, 1, -1, -1)
    with torch.no_grad():
        density = log_likelihood(grid, net(condition[:1, :1])).exp()
    assert float(density.sum()) * (24 / 400) ** 2 == pytest.approx(1, abs=1e-3)


def test_weights_means_and_scales_are_equations_two_and_three() -> None:
    net, condition = network(floor=1e-9, loud=30.0)  # so low that it does not show
    with torch.no_grad():
        mixture, raw = net(condition), net.scales(condition).reshape(2, 5, 4, 3)
        torch.testing.assert_close(mixture.log_weights.exp(), net.weights(condition).softmax(dim=2))
        torch.testing.assert_close(mixture.mean.flatten(2), net.means(condition))
    torch.testing.assert_close(mixture.scale, torch.log1p(raw.exp()), rtol=0, atol=2e-3)
    assert float(mixture.scale.std(dim=1).min()) > 0.01, "scales follow x"


def test_covariances_are_full() -> None:
    net, condition = network()
    factor = factors(net(condition)).detach()
    assert float(factor.triu(1).abs().max()) == 0
    precision = factor.transpose(-1, -2) @ factor
    rows, columns = torch.tril_indices(3, 3, -1)
    assert float(precision[..., rows, columns].abs().min()) > 0


@pytest.mark.parametrize("loud", [1.0, 1e2, 1e4])
def test_no_eigenvalue_is_below_the_floor_and_no_density_above_the_bound(loud: float) -> None:
    net, condition = network(loud=loud)
    with torch.no_grad():
        mixture = net(condition)
        # its inverse square is the least eigenvalue
        largest = torch.linalg.matrix_norm(factors(mixture), ord=2)
        assert float((largest**-2.0).min()) > FLOOR * (1 - 1e-9)
        best = torch.cat(
            [log_likelihood(mixture.mean[:, :, [k]], mixture) for k in range(4)], dim=2
        )
    assert float(best.max()) <= greatest_density(3, FLOOR) + 1e-9


def test_the_bound_is_no_higher_than_it_must_be() -> None:
    scale = bounded(torch.full((1, 1, 1, 3), 1e6, dtype=torch.float64), 3, FLOOR)
    zero = torch.zeros(1, 1, 1, 3, dtype=torch.float64)
    one = Mixture(zero[..., 0], zero, scale, torch.eye(3, dtype=torch.float64)[None])
    reached = float(log_likelihood(zero, one))
    assert reached == pytest.approx(greatest_density(3, FLOOR), abs=1e-9)


def test_a_single_value_seen_again_and_again_is_no_singularity() -> None:
    torch.manual_seed(0)
    net = MixtureDensityNetwork(2, 3, 2, 8, 1e-2)
    condition, y = torch.ones(1, 1, 2), torch.ones(1, 1, 4, 3)
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -log_likelihood(y, net(condition)).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
    reached = -float(loss.detach())
    assert math.isfinite(reached)
    bound = greatest_density(3, 1e-2)
    assert bound - 1.0 < reached <= bound + 1e-4


def test_it_learns_how_a_distribution_depends_on_its_condition() -> None:
    """y lies along one diagonal where x is 1 and along the other where it is -1, narrow here, wide
    there.
    """
    torch.manual_seed(0)
    net = MixtureDensityNetwork(1, 2, 2, 16, 1e-3)
    sign = torch.tensor([1.0, -1.0]).repeat(8)
    first = torch.randn(16, 1, 400)
    second = sign[:, None, None] * 0.9 * first + math.sqrt(1 - 0.81) * torch.randn(16, 1, 400)
    y, condition = (
        torch.stack([first, second], dim=3) * (1.5 + 0.5 * sign).reshape(16, 1, 1, 1),
        sign[:, None, None],
    )
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        loss = -log_likelihood(y, net(condition)).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
    # twice as wide in half of them
    entropy = math.log(2 * math.pi * math.e) + 0.5 * math.log(1 - 0.81) + math.log(2)
    assert float(loss.detach()) == pytest.approx(entropy, abs=0.05)


def test_whatever_is_far_away_stays_finite_in_float16() -> None:
    net, condition = network(dims=96, components=2, floor=4e-4)
    last = net.scales[-1]
    assert isinstance(last, torch.nn.Linear)
    last.bias.data.fill_(50.0)  # as narrow as can be
    y = torch.cat([torch.full((2, 5, 3, 96), 8.0), torch.full((2, 5, 3, 96), -8.0)], dim=2).double()
    with torch.no_grad():
        far, near = log_likelihood(y, net(condition)), log_likelihood(0 * y, net(condition))
        half = net.half()
        low = log_likelihood(y.half(), half(condition.half()))
    assert bool(torch.isfinite(low).all())
    assert float(far.max()) < float(near.min()) - 1e3
    assert float((low.double() - far).abs().max()) < 0.01 * float(far.abs().max())


def test_log_sum_exp_of_far_values_is_finite_and_right() -> None:
    values = torch.tensor([[-6e4, -6e4 + 1], [0.0, -6e4], [5e4, 5e4]])
    given = log_sum_exp(values).double().numpy()
    wanted = np.logaddexp(*values.double().numpy().T)
    assert np.abs(given - wanted).max() < 1e-2  # float32 steps at 6e4 are 4e-3
