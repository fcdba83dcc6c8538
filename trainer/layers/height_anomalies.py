"""Synthetic dents and stains on normal images, and the error of the depth's encoder on them.

These train the encoder alone: relief in sigma of the sensor's noise and tint in steps of gray, both
known at every cell, as its targets. Anomalies that train a detector's gates or banks are
trainer.synthetic.anomalies'.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from trainer.layers.height import HeightEncoder, enlarged, half

TINT_LEVELS = 12.0  # gray levels of 255 that one unit of tint changes a color by
ANOMALY_WEIGHT = 9.0  # of cells with a synthetic anomaly in the error, for they are few
# Of tint's error beside relief's, which is about ten times as large: without it the encoder would
# hardly learn tint.
TINT_WEIGHT = 8.0
RELIEF_BLOBS, TINT_BLOBS = 5, 3  # per image
RELIEF_LONGEST, TINT_LONGEST = 1.6, 3.0  # largest length over radius, and radius over width


def encoder_error(
    encoder: HeightEncoder,
    height: Tensor,
    foreground: Tensor,
    color: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Error of reconstructed relief and tint, synthetic ones on normal images, over the foreground.

    height, foreground (N, 1, h, w), color (N, 3, finer h, finer w) as the encoder takes them.
    """
    relief = synthetic_relief(foreground, generator)
    stained, strength = synthetic_tint(color, enlarged(foreground, encoder.finer), generator)
    got_relief, got_tint = encoder(height + relief * encoder.sigma, foreground, stained)
    small = functional.avg_pool2d(strength, 2 * encoder.finer)
    on_tint = weighted_error(got_tint, small, half(foreground))
    return weighted_error(got_relief, relief, foreground) + TINT_WEIGHT * on_tint


def weighted_error(got: Tensor, target: Tensor, foreground: Tensor) -> Tensor:
    """Huber's error over the foreground, all (N, 1, h, w): the square of small errors, so that
    faint relief counts beside deep one.
    """
    weight = foreground * (1 + (ANOMALY_WEIGHT - 1) * (target.abs() > 1))
    error = functional.huber_loss(got, target, reduction="none", delta=2.0)
    return (error * weight).sum() / weight.sum().clamp(min=1)


def synthetic_relief(
    foreground: Tensor, generator: torch.Generator, sigmas: tuple[float, float] = (2.5, 16.0)
) -> Tensor:
    """Dents and bumps on the foreground: five per image, one image in four without any.

    Blobs of random size, aspect, turn, outline and steepness, between a plateau and a Gaussian;
    heights of either sign, uniform within `sigmas` of the depth noise. Returns: (N, 1, h, w) in
    sigma.
    """
    relief = torch.zeros_like(foreground)
    for _ in range(RELIEF_BLOBS):
        down = torch.rand(len(foreground), 1, 1, 1, generator=generator) < 0.5  # (N, 1, 1, 1)
        sign = torch.where(down, -1.0, 1.0).to(relief.device)
        relief = relief + sign * _blobs(foreground, generator, sigmas, (2.5, 8.0), RELIEF_LONGEST)
    return relief * foreground * _three_in_four(foreground, generator)


def synthetic_tint(
    color: Tensor,
    foreground: Tensor,
    generator: torch.Generator,
    units: tuple[float, float] = (0.7, 6.0),
) -> tuple[Tensor, Tensor]:
    """Stains and marks on the color image (N, 3, h, w): three per image, each of one random hue,
    none in one of four.

    Returns: the color with them, and their strength (N, 1, h, w) >= 0 in TINT_LEVELS.
    """
    with_any = _three_in_four(foreground, generator)
    strength = torch.zeros_like(foreground)
    for _ in range(TINT_BLOBS):
        blob = _blobs(foreground, generator, units, (1.2, 6.0), TINT_LONGEST)  # (N, 1, h, w)
        blob = blob * foreground * with_any
        hue = 2 * torch.rand(len(color), 3, 1, 1, generator=generator) - 1  # (N, 3, 1, 1)
        hue = (hue / hue.abs().amax(dim=1, keepdim=True)).to(color.device)
        color, strength = color + TINT_LEVELS * blob * hue, strength + blob
    return color.clamp(0, 255), strength


def _three_in_four(foreground: Tensor, generator: torch.Generator) -> Tensor:
    """(N, 1, 1, 1), 1 with chance three in four, else 0."""
    chosen = torch.rand(len(foreground), 1, 1, 1, generator=generator) < 0.75
    return chosen.to(foreground)


def _blobs(
    foreground: Tensor,
    generator: torch.Generator,
    strengths: tuple[float, float],
    radii: tuple[float, float],
    longest: float,
) -> Tensor:
    """One blob per image, centered on the foreground: (N, 1, h, w) >= 0.

    radii: smallest and largest, in cells of a 128-cell image. longest: at most this many times
    longer, and as many times thinner, than a round blob of its radius.
    """
    count, _, height, width = foreground.shape

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    side = max(height, width) / 128
    center = torch.multinomial(foreground.flatten(1).cpu() + 1e-9, 1, generator=generator)  # (N, 1)
    row = torch.div(center, width, rounding_mode="floor")[:, :, None]  # (N, 1, 1)
    column = (center % width)[:, :, None]  # (N, 1, 1)
    turn, stretch = between(0, math.pi), longest ** between(-1.0, 1.0)  # (N, 1, 1) each
    radius = between(*radii) * side
    dy = torch.arange(height)[None, :, None] - row  # (N, h, 1)
    dx = torch.arange(width)[None, None, :] - column  # (N, 1, w)
    along = (dx * turn.cos() + dy * turn.sin()) / (radius * stretch)
    across = (dy * turn.cos() - dx * turn.sin()) / (radius / stretch)
    squared = along * along + across * across  # (N, h, w)
    coarse = torch.randn(count, 1, 16, 16, generator=generator)
    outline = functional.interpolate(coarse, size=(height, width), mode="bilinear")[:, 0]
    plateau = torch.sigmoid(between(4, 16) * (1 - squared.clamp(min=1e-12).sqrt() + 0.25 * outline))
    shape = torch.where(between(0, 1) < 0.5, plateau, torch.exp(-squared))
    return (between(*strengths) * shape)[:, None].to(foreground.device)  # (N, 1, h, w)
