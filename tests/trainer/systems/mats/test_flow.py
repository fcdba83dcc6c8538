"""The flow: its inverse, and its log-determinant against autograd's Jacobian, in float64."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from trainer.layers.position import sine_position_encoding
from trainer.systems.mats.flow import Coupling, RealNVP, negative_log_likelihood


def _random_flow(channels: int, kernel: int = 1, seed: int = 0) -> RealNVP:
    """A flow far from its starting point, where it is a mere permutation."""
    torch.manual_seed(seed)
    flow = RealNVP(channels, blocks=4, hidden=9, condition_channels=8, kernel=kernel).double()
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=0.3 / kernel)
    return flow


def _condition() -> Tensor:
    return sine_position_encoding(8, 2, 3).double()


@pytest.mark.parametrize("channels", [6, 7])
@pytest.mark.parametrize("kernel", [1, 3])
def test_inverse_returns_the_features(channels: int, kernel: int) -> None:
    flow = _random_flow(channels, kernel)
    x = torch.randn(4, channels, 2, 3).double()
    z, _ = flow(x, _condition())
    assert (z - x).abs().max() > 0.1
    torch.testing.assert_close(flow.inverse(z, _condition()), x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("channels", [6, 7])
@pytest.mark.parametrize("kernel", [1, 3])
def test_log_determinant_is_that_of_autograds_jacobian(channels: int, kernel: int) -> None:
    flow = _random_flow(channels, kernel)
    x = torch.randn(1, channels, 2, 3).double()
    _, log_det = flow(x, _condition())
    size = x.numel()
    jacobian = torch.autograd.functional.jacobian(
        lambda value: flow(value, _condition())[0], x
    ).reshape(size, size)
    assert log_det.shape == (1, 1, 2, 3)
    assert log_det.sum().item() == pytest.approx(
        torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-9
    )


def test_log_determinant_belongs_to_its_position() -> None:
    flow = _random_flow(6)
    x = torch.randn(1, 6, 2, 3).double()
    _, log_det = flow(x, _condition())
    for row in range(2):
        for column in range(3):
            cell = (slice(None), slice(None), slice(row, row + 1), slice(column, column + 1))
            alone = torch.autograd.functional.jacobian(
                lambda value, cell=cell: flow(value, _condition()[cell])[0], x[cell]
            ).reshape(6, 6)
            assert log_det[0, 0, row, column].item() == pytest.approx(
                torch.linalg.slogdet(alone).logabsdet.item()
            )


def test_coupling_equals_equations_10_and_11_with_the_clamp() -> None:
    torch.manual_seed(3)
    block = Coupling(4, 5, alpha=1.9, condition=4, kernel=1, seed=7).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x, condition = torch.randn(1, 4, 1, 1).double(), torch.randn(1, 4, 1, 1).double()

    def subnet(which: str, half: Tensor) -> tuple[Tensor, Tensor]:
        net = getattr(block, which)
        # of the concatenation
        first = torch.cat([net.from_half.weight, net.from_condition.weight], dim=1)[:, :, 0, 0]
        inner = torch.relu(first @ torch.cat([half, condition.flatten()]) + net.from_half.bias)
        raw, shift = (net.last.weight[:, :, 0, 0] @ inner + net.last.bias).chunk(2)
        return 2 * 1.9 / math.pi * torch.atan(raw / 1.9), shift

    flat = x.flatten()
    x1, x2 = flat[block.first], flat[block.second]
    s2, t2 = subnet("for_first", x2)
    y1 = x1 * s2.exp() + t2
    s1, t1 = subnet("for_second", y1)
    y2 = x2 * s1.exp() + t1
    y, log_scale = block(x, condition)
    torch.testing.assert_close(y.flatten(), torch.cat([y1, y2]))
    torch.testing.assert_close(log_scale.flatten(), (s1.sum() + s2.sum())[None])


def test_scales_stay_within_the_clamp() -> None:
    flow = _random_flow(6)
    for parameter in flow.parameters():
        nn.init.normal_(parameter, std=1e4)
    _, log_det = flow(torch.randn(2, 6, 2, 3).double(), _condition())
    assert log_det.abs().max() <= 4 * 6 * 1.9  # blocks x channels x alpha


def test_a_new_flow_only_permutes() -> None:
    flow = RealNVP(6, condition_channels=8)
    x = torch.randn(1, 6, 2, 3)
    z, log_det = flow(x, _condition().float())
    torch.testing.assert_close(z.sort(dim=1).values, x.sort(dim=1).values)
    assert log_det.abs().max() == 0


def test_position_alone_changes_the_result() -> None:
    flow = _random_flow(6)
    z, _ = flow(torch.ones(1, 6, 2, 3).double(), _condition())
    assert (z[..., 0, 0] - z[..., 1, 2]).abs().max() > 1e-3


def test_permutations_are_saved_with_the_weights() -> None:
    flow = _random_flow(6)
    other = RealNVP(6, blocks=4, hidden=9, condition_channels=8, seed=99).double()
    other.load_state_dict(copy.deepcopy(flow.state_dict()))
    x = torch.randn(1, 6, 2, 3).double()
    torch.testing.assert_close(other(x, _condition())[0], flow(x, _condition())[0])


def test_likelihood_is_that_of_the_normal_distribution_under_the_change_of_variables() -> None:
    flow = _random_flow(6)
    x = torch.randn(1, 6, 2, 3).double()
    z, log_det = flow(x, _condition())
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1, keepdim=True)
    constant = 6 * math.log(2 * math.pi) / 2
    torch.testing.assert_close(negative_log_likelihood(z, log_det), -(normal + log_det) - constant)
