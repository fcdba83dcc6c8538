"""Whether parts lie at any angle is told from color alone, whatever the lamp does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.data.augment import moved
from trainer.train.turns import lie_turned


def part(number: int, turn_deg: float, lamp: float = 0.0) -> Tensor:
    """A bar with a hole near one end, turned, on a noisy table; lamp: gray levels that the right
    side of the image is brighter than the left.
    """
    image = torch.full((1, 3, 96, 96), 90.0)
    image[..., 40:56, 16:80] = 200.0
    image[..., 45:51, 66:74] = 30.0
    turned = moved(image, math.radians(turn_deg), 1.0, (0.0, 0.0), "bilinear", "border")
    noise = torch.randn(turned.shape, generator=torch.Generator().manual_seed(number))
    return turned + 4 * noise + lamp * torch.linspace(-0.5, 0.5, 96)


@pytest.mark.parametrize("lamp", [0.0, 60.0])
def test_parts_at_any_angle_are_told_from_parts_that_lie_alike(lamp: float) -> None:
    random = np.random.default_rng(0)
    anyhow = [part(n, float(random.uniform(-180, 180)), lamp) for n in range(16)]
    alike = [part(n, float(random.uniform(-7, 7)), lamp) for n in range(16)]
    assert lie_turned(anyhow)
    assert not lie_turned(alike)


def test_two_ways_to_lie_are_not_any_angle() -> None:
    assert not lie_turned([part(n, 90.0 * (n % 2)) for n in range(16)])


def test_few_parts_tell_nothing() -> None:
    assert not lie_turned([part(n, 70.0 * n) for n in range(3)])


def test_images_that_are_not_square_are_compared_as_well() -> None:
    """Twice as wide as high, and the other way round."""

    def wide(number: int, turn_deg: float) -> Tensor:
        noise = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(50 + number))
        left, right = (90 + 4 * noise).split(48, dim=3)
        return torch.cat([left, part(number, turn_deg), right], dim=3)

    for turned in (wide, lambda number, turn: wide(number, turn).transpose(2, 3)):
        assert lie_turned([turned(n, 113.0 * n) for n in range(16)])
        assert not lie_turned([turned(n, 3.0 * (n % 4)) for n in range(16)])
