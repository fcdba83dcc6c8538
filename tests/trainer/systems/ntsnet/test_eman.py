"""EMAN against equations 3 to 8 in float64: what moves, when, and what does not."""

from __future__ import annotations

import numpy as np
import torch
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from trainer.systems.ntsnet.eman import following, norms, same_named


def pair() -> tuple[nn.BatchNorm2d, nn.BatchNorm2d]:
    torch.manual_seed(0)
    student, teacher = (
        nn.BatchNorm2d(3).double(),
        BatchNormAct2d(3, apply_act=False).double().eval(),
    )
    for norm in (student, teacher):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            tensor.uniform_(0.5, 1.5)
    return student, teacher


def statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.clone(), norm.running_var.clone()


def test_statistics_and_output_equal_equations_3_to_8() -> None:
    student, teacher = pair()
    mean, variance = (tensor.numpy() for tensor in statistics(teacher))
    batches = [5 + 3 * torch.randn(2, 3, 2, 2).double() for _ in range(3)]
    with following([(student, teacher)]):
        for batch in batches:
            student(batch)
            rows = batch.numpy().transpose(1, 0, 2, 3).reshape(3, -1)
            own = rows.sum(axis=1) / 8  # equation 3
            spread = ((rows - own[:, None]) ** 2).sum(axis=1) / 8  # equation 4
            # equations 6 and 7
            mean, variance = (0.99 * mean + 0.01 * own, 0.99 * variance + 0.01 * spread)
    got_mean, got_variance = statistics(teacher)
    np.testing.assert_allclose(got_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(got_variance.numpy(), variance, rtol=1e-12)
    x = torch.randn(2, 3, 2, 2).double()
    gain, bias = (
        tensor.detach().numpy()[:, None, None] for tensor in (teacher.weight, teacher.bias)
    )
    expected = (
        gain * (x.numpy() - mean[:, None, None]) / np.sqrt(variance[:, None, None] + teacher.eps)
        + bias
    )
    np.testing.assert_allclose(teacher(x).detach().numpy(), expected, rtol=1e-12)  # equation 8


def test_only_batches_in_training_mode_and_only_while_followed_move_anything() -> None:
    student, teacher = pair()
    before, batch = statistics(teacher), torch.randn(2, 3, 2, 2).double()
    with following([(student, teacher)]):
        student.eval()(batch)
        assert all(
            torch.equal(old, new) for old, new in zip(before, statistics(teacher), strict=True)
        )
        student.train()(batch)
        after = statistics(teacher)
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    student(batch)
    assert all(torch.equal(old, new) for old, new in zip(after, statistics(teacher), strict=True))


def test_gain_and_bias_stay_and_no_gradient_reaches_the_teacher() -> None:
    student, teacher = pair()
    gain, bias = teacher.weight.detach().clone(), teacher.bias.detach().clone()
    batch = torch.randn(2, 3, 2, 2).double().requires_grad_()
    with following([(student, teacher)]):
        student(batch).square().sum().backward()
    assert teacher.weight.grad is None
    assert teacher.bias.grad is None
    assert all(not tensor.requires_grad for tensor in statistics(teacher))
    assert torch.equal(teacher.weight, gain)
    assert torch.equal(teacher.bias, bias)


def test_the_student_learns_the_same_with_and_without() -> None:
    batch, answers = torch.randn(2, 3, 2, 2).double(), []
    for followed in (True, False):
        student, teacher = pair()
        with following([(student, teacher)] if followed else []):
            answers.append((student(batch), *statistics(student)))
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


def test_pairs_have_the_same_name_and_width() -> None:
    def network(width: int, last: nn.Module) -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm2d(width), last)

    student, teacher = network(5, nn.BatchNorm2d(7)), network(6, nn.Identity())
    pairs = same_named(student, teacher)
    assert pairs == [(student[0], teacher[0])]
    assert [name for name, _ in norms(student)] == ["0", "1", "2"]
