"""Bottleneck and decoder: sizes, and that the student sees the image through the embedding only."""

from __future__ import annotations

import pytest
import torch

from trainer.systems.aand.reverse import Bottleneck, Decoder

CHANNELS, WIDTHS, OUT = (5, 6, 7), (8, 10, 12), 16


@pytest.fixture
def both() -> tuple[Bottleneck, Decoder]:
    torch.manual_seed(0)
    return Bottleneck(CHANNELS, WIDTHS, OUT, 1).eval(), Decoder(CHANNELS, WIDTHS, OUT, 1).eval()


def _levels() -> list[torch.Tensor]:
    return [torch.randn(2, own, 16 >> level, 24 >> level) for level, own in enumerate(CHANNELS)]


def test_every_level_comes_back_in_its_own_shape(both: tuple[Bottleneck, Decoder]) -> None:
    levels = _levels()
    embedded = both[0](levels)
    assert embedded.shape == (2, OUT, 2, 3)
    assert [given.shape for given in both[1](embedded)] == [level.shape for level in levels]


def test_every_level_reaches_the_embedding(both: tuple[Bottleneck, Decoder]) -> None:
    levels = _levels()
    whole = both[0](levels)
    for number in range(3):
        changed = [level + (10.0 if own == number else 0.0) for own, level in enumerate(levels)]
        assert not torch.allclose(both[0](changed), whole)


def test_the_rise_is_a_transposed_convolution_of_two_by_two(
    both: tuple[Bottleneck, Decoder],
) -> None:
    rise = both[1].rise[2]
    x = torch.randn(1, OUT, 3, 4)
    weight = rise.weight[:, :, 0, 0].reshape(WIDTHS[2], 2, 2, OUT).permute(3, 0, 1, 2)
    expected = torch.nn.functional.conv_transpose2d(x, weight, stride=2)
    torch.testing.assert_close(
        torch.nn.functional.pixel_shuffle(rise(x), 2), expected, rtol=1e-4, atol=1e-5
    )
