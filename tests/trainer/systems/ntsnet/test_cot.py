"""CoT against equations 1 and 2 by loops over every position, head and neighbor, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.systems.ntsnet.cot import CoT, local_sum

Array = NDArray[np.float64]


def made(channels: int = 6, out: int = 6, stride: int = 1, share: int = 3, groups: int = 1) -> CoT:
    """In evaluation mode, every BatchNorm with statistics, gain and bias of its own."""
    torch.manual_seed(0)
    module = CoT(channels, out, stride, share, groups, reduction=2).double().eval()
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5)
    return module


def _convolution(layer: nn.Conv2d, x: Array) -> Array:
    """Zero padded, in groups, by loops."""
    weight = layer.weight.detach().numpy()
    bias = np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().numpy()
    size, reach = weight.shape[2], weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((len(weight), *x.shape[1:]))
    taken, given = weight.shape[1], len(weight) // layer.groups
    for channel in range(len(weight)):
        first = channel // given * taken
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                window = padded[first : first + taken, row : row + size, column : column + size]
                out[channel, row, column] = np.sum(weight[channel] * window) + bias[channel]
    return out


def _through(layers: nn.Sequential, x: Array) -> Array:
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            x = _convolution(layer, x)
        elif isinstance(layer, nn.BatchNorm2d):
            mean, variance, gain, bias = (
                tensor.detach().numpy()[:, None, None]
                for tensor in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
                if tensor is not None
            )
            x = gain * (x - mean) / np.sqrt(variance + layer.eps) + bias
        else:
            assert isinstance(layer, nn.ReLU)
            x = np.maximum(x, 0)
    return x


def _reference(module: CoT, x: Array, share: int) -> Array:
    key, query, value = (_through(part, x) for part in (module.key, module.query, module.value))
    logits = _through(module.logits, np.concatenate([key, query]))
    channels, height, width = key.shape
    out = key.copy()
    for channel in range(channels):
        first = channel // share * 9
        for row in range(height):
            for column in range(width):
                weights = np.exp(logits[first : first + 9, row, column])
                weights /= weights.sum()
                cells = [(row + dy, column + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
                for weight, (y, x_) in zip(weights, cells, strict=True):
                    if 0 <= y < height and 0 <= x_ < width:
                        out[channel, row, column] += weight * value[channel, y, x_]
    return out


@pytest.mark.parametrize(("channels", "share", "groups"), [(6, 3, 1), (6, 2, 2), (4, 4, 1)])
def test_equals_the_equations_by_loops(channels: int, share: int, groups: int) -> None:
    module = made(channels, channels, 1, share, groups)
    x = torch.randn(2, channels, 4, 5).double()
    with torch.no_grad():
        got = module(x).numpy()
    for index in range(2):
        np.testing.assert_allclose(
            got[index], _reference(module, x[index].numpy(), share), rtol=1e-11, atol=1e-12
        )


def test_with_stride_two_cells_are_averaged_first() -> None:
    module, x = made(4, 6, stride=2), torch.randn(1, 4, 6, 4).double()
    pooled = x.reshape(1, 4, 3, 2, 2, 2).mean(dim=(3, 5))
    with torch.no_grad():
        got = module(x)
    assert got.shape == (1, 6, 3, 2)
    np.testing.assert_allclose(
        got[0].numpy(), _reference(module, pooled[0].numpy(), 3), rtol=1e-11, atol=1e-12
    )


def test_one_neighbor_alone_shifts_and_only_its_heads_channels() -> None:
    """All weight of the first head on the neighbor to the lower left; the second head keeps the
    middle.
    """
    values = torch.arange(24.0).reshape(1, 2, 3, 4) + 1
    weights = torch.zeros(1, 2, 9, 3, 4)
    weights[:, 0, 6], weights[:, 1, 4] = 1, 1
    got = local_sum(values, weights)
    expected = torch.zeros(3, 4)
    expected[:2, 1:] = values[0, 0, 1:, :3]
    assert torch.equal(got[0, 0], expected)
    assert torch.equal(got[0, 1], values[0, 1])


def test_every_part_learns() -> None:
    module = made().train()
    module(torch.randn(2, 6, 4, 4).double()).square().sum().backward()
    assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []
    assert all(
        float(layer.weight.grad.abs().max()) > 0
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d)
    )
