"""Patch descriptors: sizes, cost, and that each sees its patch and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trainer.systems.vmpfd.pdn import PatchDescriptors

SEES = {"paper": 33, "compact": 50}  # px, the side of a patch


def multiply_accumulates(network: nn.Module, image: Tensor) -> int:
    total = 0

    def count(layer: nn.Conv2d, _: object, output: Tensor) -> None:
        nonlocal total
        total += (
            output.numel()
            * layer.in_channels
            // layer.groups
            * layer.kernel_size[0]
            * layer.kernel_size[1]
        )

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    with torch.no_grad():
        network(image)
    return total


def test_compact_costs_a_quarter_of_a_gmac_and_begins_with_a_stride() -> None:
    network = PatchDescriptors("compact")
    assert multiply_accumulates(network, torch.zeros(1, 3, 256, 256)) <= 0.25e9
    first = network.layers[0]
    assert isinstance(first, nn.Conv2d)
    assert first.stride == (2, 2)


@pytest.mark.parametrize(("kind", "stride", "channels"), [("paper", 4, 384), ("compact", 8, 96)])
def test_the_grid_is_the_images_at_the_stride(kind: str, stride: int, channels: int) -> None:
    network = PatchDescriptors(kind)
    assert (network.stride, network.channels) == (stride, channels)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, channels, 64 // stride, 96 // stride)


@pytest.mark.parametrize("kind", ["paper", "compact"])
def test_a_descriptor_sees_its_patch_alone(kind: str) -> None:
    torch.manual_seed(0)
    network = PatchDescriptors(kind)
    image = torch.randn(1, 3, 128, 128, requires_grad=True)
    given = network(image)
    row, column = 60 // network.stride, 68 // network.stride
    (slope,) = torch.autograd.grad(given[0, :, row, column].square().sum(), image)
    seen = slope[0].abs().sum(dim=0) > 0
    for line in (seen.any(dim=1), seen.any(dim=0)):
        places = line.nonzero()
        assert 0.7 * SEES[kind] < int(places[-1] - places[0]) + 1 <= SEES[kind]
    middle = [float(line.nonzero().float().mean()) for line in (seen.any(dim=1), seen.any(dim=0))]
    for place, cell in zip(middle, (row, column), strict=True):
        assert abs(place - ((cell + 0.5) * network.stride - 0.5)) <= network.stride / 2 + 0.5
