"""Pixel unshuffle against torch's own and against its definition."""

import pytest
import torch

from trainer.layers.unshuffle import pixel_unshuffle


def test_agrees_with_torch_for_several_channels() -> None:
    image = torch.arange(2 * 3 * 12 * 8, dtype=torch.float32).reshape(2, 3, 12, 8)
    assert torch.equal(pixel_unshuffle(image, 4), torch.nn.functional.pixel_unshuffle(image, 4))


def test_channel_names_the_pixel_inside_the_block() -> None:
    image = torch.arange(16 * 24, dtype=torch.float32).reshape(1, 1, 16, 24)
    cells = pixel_unshuffle(image, 8)
    assert cells.shape == (1, 64, 2, 3)
    assert cells[0, 8 * 5 + 3, 1, 2] == image[0, 0, 8 + 5, 2 * 8 + 3]


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="10x16"):
        pixel_unshuffle(torch.zeros(1, 1, 10, 16), 8)
