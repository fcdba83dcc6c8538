"""MDLA against equations 4 to 8 by loops over every cell, head and neighbor, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.systems.mats.mdla import FURTHEST, MASKED, MDLA, window_mask

Array = NDArray[np.float64]


def _linear(convolution: torch.nn.Conv2d, features: Array) -> Array:
    weight, bias = convolution.weight.detach().numpy()[:, :, 0, 0], convolution.bias
    assert bias is not None
    return np.einsum("oc,chw->ohw", weight, features) + bias.detach().numpy()[:, None, None]


def _reference(module: MDLA, features: Array, dilations: tuple[int, ...], heads: int) -> Array:
    query, key, value = np.split(_linear(module.project, features), 3)
    inner, height, width = query.shape
    dimension = inner // (len(dilations) * heads)
    out = np.zeros_like(query)
    for head in range(len(dilations) * heads):
        channels = slice(head * dimension, (head + 1) * dimension)
        step = dilations[head // heads]
        for row in range(height):
            for column in range(width):
                cells = [
                    (row + dy * step, column + dx * step)
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                    if 0 <= row + dy * step < height and 0 <= column + dx * step < width
                ]
                scores = np.array(
                    [query[channels, row, column] @ key[channels, y, x] for y, x in cells]
                )
                weights = np.exp(scores / np.sqrt(dimension))
                weights /= weights.sum()
                out[channels, row, column] = sum(
                    weight * value[channels, y, x]
                    for weight, (y, x) in zip(weights, cells, strict=True)
                )
    return _linear(module.merge, out)


@pytest.mark.parametrize(
    ("channels", "dilations", "heads"), [(7, (1, 2, 3), 1), (8, (1, 2, 3), 2), (4, (2,), 1)]
)
def test_equals_the_equations_by_loops(
    channels: int, dilations: tuple[int, ...], heads: int
) -> None:
    torch.manual_seed(0)
    module = MDLA(channels, (5, 8), dilations, heads).double()
    features = torch.randn(2, channels, 5, 8).double() * 2
    got = module(features).detach().numpy()
    for index in range(2):
        expected = _reference(module, features[index].numpy(), dilations, heads)
        np.testing.assert_allclose(got[index], expected, rtol=1e-11, atol=1e-12)


def test_whatever_the_scores_no_cell_outside_the_window_counts_and_no_weight_is_denormal() -> None:
    """The worst case: a cell that answers least to its own window and most to all others."""
    module = MDLA(6, (6, 6))
    torch.nn.init.zeros_(module.merge.bias)
    module.merge.weight.data.copy_(torch.eye(6)[:, :, None, None])
    torch.nn.init.zeros_(module.project.bias)
    query, key, value = (torch.zeros(6, 6) for _ in range(3))
    query[::2, 0], key[::2, 1], value[:, 2] = 30.0, 30.0, 1.0
    module.project.weight.data.copy_(torch.cat([query, key, value])[:, :, None, None])
    features = torch.zeros(1, 6, 6, 6)
    features[:, 0] = 1.0
    features[:, 1] = 1.0  # every other cell answers as loudly as it can
    features[:, 2] = 1e3
    center = module.allowed[0, 0, 14].reshape(6, 6) > 0  # row 2, column 2: the window of dilation 1
    features[:, 1, center] = -1.0
    features[:, 2, center] = 0.0
    with torch.no_grad():
        assert float(module(features)[0, 0, 2, 2].abs()) < 1e-7 * 1e3
    lowest = MASKED - FURTHEST
    assert np.exp(np.float32(lowest)) >= np.finfo(np.float32).tiny, (
        "the least exponential must be a normal number"
    )


def test_each_dilation_reaches_its_window_and_no_further() -> None:
    for dilation in (1, 2, 3):
        window = window_mask(9, 9, dilation)[4 * 9 + 4].reshape(9, 9)
        steps = (-dilation, 0, dilation)
        expected = {(4 + dy, 4 + dx) for dy in steps for dx in steps}
        assert {tuple(cell) for cell in window.nonzero().tolist()} == expected


def test_padding_takes_no_weight() -> None:
    """With equal values everywhere an average is that value, at the corner too: a zero key would
    pull it down.
    """
    module = MDLA(6, (6, 6))
    torch.nn.init.zeros_(module.project.weight)
    torch.nn.init.ones_(module.project.bias)
    module.merge.weight.data.copy_(torch.eye(6)[:, :, None, None])
    torch.nn.init.zeros_(module.merge.bias)
    torch.testing.assert_close(module(torch.randn(1, 6, 6, 6)), torch.ones(1, 6, 6, 6))


@pytest.mark.parametrize("channels", [368, 304, 176])
def test_widths_that_do_not_divide_by_three_are_rounded_up(channels: int) -> None:
    module = MDLA(channels, (4, 4))
    assert module.project.out_channels == 3 * 3 * -(-channels // 3)
    assert module(torch.zeros(1, channels, 4, 4)).shape == (1, channels, 4, 4)
