"""Depth's encoder: its synthetic anomalies, what it measures, and that it learns to see both a dent
and a stain.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge.proof.compare import image_auroc
from trainer.layers.height import HeightEncoder, enlarged, half
from trainer.layers.height_anomalies import (
    RELIEF_BLOBS,
    TINT_BLOBS,
    TINT_LEVELS,
    encoder_error,
    synthetic_relief,
    synthetic_tint,
)

SIGMA_M = 2e-4


def _parts(count: int, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Height, foreground and color of flat noisy parts that fill most of the view; color at twice
    the size.
    """
    foreground = torch.zeros(count, 1, side, side)
    foreground[..., 4:-4, 4:-4] = 1
    noise = torch.randn(count, 1, side, side, generator=generator)
    stripes = 20 * torch.sin(torch.arange(2 * side) / 3)
    color = 130 + stripes + 4 * torch.randn(count, 3, 2 * side, 2 * side, generator=generator)
    return (0.01 + SIGMA_M * noise) * foreground, foreground, color


def test_the_noise_of_a_smooth_relief_is_found() -> None:
    """Second differences cancel a slope, so that a bowl of 3 mm does not pass for noise."""
    generator = torch.Generator().manual_seed(0)
    height, foreground, _ = _parts(4, 64, generator)
    rows = torch.linspace(-1, 1, 64)
    encoder = HeightEncoder()
    encoder.measure(height + 3e-3 * (rows[:, None] ** 2 + rows[None] ** 2) * foreground, foreground)
    assert float(encoder.sigma) == pytest.approx(SIGMA_M, rel=0.05)
    assert float(encoder.mean) == pytest.approx(
        0.01 + 3e-3 * 2 * float((rows[4:-4] ** 2).mean()), rel=0.02
    )


def test_untrained_it_answers_nothing_and_outside_the_part_never_anything() -> None:
    height, foreground, color = _parts(2, 32, torch.Generator().manual_seed(1))
    encoder = HeightEncoder().eval()
    relief, tint = encoder(height, foreground, color)
    assert relief.shape == (2, 1, 32, 32)
    assert tint.shape == (2, 1, 16, 16)
    assert not relief.any()
    assert not tint.any()
    torch.nn.init.normal_(encoder.leave.weight)
    relief, tint = encoder(height, foreground, color)
    assert relief.any()
    assert not relief[foreground == 0].any()
    assert not tint[half(foreground) == 0].any()


def test_synthetic_relief_stays_on_the_part_and_within_its_range() -> None:
    foreground = torch.zeros(200, 1, 32, 32)
    foreground[..., 8:24, 8:24] = 1
    relief = synthetic_relief(foreground, torch.Generator().manual_seed(2), sigmas=(2.5, 16.0))
    assert not relief[foreground == 0].any()
    assert float(relief.abs().max()) <= 16.0 * RELIEF_BLOBS
    peaks = relief.abs().amax(dim=(1, 2, 3))
    empty = float((peaks == 0).float().mean())
    assert 0.17 < empty < 0.33, "one part in four is to have none"
    assert float(relief.min()) < -2.5
    assert float(relief.max()) > 2.5
    again = synthetic_relief(foreground, torch.Generator().manual_seed(2), sigmas=(2.5, 16.0))
    torch.testing.assert_close(relief, again, rtol=0, atol=0)


def test_tint_changes_the_color_where_it_says_and_by_what_it_says() -> None:
    foreground = torch.zeros(50, 1, 64, 64)
    foreground[..., 8:56, 8:56] = 1
    color = torch.full((50, 3, 64, 64), 128.0)
    stained, strength = synthetic_tint(
        color, foreground, torch.Generator().manual_seed(3), units=(1.0, 3.0)
    )
    change = (stained - color).abs()
    assert not change.amax(dim=1, keepdim=True)[strength == 0].any()
    assert not strength[foreground == 0].any()
    assert bool((change <= TINT_LEVELS * strength + 1e-3).all())
    share = change.amax(dim=1, keepdim=True) / (TINT_LEVELS * strength).clamp(min=1e-3)
    assert float(share[strength > 0.1].median()) > 0.9, (
        "where stains do not overlap, one channel changes by all of it"
    )
    assert float(strength.max()) <= 3.0 * TINT_BLOBS
    white = synthetic_tint(
        torch.full_like(color, 250.0), foreground, torch.Generator().manual_seed(3)
    )[0]
    assert float(white.max()) <= 255.0


def test_it_learns_dents_and_stains_alike() -> None:
    """Tint's error is far smaller than relief's: weighed as it is, it would never be learned."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(4)
    height, foreground, color = _parts(24, 48, generator)
    encoder = HeightEncoder()
    encoder.measure(height, foreground)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    for _ in range(260):
        chosen = torch.randint(24, (8,), generator=generator)
        optimizer.zero_grad()
        encoder_error(
            encoder, height[chosen], foreground[chosen], color[chosen], generator
        ).backward()
        optimizer.step()
    encoder.eval()
    height, foreground, color = _parts(16, 48, generator)
    relief = synthetic_relief(foreground, generator)
    stained, strength = synthetic_tint(color, enlarged(foreground, 2), generator)
    with torch.no_grad():
        got_relief, got_tint = encoder(height + relief * encoder.sigma, foreground, stained)
    inside, small = foreground > 0, half(foreground) == 1
    expected = torch.nn.functional.avg_pool2d(strength, 4)
    for got, target in (
        (got_relief[inside].abs(), relief[inside].abs()),
        (got_tint[small], expected[small]),
    ):
        clear = (target > 2) | (target == 0)
        auroc = image_auroc((target[clear] > 2).numpy(), got[clear].numpy())
        assert auroc is not None
        assert auroc > 0.9
