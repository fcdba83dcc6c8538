"""FastKAN against its definition, number by number, in float64; the student's residual blocks and
its folding.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trainer.layers.fold import folded_copy
from trainer.systems.mats.fastkan import FastKANLayer, StudentFastKAN


def _shake(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)


@pytest.mark.parametrize(("grid", "limits"), [(8, (-2.0, 2.0)), (3, (-1.0, 3.0))])
def test_equals_its_definition(grid: int, limits: tuple[float, float]) -> None:
    torch.manual_seed(0)
    layer = FastKANLayer(4, 3, grid, limits).double()
    _shake(layer)
    x = torch.randn(6, 4).double() * 3 + 1
    got = layer(x)
    step = (limits[1] - limits[0]) / (grid - 1)
    for row in range(6):
        values = x[row].tolist()
        mean = sum(values) / 4
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 4 + 1e-5)
        normed = [
            (value - mean) / deviation * layer.norm.weight[c].item() + layer.norm.bias[c].item()
            for c, value in enumerate(values)
        ]
        for output in range(3):
            expected = layer.base.bias[output].item()
            for channel in range(4):
                silu = values[channel] / (1 + math.exp(-values[channel]))
                expected += layer.base.weight[output, channel].item() * silu
                for index in range(grid):
                    gaussian = math.exp(
                        -(((normed[channel] - (limits[0] + index * step)) / step) ** 2)
                    )
                    expected += layer.spline.weight[output, index * 4 + channel].item() * gaussian
            # the centers are float32
            assert got[row, output].item() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_gaussian_is_one_at_its_center_and_falls_to_1_over_e_at_the_next() -> None:
    layer = FastKANLayer(2, 1, grid=5)
    layer.norm.weight.data.zero_()
    layer.norm.bias.data.copy_(torch.tensor([0.0, 1.0]))  # the third and the fourth center
    basis = layer.basis(torch.randn(1, 2)).reshape(5, 2)
    assert basis[:, 0].tolist() == pytest.approx(
        [math.exp(-4), math.exp(-1), 1, math.exp(-1), math.exp(-4)]
    )
    assert basis[:, 1].argmax() == 3


def test_student_sees_one_position_at_a_time() -> None:
    torch.manual_seed(1)
    student = StudentFastKAN(6, 8, 5, blocks=2, grid=4).eval()
    features = torch.randn(1, 6, 3, 4)
    changed = features.clone()
    changed[0, :, 1, 2] += 1
    difference = (student(changed) - student(features)).abs().sum(dim=1)[0]
    assert difference[1, 2] > 0
    difference[1, 2] = 0
    assert difference.max() < 1e-5


def test_rows_and_maps_are_the_same_student() -> None:
    student = StudentFastKAN(6, 8, 5, blocks=1, grid=4).eval()
    features = torch.randn(2, 6, 3, 4)
    rows = torch.stack([features[n, :, y, x] for n in range(2) for y in range(3) for x in range(4)])
    expected = student.positions(rows).reshape(2, 3, 4, 5).permute(0, 3, 1, 2)
    torch.testing.assert_close(student(features), expected)


def test_folded_for_export_it_computes_the_same() -> None:
    torch.manual_seed(2)
    student = StudentFastKAN(6, 8, 5, blocks=2, grid=4).double()
    _shake(student)
    for _ in range(5):
        student(torch.randn(4, 6, 3, 4).double() * 2 + 1)  # BatchNorm meets some data
    student.eval()
    features = torch.randn(1, 6, 3, 4).double()
    before = student(features)
    folded = folded_copy(folded_copy(student))  # a second time changes nothing
    assert not any(isinstance(module, nn.BatchNorm1d) for module in folded.modules())
    torch.testing.assert_close(folded(features), before, rtol=1e-9, atol=1e-9)


def test_student_learns_a_function_of_one_pixel() -> None:
    torch.manual_seed(3)
    student = StudentFastKAN(2, 16, 1, blocks=1, grid=5)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    x = torch.rand(512, 2) * 4 - 2
    y = torch.sin(2 * x[:, :1]) * x[:, 1:]
    for _ in range(150):
        optimizer.zero_grad()
        loss = ((student.positions(x) - y) ** 2).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    assert loss.item() < 0.25 * y.var().item()
