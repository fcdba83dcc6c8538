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
    table = torch.full((1, 3, 96, 16), 90.0)
    assert lie_turned([torch.cat([table, part(n, 113.0 * n), table], 3) for n in range(16)])
    assert not lie_turned([torch.cat([table, part(n, 0.0), table], 3) for n in range(16)])
