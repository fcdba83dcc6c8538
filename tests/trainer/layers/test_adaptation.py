"""Shift, scale and moments against numpy in float64, and what they undo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from edge.bundle.manifest import ChannelStatistics
from trainer.layers.adaptation import Adaptation, moments

CHANNELS, GRIDS = [3, 5, 2], [(8, 6), (4, 3), (8, 6)]


def drawn(seed: int, parts: int = 2, center: float = 0.0) -> tuple[list[Tensor], list[Tensor]]:
    """Groups of features and their masks, of which about a half is set."""
    generator = torch.Generator().manual_seed(seed)
    groups = [
        center + torch.randn(parts, channels, *grid, generator=generator)
        for channels, grid in zip(CHANNELS, GRIDS, strict=True)
    ]
    masks = [(torch.rand(parts, 1, *grid, generator=generator) > 0.5).float() for grid in GRIDS]
    for mask in masks:
        mask[..., 0, :2] = 1  # at least two cells
    return groups, masks


def reference(groups: list[Tensor], masks: list[Tensor]) -> NDArray[np.float64]:
    """Mean and variance (N, 2, C), cell by cell."""
    columns = []
    for features, mask in zip(groups, masks, strict=True):
        parts = []
        for own, inside in zip(features.double().numpy(), mask[:, 0].numpy() > 0, strict=True):
            cells = own[:, inside]  # (Ci, M)
            none = np.zeros((2, len(own)))
            parts.append(np.stack([cells.mean(1), cells.var(1)]) if cells.shape[1] else none)
        columns.append(np.stack(parts))
    return np.concatenate(columns, axis=2)


@given(seed=st.integers(0, 1000), center=st.sampled_from([0.0, -3.0, 300.0]))
def test_moments_are_those_of_every_groups_own_cells(seed: int, center: float) -> None:
    """A mean that is 300 times the deviation, too: no variance is lost in it."""
    groups, masks = drawn(seed, center=center)
    adaptation = Adaptation(CHANNELS)
    _, given_ = adaptation(groups, masks, torch.zeros(10), torch.ones(10))
    assert given_.shape == (2, 2, 10)
    np.testing.assert_allclose(given_.numpy(), reference(groups, masks), rtol=1e-4, atol=1e-5)


@given(st.integers(0, 1000))
def test_a_part_without_foreground_has_moments_of_zero(seed: int) -> None:
    groups, masks = drawn(seed, parts=3)
    for mask in masks:
        mask[1] = 0
    _, given_ = Adaptation(CHANNELS)(groups, masks, torch.zeros(10), torch.ones(10))
    assert not given_[1].any()
    assert bool((given_[[0, 2], 1] > 0).all())


def test_the_moments_of_one_cell_are_its_value_and_no_variance() -> None:
    features, mask = torch.arange(24.0).reshape(1, 2, 3, 4), torch.zeros(1, 1, 3, 4)
    mask[..., 1, 2] = 1
    assert moments([features], [mask]).tolist() == [[[6, 18], [0, 0]]]


def test_site_inputs_are_neutral_and_float16_can_hold_them() -> None:
    shift, scale = Adaptation(CHANNELS).inputs
    assert [(one.name, one.shape, one.default) for one in (shift, scale)] == [
        ("shift", (10,), 0.0),
        ("scale", (10,), 1.0),
    ]
    assert Adaptation(CHANNELS).state_dict() == {}, "weights of before load as they are"


@given(st.integers(0, 1000))
def test_neutral_values_change_no_bit(seed: int) -> None:
    groups, masks = drawn(seed)
    shift, scale = (torch.from_numpy(spec.neutral()) for spec in Adaptation(CHANNELS).inputs)
    adapted, _ = Adaptation(CHANNELS)(groups, masks, shift, scale)
    assert all(torch.equal(own, same) for own, same in zip(adapted, groups, strict=True))


def test_every_group_takes_its_own_channels_of_shift_and_scale() -> None:
    groups, masks = drawn(1)
    shift, scale = torch.linspace(-2, 2, 10), torch.linspace(0.5, 2, 10)
    adapted, given_ = Adaptation(CHANNELS)(groups, masks, shift, scale)
    first = 0
    for own, after in zip(groups, adapted, strict=True):
        for channel in range(own.shape[1]):
            by, times = float(shift[first + channel]), float(scale[first + channel])
            wanted = (own[:, channel].double() - by) * times
            assert after[:, channel].double().numpy() == pytest.approx(wanted.numpy(), abs=1e-6)
        first += own.shape[1]
    _, before = Adaptation(CHANNELS)(groups, masks, torch.zeros(10), torch.ones(10))
    assert torch.equal(given_, before), "moments are those before shift and scale"


@pytest.mark.parametrize("channels", [[3, 5], [3, 5, 2, 1], [3, 4, 3]])
def test_features_of_other_channels_are_refused(channels: list[int]) -> None:
    groups, masks = drawn(1)
    count = sum(channels)
    with pytest.raises((ValueError, RuntimeError)):
        Adaptation(channels)(groups, masks, torch.zeros(count), torch.ones(count))


def moments_of(gain: NDArray[np.float32], offset: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Of ten parts, (1, 2, C) each, with every channel's features times its gain, plus its
    offset.
    """
    gains, offsets = (
        torch.from_numpy(values).view(1, -1, 1, 1).split(CHANNELS, dim=1)
        for values in (gain, offset)
    )
    found = []
    for number in range(10):
        groups, masks = drawn(number, parts=1, center=2.0)
        changed = [own * by + to for own, by, to in zip(groups, gains, offsets, strict=True)]
        _, given_ = Adaptation(CHANNELS)(changed, masks, torch.zeros(10), torch.ones(10))
        found.append(given_.numpy())
    return found


def test_what_is_pooled_over_parts_tells_gain_and_offset() -> None:
    """scale = reference deviation / site deviation, shift = site mean - reference mean / scale."""
    gain, offset = np.linspace(0.6, 1.8, 10).astype("f4"), np.linspace(-3, 3, 10).astype("f4")
    reference_ = ChannelStatistics.of_parts(moments_of(np.ones(10, "f4"), np.zeros(10, "f4")))
    site = ChannelStatistics.of_parts(moments_of(gain, offset))
    scale = np.array(reference_.deviation) / np.array(site.deviation)
    np.testing.assert_allclose(scale, 1 / gain, rtol=1e-4)
    shift = np.array(site.mean) - np.array(reference_.mean) / scale
    np.testing.assert_allclose(shift, offset, atol=1e-3)


def test_pooling_adds_the_spread_within_parts_and_between_them() -> None:
    parts = [np.float32([[[1, 5], [4, 0]]]), np.float32([[[3, 5], [12, 0]]])]
    pooled = ChannelStatistics.of_parts(parts)
    assert pooled.mean == (2, 5)
    assert pooled.deviation == (3, 0)  # sqrt((4 + 12) / 2 + 1)
