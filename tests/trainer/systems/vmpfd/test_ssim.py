"""SSIM by its definition, window by window, in float64."""

from __future__ import annotations

import numpy as np
import torch

from trainer.systems.vmpfd.ssim import ssim_map


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = 2 * torch.rand(2, 3, 13, 17, generator=generator, dtype=torch.float64) - 1
    second = (
        first + 0.5 * torch.randn(2, 3, 13, 17, generator=generator, dtype=torch.float64)
    ).clamp(-1, 1)
    return first, second


def test_it_is_equation_five_at_every_position() -> None:
    first, second = drawn()
    given = ssim_map(first, second).numpy()
    steps = np.arange(-5, 6)
    window = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    padded = [
        np.pad(image.numpy(), ((0, 0), (0, 0), (5, 5), (5, 5)), mode="reflect")
        for image in (first, second)
    ]
    for number, channel, row, column in np.ndindex(*given.shape):
        x, y = (image[number, channel, row : row + 11, column : column + 11] for image in padded)
        mean_x, mean_y = (window * x).sum(), (window * y).sum()
        variance_x, variance_y = (
            (window * (x - mean_x) ** 2).sum(),
            (window * (y - mean_y) ** 2).sum(),
        )
        covariance = (window * (x - mean_x) * (y - mean_y)).sum()
        wanted = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
        wanted /= (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
        assert abs(given[number, channel, row, column] - wanted) < 1e-9


def test_an_image_is_like_itself_and_unlike_itself_upside_down() -> None:
    first, second = drawn()
    torch.testing.assert_close(ssim_map(first, first), torch.ones_like(first))
    upside_down = ssim_map(first, first.flip(2))
    assert float(upside_down.abs().max()) <= 1
    assert float(upside_down.mean()) < 0.3 < float(ssim_map(first, second).mean())


def test_its_gradient_draws_the_images_together() -> None:
    first, second = drawn()
    moving = second.clone().requires_grad_()
    optimizer = torch.optim.Adam([moving], 0.02)
    before = float(ssim_map(first, second).mean())
    for _ in range(60):
        optimizer.zero_grad()
        (1 - ssim_map(first, moving)).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
    assert float(ssim_map(first, moving.detach()).mean()) > before + 0.5 * (1 - before)
