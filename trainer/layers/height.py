"""The depth modality's encoder: an amplified depth image, in which what does not belong to the part
stands out.

MATS speaks of the depth's "encoded features" and of an anomaly-amplified depth image that is
unshuffled (section 2.2), and names no encoder. Raw heights do not serve: unshuffled cells change
with every pixel by which a part's groove or letter shifts, and a dent of a few sigma drowns in
that. This small U-shaped network sees height, foreground and color around each position and is
trained to tell drawn dents and bumps (`drawn_relief`) and drawn stains (`drawn_tint`) from the
part's own relief and print and from the sensor's noise. Its targets are the relief and the tint
that were added, zero where nothing was: what it gives for a normal part is what it cannot explain,
and no scale of it can grow or vanish without being wrong. Both modalities serve both answers, which
is the amplifier's idea: a groove that the color shows is no dent, a shadow that the height explains
is no stain. Trained on normal images and drawn changes of them, never on defects.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT_SIGMAS = 8.0  # heights enter divided by so many sigma of the sensor's noise
COLOR_MEAN, COLOR_SCALE = 128.0, 64.0
TINT_LEVELS = 12.0  # gray levels of 255 that one unit of tint changes a color by
DRAWN_WEIGHT = 9.0  # of drawn cells in the error, for they are few
# of tint's error beside relief's, which is about ten times as large and else all the encoder learns
TINT_WEIGHT = 8.0
RELIEF_BLOBS, TINT_BLOBS = 5, 3  # drawn per image
RELIEF_LONGEST, TINT_LONGEST = (
    1.6,
    3.0,
)  # length over radius, and radius over width, of the longest that is drawn


class HeightEncoder(nn.Module):
    """Height, foreground and color to the amplified depth image, in sigma of the depth noise.

    Half resolution, then a quarter with dilated 3x3 convolutions (a view of some 70 cells of the
    depth image), and back.

    Args:
        finer: side of the color image over that of the depth image.
        fine: channels at half resolution. coarse: at a quarter. dilations: of the residual
            convolutions there.
    """

    mean: Tensor
    sigma: Tensor

    def __init__(
        self,
        finer: int = 2,
        fine: int = 24,
        coarse: int = 48,
        dilations: tuple[int, ...] = (1, 2, 4, 1),
    ) -> None:
        super().__init__()
        self.finer = finer
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sigma", torch.ones(()))
        # 3x3 cells of unshuffled pixels each, without the transposed copy that unshuffling costs a
        # CPU.
        self.enter = nn.Conv2d(2, fine, kernel_size=3 * 2, stride=2, padding=2)
        self.enter_color = nn.Conv2d(
            3, fine, kernel_size=6 * finer, stride=2 * finer, padding=2 * finer, bias=False
        )
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(coarse, coarse, 3, padding=d, dilation=d),
                nn.BatchNorm2d(coarse),
                nn.ReLU(),
            )
            for d in dilations
        )
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.refine = nn.Conv2d(fine, 16, 3, padding=1)
        self.leave = nn.Conv2d(16, 4 + 1, 1)
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(self, height: Tensor, foreground: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
        """Amplify.

        Args:
            height: (N, 1, h, w) meters over the background. foreground: (N, 1, h, w), 0 or 1.
            color: (N, 3, finer h, finer w), 0..255. h and w multiples of 4.
        Returns: relief (N, 1, h, w) in sigma of the depth noise, 0 outside the foreground, and tint
            (N, 1, h/2, w/2).
        """
        relative = (height - self.mean) * (foreground / (INPUT_SIGMAS * self.sigma))
        depth, shades = torch.cat([relative, foreground], dim=1), (color - COLOR_MEAN) / COLOR_SCALE
        fine = torch.relu(self.enter(depth) + self.enter_color(shades))
        coarse = torch.relu(self.down(fine))
        for block in self.blocks:
            coarse = coarse + block(coarse)
        fine = torch.relu(functional.pixel_shuffle(self.up(coarse), 2) + fine)
        answer = self.leave(torch.relu(self.refine(fine)))
        return functional.pixel_shuffle(answer[:, :4], 2) * foreground, answer[:, 4:] * half(
            foreground
        )

    @torch.no_grad()
    def measure(self, height: Tensor, foreground: Tensor) -> None:
        """Take mean height and noise from normal images (N, 1, h, w).

        The noise is the median absolute second difference along rows, which a smooth relief hardly
        has, over sqrt(6).
        """
        self.mean.copy_((height * foreground).sum() / foreground.sum().clamp(min=1))
        left, middle, right = height[..., :-2], height[..., 1:-1], height[..., 2:]
        inside = foreground[..., :-2] * foreground[..., 1:-1] * foreground[..., 2:] > 0
        bends = (left - 2 * middle + right)[inside].abs()
        if len(bends):
            self.sigma.copy_((1.4826 * bends.median() / math.sqrt(6)).clamp(min=1e-6))


def encoder_error(
    encoder: HeightEncoder,
    height: Tensor,
    foreground: Tensor,
    color: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Error of relief and tint drawn on normal images, over the foreground.

    Drawn cells weigh DRAWN_WEIGHT times, for they are few. Huber's: the square of small errors, so
    that faint relief counts beside deep one. height, foreground (N, 1, h, w), color (N, 3, finer h,
    finer w) as the encoder takes them.
    """
    relief = drawn_relief(foreground, generator)
    stained, strength = drawn_tint(color, enlarged(foreground, encoder.finer), generator)
    got_relief, got_tint = encoder(height + relief * encoder.sigma, foreground, stained)
    small = functional.avg_pool2d(strength, 2 * encoder.finer)
    on_tint = weighted_error(got_tint, small, half(foreground))
    return weighted_error(got_relief, relief, foreground) + TINT_WEIGHT * on_tint


def weighted_error(got: Tensor, drawn: Tensor, foreground: Tensor) -> Tensor:
    """Huber's error over the foreground, all (N, 1, h, w)."""
    weight = foreground * (1 + (DRAWN_WEIGHT - 1) * (drawn.abs() > 1))
    error = functional.huber_loss(got, drawn, reduction="none", delta=2.0)
    return (error * weight).sum() / weight.sum().clamp(min=1)


def half(image: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, h/2, w/2), averaged."""
    return functional.avg_pool2d(image, 2)


def enlarged(image: Tensor, factor: int) -> Tensor:
    """(N, C, h, w) -> (N, C, factor h, factor w), every value repeated."""
    return functional.interpolate(image, scale_factor=factor, mode="nearest")


def drawn_relief(
    foreground: Tensor, generator: torch.Generator, sigmas: tuple[float, float] = (2.5, 16.0)
) -> Tensor:
    """Dents and bumps on the foreground: five per image, one image in four without any.

    Blobs of random size, aspect, turn, outline and steepness, between a plateau and a Gaussian;
    heights of either sign, uniform within `sigmas` of the depth noise. Returns: (N, 1, h, w) in
    sigma.
    """
    relief = torch.zeros_like(foreground)
    for _ in range(RELIEF_BLOBS):
        sign = torch.where(
            torch.rand(len(foreground), 1, 1, 1, generator=generator) < 0.5, -1.0, 1.0
        )
        relief = relief + sign.to(relief.device) * _blobs(
            foreground, generator, sigmas, (2.5, 8.0), RELIEF_LONGEST
        )
    return relief * foreground * _three_in_four(foreground, generator)


def drawn_tint(
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
        blob = (
            _blobs(foreground, generator, units, (1.2, 6.0), TINT_LONGEST) * foreground * with_any
        )
        hue = 2 * torch.rand(len(color), 3, 1, 1, generator=generator) - 1
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
    """One blob per image, centered on the foreground: (N, 1, h, w) >= 0, `radii` in cells of a
    128-cell image.

    It is `longest` times longer at most, and as many times thinner, than a round one of its radius.
    """
    count, _, height, width = foreground.shape

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    side = max(height, width) / 128
    center = torch.multinomial(foreground.flatten(1).cpu() + 1e-9, 1, generator=generator)
    row, column = (
        torch.div(center, width, rounding_mode="floor")[:, :, None],
        (center % width)[:, :, None],
    )
    turn, stretch, radius = (
        between(0, math.pi),
        longest ** between(-1.0, 1.0),
        between(*radii) * side,
    )
    dy, dx = torch.arange(height)[None, :, None] - row, torch.arange(width)[None, None, :] - column
    along = (dx * turn.cos() + dy * turn.sin()) / (radius * stretch)
    across = (dy * turn.cos() - dx * turn.sin()) / (radius / stretch)
    squared = along * along + across * across
    coarse = torch.randn(count, 1, 16, 16, generator=generator)
    outline = functional.interpolate(
        coarse, size=(height, width), mode="bilinear", align_corners=False
    )[:, 0]
    plateau = torch.sigmoid(between(4, 16) * (1 - squared.clamp(min=1e-12).sqrt() + 0.25 * outline))
    shape = torch.where(between(0, 1) < 0.5, plateau, torch.exp(-squared))
    return (between(*strengths) * shape)[:, None].to(foreground.device)
