"""Perlin noise against its definition, pixel by pixel, and the masks made of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.synthetic.perlin import anomaly_mask, perlin_noise


def _noise_at(v: int, u: int, size: tuple[int, int], cells: tuple[int, int], angles: np.ndarray) -> float:
    """Perlin 2002: fade of the four corners' gradients times the offsets from them."""
    y, x = v * cells[0] / size[0], u * cells[1] / size[1]
    top, left = math.floor(y), math.floor(x)

    def corner(down: int, right: int) -> float:
        angle = angles[top + down, left + right]
        return math.cos(angle) * (x - left - right) + math.sin(angle) * (y - top - down)

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    def mix(first: float, second: float, share: float) -> float:
        return first * (1 - share) + second * share

    upper = mix(corner(0, 0), corner(0, 1), fade(x - left))
    lower = mix(corner(1, 0), corner(1, 1), fade(x - left))
    return math.sqrt(2) * mix(upper, lower, fade(y - top))


@pytest.mark.parametrize("cells", [(1, 1), (3, 4), (8, 2)])
def test_noise_is_perlins(cells: tuple[int, int]) -> None:
    size = (17, 23)
    got = perlin_noise(*size, *cells, np.random.default_rng(5))
    angles = np.random.default_rng(5).uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    for v, u in np.ndindex(*size):
        assert got[v, u] == pytest.approx(_noise_at(v, u, size, cells, angles), abs=1e-12)
    assert float(np.abs(got).max()) <= 1


def test_masks_lie_on_the_part_and_have_the_size_asked_for() -> None:
    foreground = np.zeros((96, 128), bool)
    foreground[20:80, 30:100] = True
    shares = []
    for seed in range(60):
        mask = anomaly_mask(foreground, np.random.default_rng(seed), 0.001, 0.1)
        assert mask.any()
        assert not (mask & ~foreground).any()
        shares.append(mask.sum() / foreground.sum())
    assert max(shares) <= 0.1
    assert min(shares) < 0.005 < 0.03 < max(shares), "small damages and large ones"


def test_a_part_of_a_few_pixels_still_gets_an_anomaly() -> None:
    foreground = np.zeros((64, 64), bool)
    foreground[30:32, 30:32] = True
    for seed in range(10):
        mask = anomaly_mask(foreground, np.random.default_rng(seed))
        assert mask.any()
        assert not (mask & ~foreground).any()


def test_no_part_no_anomaly() -> None:
    assert not anomaly_mask(np.zeros((16, 16), bool), np.random.default_rng(0)).any()
