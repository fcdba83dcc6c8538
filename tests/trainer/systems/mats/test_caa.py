"""CAA against equations 1 to 3 written out in numpy, cell by cell, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.systems.mats.caa import CAA, InvertedBottleneck, WeightsOver

Array = NDArray[np.float64]


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _matrix(convolution: torch.nn.Module) -> Array:
    weight = convolution.weight
    assert isinstance(weight, torch.Tensor)
    return weight.detach().numpy()[:, :, 0, 0]


def _bottleneck(module: InvertedBottleneck, auxiliary: Array) -> Array:
    """Conv3x3(Conv1x1(F)) by loops; auxiliary (c, H, W)."""
    expanded = np.einsum("ei,ihw->ehw", _matrix(module.expand), auxiliary)
    padded = np.pad(expanded, ((0, 0), (1, 1), (1, 1)))
    kernel = module.compress.weight.detach().numpy()
    bias = module.compress.bias
    assert bias is not None
    out = np.zeros((len(kernel), *auxiliary.shape[1:]))
    for row in range(out.shape[1]):
        for column in range(out.shape[2]):
            window = padded[:, row : row + 3, column : column + 3]
            out[:, row, column] = (kernel * window).sum(axis=(1, 2, 3)) + bias.detach().numpy()
    return out


def _reference(caa: CAA, target: Array, auxiliary: Array) -> Array:
    assert isinstance(caa.project, InvertedBottleneck)
    projected = _bottleneck(caa.project, auxiliary)
    w1_matrix, w2_matrix, decoder = (
        _matrix(caa.target_weight),
        _matrix(caa.auxiliary_weight),
        _matrix(caa.decoder),
    )
    decoder_bias = caa.decoder.bias
    assert decoder_bias is not None
    positive_target, positive_projected = np.maximum(target, 0), np.maximum(projected, 0)
    if caa.weights_over == "channel":
        positive_target = np.broadcast_to(
            positive_target.mean(axis=(1, 2), keepdims=True), target.shape
        )
        positive_projected = np.broadcast_to(
            positive_projected.mean(axis=(1, 2), keepdims=True), target.shape
        )
    out = np.empty_like(target)
    for row in range(target.shape[1]):
        for column in range(target.shape[2]):
            w1 = np.exp(_sigmoid(w1_matrix @ positive_target[:, row, column]))  # equation 1
            w2 = np.exp(_sigmoid(w2_matrix @ positive_projected[:, row, column]))  # equation 2
            # equation 3
            fused = (w1 * target[:, row, column] + w2 * projected[:, row, column]) / (w1 + w2)
            out[:, row, column] = decoder @ fused + decoder_bias.detach().numpy()
    return out


@pytest.mark.parametrize("weights_over", ["position", "channel"])
def test_equals_equations_1_to_3(weights_over: WeightsOver) -> None:
    torch.manual_seed(0)
    caa = CAA(5, 3, weights_over).double()
    target, auxiliary = torch.randn(2, 5, 4, 6).double() * 3, torch.randn(2, 3, 4, 6).double() * 3
    got = caa(target, auxiliary).detach().numpy()
    for index in range(2):
        expected = _reference(caa, target[index].numpy(), auxiliary[index].numpy())
        np.testing.assert_allclose(got[index], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("weights_over", ["position", "channel"])
def test_folded_for_export_it_computes_the_same_at_the_border_too(
    weights_over: WeightsOver,
) -> None:
    torch.manual_seed(1)
    caa = CAA(6, 4, weights_over).double()
    target, auxiliary = torch.randn(1, 6, 5, 5).double(), torch.randn(1, 4, 5, 5).double()
    before = caa(target, auxiliary)
    caa.fold()
    caa.fold()  # a second time changes nothing
    assert not any(isinstance(module, InvertedBottleneck) for module in caa.modules())
    torch.testing.assert_close(caa(target, auxiliary), before, rtol=1e-12, atol=1e-12)


def test_an_anomaly_stays_where_it_is_when_weights_are_per_position() -> None:
    torch.manual_seed(2)
    caa = CAA(4, 4)
    target, auxiliary = torch.randn(1, 4, 9, 9), torch.randn(1, 4, 9, 9)
    changed = auxiliary.clone()
    changed[:, :, 0, 0] += 50
    difference = (caa(target, changed) - caa(target, auxiliary)).abs().sum(dim=1)[0]
    assert difference[:2, :2].min() > 0
    assert difference[2:].max() == 0
    assert difference[:, 2:].max() == 0


def test_neither_modality_can_be_silenced() -> None:
    caa = CAA(3, 3)
    torch.nn.init.constant_(caa.target_weight.weight, 1e3)
    torch.nn.init.constant_(caa.auxiliary_weight.weight, -1e3)
    fused = caa.fuse(torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2) + 1e-9)
    assert fused.max().item() <= 1 / (1 + np.exp(-1.0)) + 1e-6  # exp(1) against exp(0): 73 %
