"""The position encoding against its formula, and its refusal of widths it cannot fill."""

import math

import pytest

from trainer.layers.position import sine_position_encoding


def test_every_value_follows_the_formula() -> None:
    channels, height, width = 32, 5, 7
    half = channels // 2
    encoding = sine_position_encoding(channels, height, width)
    assert encoding.shape == (1, channels, height, width)
    for channel in range(channels):
        within = channel % half
        frequency = 10_000.0 ** (-(within - within % 2) / half)
        wave = math.sin if within % 2 == 0 else math.cos
        for row in range(height):
            for column in range(width):
                along = column if channel < half else row
                assert encoding[0, channel, row, column].item() == pytest.approx(
                    wave(along * frequency), abs=1e-6
                )


def test_no_two_cells_of_a_grid_share_an_encoding() -> None:
    cells = sine_position_encoding(32, 24, 24).flatten(2)[0].T
    assert len({tuple(cell.tolist()) for cell in cells}) == 24 * 24


def test_width_that_is_no_multiple_of_four_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_position_encoding(30, 4, 4)
