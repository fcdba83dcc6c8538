"""The selective scan against its definition, token by token, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.systems.vmpfd.scan import prefix, recurrence, selective_scan

Array = NDArray[np.float64]


def drawn(length: int, width: int = 5) -> tuple[Tensor, Tensor]:
    """Decays in 0..1, both ends among them, and drives."""
    generator = torch.Generator().manual_seed(length)
    decay = torch.rand(2, length, width, generator=generator, dtype=torch.float64)
    decay[0, :, 0], decay[1, :, 0] = 0.0, 1.0
    return decay, torch.randn(2, length, width, generator=generator, dtype=torch.float64)


def by_loops(decay: Array, drive: Array) -> Array:
    """h_t = a_t h_(t-1) + b_t, one number after the other."""
    states = np.zeros_like(drive)
    for row in range(drive.shape[0]):
        for column in range(drive.shape[2]):
            state = 0.0
            for token in range(drive.shape[1]):
                state = decay[row, token, column] * state + drive[row, token, column]
                states[row, token, column] = state
    return states


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 33, 64, 100, 256, 1024])
def test_both_forms_are_the_recurrence(length: int) -> None:
    decay, drive = drawn(length)
    wanted = by_loops(decay.numpy(), drive.numpy())
    for form in (prefix, recurrence):
        assert np.abs(form(decay, drive).numpy() - wanted).max() < 1e-9, form.__name__


def test_the_parallel_form_has_the_recurrences_gradients() -> None:
    decay, drive = (tensor.requires_grad_() for tensor in drawn(13))
    weights = torch.randn(2, 13, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = (
        torch.autograd.grad((form(decay, drive) * weights).sum(), [decay, drive])
        for form in (prefix, recurrence)
    )
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_a_state_depends_on_no_later_token() -> None:
    decay, drive = (tensor.float() for tensor in drawn(64))
    changed = drive.clone()
    changed[:, 40] += 100.0
    first, second = prefix(decay, drive), prefix(decay, changed)
    assert torch.equal(first[:, :40], second[:, :40])
    assert not torch.equal(first[:, 40], second[:, 40])


def test_the_selective_scan_is_the_state_space_model() -> None:
    """h_t = exp(D_t A) h_(t-1) + D_t B_t x_t, y_t = C_t h_t + skip x_t, for every model, channel
    and state alone.
    """
    groups, count, length, width, states = 2, 2, 9, 3, 4
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, step = normal(groups, count, length, width), normal(groups, count, length, width).exp()
    decay, skip = -normal(groups, states, width).exp(), normal(groups, width)
    enter, leave = normal(groups, count, length, states), normal(groups, count, length, states)
    given = selective_scan(x, step, decay, enter, leave, skip)
    wanted = np.zeros(given.shape)
    for group, row, channel in np.ndindex(groups, count, width):
        hidden = np.zeros(states)
        for token in range(length):
            here = (group, row, token)
            hidden = (
                np.exp(float(step[here][channel]) * decay[group, :, channel].numpy()) * hidden
                + float(step[here][channel] * x[here][channel]) * enter[here].numpy()
            )
            wanted[(*here, channel)] = hidden @ leave[here].numpy() + float(
                skip[group, channel] * x[here][channel]
            )
    assert np.abs(given.numpy() - wanted).max() < 1e-9
